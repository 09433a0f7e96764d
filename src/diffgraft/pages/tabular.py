"""Tables, drawn: scatters of pairs of features, and the distribution of each feature, of real data and every method."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..terms import count, number
from . import plots
from .clouds import Cloud, Shown, pooled
from .figures import MANY, Figure, Panel, sized
from .plots import Array
from .records import Entry

MARGINALS, FEWEST = 12, 4
"""Features whose distribution is shown: of few methods, and at least, of many."""
PAIRED = 3
"""Features of which every pair is drawn."""
POINTS = 1500
"""Most points in a scatter."""
DOTS = 15_000
"""Most points in all scatters of a figure together, which keeps a page of many methods small."""
MIDDLE = 99.0
"""Plots of tables reach over this share of the real data, in percent, and somewhat beyond."""


def table_figures(data: Shown, alike: Sequence[Shown]) -> list[Figure]:
    """Scatters of the plane, or of pairs of features, then marginals; features and frames are the same for all sizes of a task.

    Args:
        data: What to draw.
        alike: The samples of the same task at every size, `data` among them.
    """
    order, gaps = ranked(data, alike)
    return [*_scatters(data, alike, order, bool(gaps)), *_marginals(data, alike, order, gaps)]


def ranked(data: Shown, alike: Sequence[Shown]) -> tuple[list[int], dict[int, float]]:
    """Features, those first in which held-out target and source data differ most; and that distance, empty without source data."""
    target, source = pooled(alike, "test"), pooled(alike, "source")
    features = list(range(data.shape[0]))
    if target is None or source is None or not len(target) or not len(source):
        return features, {}
    gaps = {k: distance(target[:, k], source[:, k]) for k in features}
    return sorted(features, key=lambda k: -gaps[k]), gaps


def distance(a: Array, b: Array) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between two distribution functions, from 0 to 1.

    >>> distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    return float(np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)).max())


def _scatters(data: Shown, alike: Sequence[Shown], order: list[int], told: bool) -> list[Figure]:
    """One figure of the plane, or one a pair of features, the caption below the last."""
    caption = f"Real data, then samples of each method (seed {data.seed}), on the same axes for every size of this task."
    if len(order) == 2:
        return [Figure(caption, _dots(data, (0, 1), _frame(alike, 0), _frame(alike, 1)), sized("samples", len(data.methods)))]
    pairs = list(combinations(order[:PAIRED], 2))
    chosen = " in which held-out target and source data differ most" if told and len(order) > PAIRED else ""
    figures = []
    for k, (i, j) in enumerate(pairs, 1):
        title = f"{data.feature(j)} (up) against {data.feature(i)} (across)"
        panels = _dots(data, (i, j), _frame(alike, i, MIDDLE), _frame(alike, j, MIDDLE), title)
        figures.append(Figure(f"{caption} Pairs of the {PAIRED} features{chosen}." if k == len(pairs) else "", panels, "samples many", title=title))
    return figures


def _dots(data: Shown, features: tuple[int, int], across: tuple[float, float], up: tuple[float, float], title: str = "") -> list[Panel]:
    """Two features of real data and of each method, on the same axes."""
    most = POINTS if data.shape == (2,) else min(POINTS, DOTS // len(data.everything))
    panels = []
    for name, style, cloud in data.everything:
        points = cloud.x[:most, list(features)]
        outside = len(points) - int(plots.within(points, across, up).sum())
        note = count(len(points), "point") + (f", {outside} outside{'' if title else ' the frame'}" if outside else "")
        panels.append(Panel(plots.scatter(points, across, up, f"Scatter of {name}, {note}" + (f": {title}" if title else "")), name, style, note))
    return panels


def _marginals(data: Shown, alike: Sequence[Shown], order: list[int], gaps: dict[int, float]) -> list[Figure]:
    """One figure for a few methods, several where one would hold too many lines."""
    batches = max(1, -(-len(data.methods) // MANY))
    size = max(1, -(-len(data.methods) // batches))
    parts = [data.methods[k : k + size] for k in range(0, len(data.methods), size)] or [[]]
    drawn = order[: max(FEWEST, MARGINALS // batches)]
    caption = _marginals_caption(data.seed, len(drawn), len(order), bool(gaps))
    figures = []
    for k, part in enumerate(parts, 1):
        panels = [_marginal(data, part, j, _frame(alike, j, MIDDLE), gaps.get(j)) for j in drawn]
        title = f"Distributions, {part[0][0].name} to {part[-1][0].name}" if len(parts) > 1 else "Distributions" if len(order) > 1 else ""
        figures.append(Figure(caption if k == len(parts) else "", panels, keys=[e for e, _ in part], title=title))
    return figures


def _marginals_caption(seed: int, drawn: int, of: int, told: bool) -> str:
    some = f"{drawn} of {of} features" if drawn < of else "the features" if of > 1 else "the feature"
    first = ", those first in which held-out target and source data differ most" if told and of > 1 else ""
    measure = "Below each name stands the Kolmogorov-Smirnov distance of target and source, from 0 to 1."
    lines = f"lines: samples, and in grey source data. {measure}" if told else "lines: samples."
    return f"Distribution of {some}{first} (seed {seed}). Filled: held-out target data; {lines}"


def _marginal(data: Shown, methods: Sequence[tuple[Entry, Cloud]], k: int, frame: tuple[float, float], gap: float | None) -> Panel:
    clouds = [("source-line", data.parts["source"].x[:, k])] if gap is not None and "source" in data.parts else []
    clouds += [(e.style, c.x[:, k]) for e, c in methods]
    name = data.feature(k)
    note = "" if gap is None else f"target from source: {number(gap, 2)}"
    return Panel(plots.histogram(data.test.x[:, k], clouds, frame, f"Distribution of {name}"), name, note=note)


def _frame(alike: Sequence[Shown], k: int, middle: float = 100.0) -> tuple[float, float]:
    """A range that holds the real data's middle part of a feature, with a margin."""
    values = np.concatenate([a[:, k] for part in ("source", "target", "test") if (a := pooled(alike, part)) is not None])
    if middle < 100 and len(values):
        cut = int(np.ceil((100 - middle) / 200 * (len(values) - 1)))
        values = np.sort(values)[[cut, len(values) - 1 - cut]]
    return plots.span(values, 0.1)
