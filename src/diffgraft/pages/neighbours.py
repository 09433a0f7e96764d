"""How near samples lie to the training points: distances of every method, and its samples that come closest.

Distances are root mean square differences of a number of a sample, in units of the standard deviation of the held-out
target data: of each feature of a table, of each channel of a signal or image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..terms import number
from . import plots
from .clouds import Cloud, Shown
from .figures import Figure, Panel, sized
from .images import BYTES, Pixels
from .plots import Array
from .signals import BYTES as SIGNAL_BYTES
from .signals import SYNTHETIC, drawing

POINTS = 2000
"""Most points of a cloud that are compared, with all points of another, as many at a time."""
NUMBERS = 4_000_000
"""Most numbers of a cloud that are compared: points times features."""
CLOSEST = 8
"""Samples of each method that are marked or shown."""
STRIPS = 4
"""Most closest signals of each method that are drawn."""
REACH = (1.5, 3.0)
"""A plot reaches at least and at most so many times as far as the held-out points do, but for the farthest in a hundred."""


@dataclass(frozen=True)
class Nearest:
    """Points of a cloud and their nearest neighbours.

    Args:
        rows: Which points of the cloud these are (n,).
        at: Row of the nearest neighbour of each (n,).
        gap: Its distance (n,).
    """

    rows: NDArray[np.int_]
    at: NDArray[np.int_]
    gap: Array

    def closest(self) -> "Nearest":
        """The few that are nearest, in that order."""
        order = np.argsort(self.gap, kind="stable")[:CLOSEST]
        return Nearest(self.rows[order], self.at[order], self.gap[order])


class Ruler:
    """Measures distances in units of reference data.

    Args:
        reference: Held-out target data.
    """

    def __init__(self, reference: Cloud) -> None:
        shape = reference.x.shape[1:]
        points = reference.finite.reshape(-1, *shape).astype(np.float64)
        points = points if len(points) > 1 else np.zeros((2, *shape))
        over = (0,) if len(shape) == 1 else (0, *range(2, points.ndim))
        scale = points.std(over)
        known = scale > 1e-6 * np.abs(points).max(over)  # a constant's is rounding
        self.centre = points.mean(0).ravel()
        self.scale = np.repeat(np.where(known, scale, 1.0), int(np.prod(shape)) // shape[0]) * np.sqrt(self.centre.size)
        self.most = max(CLOSEST, min(POINTS, NUMBERS // self.centre.size))

    def nearest(self, cloud: Cloud, others: Cloud) -> Nearest:
        """The nearest neighbour of each of the first finite points of a cloud among all others."""
        rows = _finite(cloud)[: self.most]
        x, among = self._units(cloud, rows), _finite(others)
        if not len(among):
            return Nearest(rows[:0], rows[:0], np.zeros(0))
        at, gap = np.zeros(len(rows), np.int_), np.full(len(rows), np.inf)
        for k in range(0, len(among), self.most):
            part = among[k : k + self.most]
            z = self._units(others, part)
            best = np.argmin((z**2).sum(1) - 2 * x @ z.T, axis=1)
            found = np.sqrt(((x - z[best]) ** 2).sum(1))
            at, gap = np.where(found < gap, part[best], at), np.minimum(found, gap)
        return Nearest(rows, at, gap)

    def _units(self, cloud: Cloud, rows: NDArray[np.int_]) -> Array:
        """Points (n, D) in units of distance."""
        return (cloud.x[rows].reshape(len(rows), self.centre.size).astype(np.float64) - self.centre) / self.scale


def _finite(cloud: Cloud) -> NDArray[np.int_]:
    """Rows of the finite points of a cloud, (n,)."""
    return np.flatnonzero(np.isfinite(cloud.x).all(axis=tuple(range(1, cloud.x.ndim))))


def neighbour_figures(data: Shown) -> list[Figure]:
    """Distances to the nearest training points; of images and signals, also the closest ones with what they are close to."""
    if "target" not in data.parts or not data.methods:
        return []
    ruler, train = Ruler(data.test), data.parts["target"]
    own = ruler.nearest(data.test, train).gap
    found = [ruler.nearest(c, train) for _, c in data.methods]
    if not own.size:
        return []
    figures = [_distances(data, own, found)]
    closest = {2: _closest_signals, 3: _closest}.get(len(data.shape))
    return [*figures, closest(data, ruler, found)] if closest else figures


def _distances(data: Shown, own: Array, found: list[Nearest]) -> Figure:
    """One histogram a method, on one scale, over that of held-out points."""
    whole = float(np.percentile(own, 99)) or 1.0
    farthest = float(np.percentile(np.concatenate([own, *(f.gap for f in found)]), 95))
    reach = (0.0, min(max(REACH[0] * whole, farthest), REACH[1] * whole))
    panels = []
    for (e, _), f in zip(data.methods, found, strict=True):
        note = f"median {number(float(np.median(f.gap)))}, closest {number(float(f.gap.min()))}" if f.gap.size else "no finite sample"
        plot = plots.histogram(own, [(e.style, f.gap)], reach, f"Distances of {e.name} to the nearest training point, {note}", ticks=f.closest().gap)
        panels.append(Panel(plot, e.name, e.style, note))
    caption = (
        f"Distance of samples to the nearest training point (seed {data.seed}; lines, with the {CLOSEST} closest as ticks). Filled: that of held-out target "
        f"points, with median {number(float(np.median(own)))} and closest {number(float(own.min()))}. Much nearer than held-out points are, at the left, lies "
        f"what a model has memorised. Unit: {_unit(data)}, as a root mean square over a sample's numbers."
    )
    return Figure(caption, panels, sized("small", len(panels)))


def _unit(data: Shown) -> str:
    each = {1: "of the feature", 2: "of the channel", 3: "of pixels"}[len(data.shape)]
    return f"the standard deviation {each} in held-out target data"


def _closest(data: Shown, ruler: Ruler, found: list[Nearest]) -> Figure:
    """Of each method: samples, the nearest training image, the nearest held-out image, one below the other."""
    picture, train, test = Pixels(data.test.x), data.parts["target"], data.test
    n = max(3, min(CLOSEST, BYTES // (6 * data.test.x[0].size * len(found))))
    panels = []
    for (e, cloud), f in zip(data.methods, found, strict=True):
        near = f.closest()
        rows = near.rows[:n]
        if not len(rows):
            continue
        picked = Cloud(cloud.x[rows])
        x = np.concatenate([picked.x, train.x[near.at[:n]], test.x[ruler.nearest(picked, test).at]])
        heads = [number(float(g), 2) for g in near.gap[:n]]
        alt = f"The {len(rows)} samples of {e.name} closest to a training image, that image, and the nearest held-out one"
        panels.append(Panel(picture.mosaic(x, np.arange(3 * len(rows)).reshape(3, -1), heads, alt), e.name, e.style))
    caption = (
        "Top: the samples of each method that lie closest to a training image, with their distance. Middle: that training image. Bottom: the nearest held-out "
        "target image. These are extremes, not typical samples; where top and middle are the same image and the bottom is not, it was memorised."
    )
    return Figure(caption, panels, "samples images", title="The closest samples")


def _closest_signals(data: Shown, ruler: Ruler, found: list[Nearest]) -> Figure:
    """Of each method: samples, each with the nearest training signal and the nearest held-out one over each other."""
    draw, train, test = drawing(data), data.parts["target"], data.test
    n = max(1, min(STRIPS, SIGNAL_BYTES // (18 * data.shape[1] * len(found))))
    panels = []
    for (e, cloud), f in zip(data.methods, found, strict=True):
        near = f.closest()
        rows = near.rows[:n]
        held_out = ruler.nearest(Cloud(cloud.x[rows]), test).at
        strips = [
            (number(float(gap), 2), [("near-sample", cloud.x[k]), ("near-train", train.x[t]), ("near-test", test.x[h])])
            for gap, h, t, k in zip(near.gap[:n], held_out, near.at[:n], rows, strict=True)
        ]
        alt = f"The {len(rows)} samples of {e.name} closest to a training signal, with that signal and the nearest held-out one"
        panels += [Panel(draw.overlaid(strips, alt, SYNTHETIC if data.synthetic else ""), e.name, e.style)] if strips else []
    caption = (
        f"The samples of each method that lie closest to a training signal, with their distance: bold, the sample; dashed, that training signal; dotted, the "
        f"nearest held-out target one. {draw.told_of_strips} These are extremes, not typical samples; where bold and dashed are the same line and dotted is "
        f"another, the signal was memorised."
    )
    return Figure(caption, panels, f"{draw.size} strips", title="The closest samples")
