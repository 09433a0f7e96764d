"""Which plots a group gets: its scores, its samples beside the real data, its labels."""

import math
from collections.abc import Sequence

import numpy as np

from ..terms import best_way, direction, metric_title, number
from . import plots
from .clouds import Shown
from .figures import Figure, Panel
from .images import image_figure, short_names
from .plots import Array
from .records import Entry, Group
from .scores import floor, score
from .signals import signal_figures
from .tabular import table_figures


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


def sample_figures(data: Shown, alike: Sequence[Shown] = ()) -> list[Figure]:
    """Samples of every method beside the real data, drawn as suits their shape; tables on one frame with those `alike`."""
    if len(data.shape) == 1:
        return table_figures(data, [data, *(d for d in alike if d is not data and d.shape == data.shape)])
    return [image_figure(data)] if len(data.shape) == 3 else signal_figures(data)


def label_figure(data: Shown) -> Figure | None:
    """How often samples carry each label, against the held-out target; None without labels. Methods with equal shares have one plot."""
    if data.test.y is None:
        return None
    n = max(int(y.max()) + 1 if y.ndim == 1 else y.shape[1] for _, _, c in data.everything if (y := c.y) is not None)
    names, told = short_names(range(n), data.classes(n))
    real = _shares(data.test.y, n)
    drawn: dict[tuple[float, ...], list[Entry]] = {}
    for e, c in data.methods:
        if c.y is not None and c.y.ndim == data.test.y.ndim:
            drawn.setdefault(tuple(_shares(c.y, n)), []).append(e)
    panels = []
    for shares, entries in drawn.items():
        title = ", ".join(e.name for e in entries) if len(entries) < len(data.methods) or len(entries) == 1 else "all methods"
        style = entries[0].style if len(entries) == 1 else ""
        panels.append(Panel(plots.bars(names, shares, real, f"Shares of labels, {title} against held-out target"), title, style))
    return Figure(f"Labels that samples were drawn for: bars, samples; lines, held-out target data. {told}".strip(), panels) if panels else None


def _shares(y: Array, n: int) -> list[float]:
    counts = np.bincount(y[y >= 0].astype(int), minlength=n) if y.ndim == 1 else np.clip(y, 0, None).sum(0)
    return [float(c) / max(1, len(y)) for c in counts]
