"""Which plots a group gets: its scores, its samples beside the real data, its labels."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from . import plots, rasters
from .glossary import best_way, count, direction, metric_title, number
from .plots import Array
from .records import Entry, Group, Run
from .scores import floor, score

POINTS = 1500
"""Most points in a scatter."""
MANY = 6
"""More methods than this get smaller scatters."""
FEATURES = 4
"""Features whose distribution is shown, and signals drawn."""
ROWS, COLUMNS = 5, 8
"""Images shown: rows, and columns where there are no labels."""
MOST_LABELS = 12
"""Most labels that get a column of images each."""
DATA = (("source", "source data"), ("target", "training target"), ("test", "held-out target"))
"""Real data of a run folder: their file's ending, and how plots call them."""


@dataclass(frozen=True)
class Cloud:
    """Points of a file: `x` (n, *) and labels `y`, (n,) or (n, K), or None."""

    x: Array
    y: Array | None


@dataclass(frozen=True)
class Panel:
    """One plot with its title; `style` is its method's, empty for data."""

    plot: Markup
    title: str
    style: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """Plots that belong together.

    Args:
        caption: What they show.
        panels: The plots.
        size: "small"; "samples" where real data and methods each begin a line, "samples many" and "samples images" for
            smaller and larger ones; or "wide" for plots with names in them.
        keys: Methods whose colours the plots use, where titles don't tell.
        scale: What colours of a map mean.
    """

    caption: str
    panels: list[Panel]
    size: str = "small"
    keys: Sequence[Entry] = ()
    scale: Markup | None = None


@dataclass(frozen=True)
class Shown:
    """The point clouds of one group and seed: real data first, then the methods'."""

    seed: int
    test: Cloud
    real: list[tuple[str, Cloud]]
    methods: list[tuple[Entry, Cloud]]
    lacking: list[str]

    @property
    def everything(self) -> list[tuple[str, str, Cloud]]:
        """Title, style and cloud of each."""
        return [*((name, "", c) for name, c in self.real), *((e.name, e.style, c) for e, c in self.methods)]


def load(path: Path) -> Cloud | None:
    """A sample file; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            x = np.asarray(file["X"], dtype=np.float32)
            return Cloud(x, file["y"] if "y" in file.files else None) if x.ndim > 1 and len(x) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def shown(run: Run, group: Group) -> Shown | None:
    """The clouds of the first seed whose held-out data are there; None without them."""
    folder = run.folder / "samples"
    for seed in group.seeds:
        stem = f"{group.label}-n{group.n_target}-s{seed}"
        parts = [(title, load(folder / f"{stem}-{part}.npz")) for part, title in DATA]
        test = parts[-1][1]
        if test is None:
            continue
        found = [(e, load(folder / f"{e.records[seed]['id']}.npz")) for e in group.entries if seed in e.records]
        methods = [(e, c) for e, c in found if c is not None and c.x.shape[1:] == test.x.shape[1:]]
        real = [(title, c) for title, c in parts if c is not None and c.x.shape[1:] == test.x.shape[1:]]
        return Shown(seed, test, real, methods, [e.name for e in group.entries if e not in [m for m, _ in methods]])
    return None


def score_figure(group: Group) -> Figure:
    """One plot a metric: every method's scores and the floor."""
    panels = []
    for metric in group.metrics:
        base = floor(group, metric)
        rows = [(e.name, e.style, list(e.values(metric).values()), score(e, metric)) for e in group.entries if e.values(metric)]
        told = "; ".join(f"{name} {number(m)}" for name, _, _, m in rows)
        alt = f"{metric_title(metric)} by method: {told}; floor {number(base)}"
        drawn = base if math.isfinite(base) and (base > 0 or best_way(metric) != "low") else None
        panels.append(Panel(plots.dots(rows, drawn, alt), metric_title(metric), note=direction(metric)))
    seeds = "a dot a seed, the bar their mean" if len(group.seeds) > 1 else "one seed"
    return Figure(f"Scores by method ({seeds}). Dashed: the floor, what real data score. Scales are logarithmic where values differ much.", panels, "wide")


def common_frame(found: Sequence[Shown]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges that hold the real data of all these, for points in the plane."""
    pooled = np.concatenate([c.x for data in found for _, c in data.real])
    return plots.span(pooled[:, 0], 0.1), plots.span(pooled[:, 1], 0.1)


def sample_figure(data: Shown, alike: Sequence[Shown] = ()) -> Figure:
    """Samples of every method beside the real data, drawn as suits their shape; scatters on one frame with those `alike`."""
    shape = data.test.x.shape[1:]
    if shape == (2,):
        return _scatters(data, *common_frame([data, *(d for d in alike if d.test.x.shape[1:] == shape)]))
    if len(shape) == 3:
        return _images(data)
    return _traces(data) if len(shape) == 2 else _histograms(data)


def _scatters(data: Shown, across: tuple[float, float], up: tuple[float, float]) -> Figure:
    panels = []
    for title, style, cloud in data.everything:
        points = cloud.x[:POINTS]
        outside = len(points) - int(plots.within(points, across, up).sum())
        note = count(len(points), "point") + (f", {outside} of them outside the frame" if outside else "")
        panels.append(Panel(plots.scatter(points, across, up, f"Scatter of {title}, {note}"), title, style, note))
    size = "samples many" if len(data.methods) > MANY else "samples"
    return Figure(f"Real data, then samples of each method (seed {data.seed}), on the same axes for every size of this task.", panels, size)


def _images(data: Shown) -> Figure:
    labels = _classes(data)
    low, high = (float(v) for v in np.percentile(data.test.x, (0, 100)))
    panels = []
    for title, style, cloud in data.everything:
        rows = _by_label(cloud, labels) if labels else np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        there = (rows >= 0) & (rows < len(cloud.x))
        pixels = cloud.x[np.where(there, rows, 0)][:, :, [0, 1, 2] if cloud.x.shape[1] == 3 else [0, 0, 0]]
        grey = np.nan_to_num(np.clip((pixels - low) / (high - low or 1), 0, 1) * 255).astype(np.uint8)
        alt = f"{int(there.sum())} images of {title}"
        panels.append(Panel(rasters.mosaic(grey.transpose(0, 1, 3, 4, 2), there, [str(k) for k in labels], alt), title, style))
    order = f"a column a label, the first {ROWS} of each; a blank means that there are no more" if labels else f"the first {ROWS * COLUMNS}"
    return Figure(
        f"Real images, then samples of each method (seed {data.seed}): {order}. Grey levels are the held-out images' range.", panels, "samples images"
    )


def _classes(data: Shown) -> list[int]:
    """The classes, where each can have a column; none for unlabelled or multi-hot data."""
    found = [c.y for _, _, c in data.everything]
    if any(y is None or y.ndim != 1 for y in found):
        return []
    classes = sorted({int(k) for y in found if y is not None for k in np.unique(y) if k >= 0})
    return classes if len(classes) <= MOST_LABELS else []


def _by_label(cloud: Cloud, labels: list[int]) -> Array:
    """Row indices (ROWS, labels) of the first images of each label; -1 where there are no more."""
    rows = np.full((ROWS, len(labels)), -1)
    for k, label in enumerate(labels):
        found = np.flatnonzero(cloud.y == label)[:ROWS]
        rows[: len(found), k] = found
    return rows


def _traces(data: Shown) -> Figure:
    scale = plots.span(data.test.x[:FEATURES, 0], 0.1)
    panels = [
        Panel(plots.traces(c.x[:FEATURES, 0], scale, f"{FEATURES} signals of {title}, first channel"), title, style) for title, style, c in data.everything
    ]
    return Figure(f"First channel of {FEATURES} real signals, then of {FEATURES} samples of each method, on one scale (seed {data.seed}).", panels, "samples")


def _histograms(data: Shown) -> Figure:
    panels = []
    for k in range(min(FEATURES, data.test.x.shape[1])):
        x_range = plots.span(data.test.x[:, k], 0.15)
        clouds = [(e.style, c.x[:, k]) for e, c in data.methods]
        panels.append(Panel(plots.histogram(data.test.x[:, k], clouds, x_range, f"Distribution of feature {k + 1}"), f"feature {k + 1}"))
    some = "first features" if data.test.x.shape[1] > FEATURES else "features"
    return Figure(
        f"Distribution of the {some} (seed {data.seed}): filled, held-out target data; lines, samples.", panels, "wide", keys=[e for e, _ in data.methods]
    )


def label_figure(data: Shown) -> Figure | None:
    """How often samples carry each label, against the held-out target; None without labels. Methods with equal shares have one plot."""
    if data.test.y is None:
        return None
    names = _label_names([c.y for _, _, c in data.everything if c.y is not None])
    real = _shares(data.test.y, len(names))
    drawn: dict[tuple[float, ...], list[Entry]] = {}
    for e, c in data.methods:
        if c.y is not None and c.y.ndim == data.test.y.ndim:
            drawn.setdefault(tuple(_shares(c.y, len(names))), []).append(e)
    panels = []
    for shares, entries in drawn.items():
        title = ", ".join(e.name for e in entries) if len(entries) < len(data.methods) or len(entries) == 1 else "all methods"
        style = entries[0].style if len(entries) == 1 else ""
        panels.append(Panel(plots.bars(names, shares, real, f"Shares of labels, {title} against held-out target"), title, style))
    return Figure("Labels that samples were drawn for: bars, samples; lines, held-out target data.", panels) if panels else None


def _label_names(labels: list[Array]) -> list[str]:
    return [str(k) for k in range(max(int(y.max()) + 1 if y.ndim == 1 else y.shape[1] for y in labels))]


def _shares(y: Array, n: int) -> list[float]:
    counts = np.bincount(y[y >= 0].astype(int), minlength=n) if y.ndim == 1 else np.clip(y, 0, None).sum(0)
    return [float(c) / max(1, len(y)) for c in counts]
