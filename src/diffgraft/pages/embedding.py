"""A map of features: `fields/<task>-n<size>-embedding.npz` of a run folder as a panel a method, all on the same axes.

A file holds `points` (n, 2), the place `cloud` (n,) of each point's cloud in `names` (k,), which are ids of records, or end in -test and
-source; `perplexity`, the number of features `n_features`, and what they are, `features`.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..terms import count
from . import plots
from .figures import MANY, Figure, Panel
from .plots import Array
from .records import Group, Run

DATA = {"source": "source-points", "test": "target-points"}
"""Data behind each panel, by the ending of their name, and their style."""


@dataclass(frozen=True)
class Map:
    """One file: the points of each cloud, and how they came to lie there."""

    clouds: dict[str, Array]
    perplexity: float
    n_features: int
    features: str

    @property
    def n(self) -> int:
        """How many points."""
        return sum(map(len, self.clouds.values()))


def load_map(path: Path) -> Map | None:
    """A map; None where the file is missing or damaged or its shapes do not fit."""
    try:
        with np.load(path, allow_pickle=False) as file:
            points, cloud, names = np.asarray(file["points"], dtype=float), file["cloud"], [str(name) for name in file["names"]]
            facts = float(file["perplexity"]), int(file["n_features"]), str(file["features"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    if points.ndim != 2 or points.shape[1] != 2 or cloud.shape != (len(points),) or not np.isfinite(points).all():
        return None
    return Map({name: points[cloud == k] for k, name in enumerate(names)}, *facts)


def map_figure(run: Run, group: Group) -> Figure | None:
    """The map of a group; None without a file that fits."""
    found = load_map(run.folder / "fields" / f"{group.label}-n{group.n_target}-embedding.npz")
    if found is None or not found.n:
        return None
    every = np.concatenate(list(found.clouds.values()))
    ranges = plots.span(every[:, 0]), plots.span(every[:, 1])
    behind = [(style, a) for part, style in DATA.items() for name, a in found.clouds.items() if name.endswith(f"-{part}")]
    drawn = [(e, seed, found.clouds[r["id"]]) for e in group.entries for seed, r in e.records.items() if r["id"] in found.clouds]
    panels = []
    for e, _, own in drawn:
        alt = f"Map of features, {count(len(own), 'sample')} of {e.name} over real data"
        panels.append(Panel(plots.overlaid([*behind, ("own-points", own)], *ranges, alt), e.name, e.style))
    return Figure(words(found, drawn[0][1]), panels, "wide" if len(panels) <= MANY else "small many") if drawn else None


def words(found: Map, seed: int) -> str:
    """What a map shows."""
    n = {part: sum(len(a) for name, a in found.clouds.items() if name.endswith(f"-{part}")) for part in DATA}
    data = [f"{n[part]:,} {what}" for part, what in (("test", "held-out target points (dark)"), ("source", "source points (pale)")) if n[part]]
    return (
        f"t-SNE map of features, {found.n:,} points in all, laid out together at perplexity {found.perplexity:g}: in each panel the samples of one method "
        f"(coloured, seed {seed}) over {' and '.join(data)}; all panels share their axes. Features: {found.features}; {found.n_features:,} numbers a "
        "sample. Near points have like features. How far apart groups lie, and how wide they are, means little on such a map, and its axes mean nothing."
    )
