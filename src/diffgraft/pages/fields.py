"""Landscapes over the plane, learned beside exact: `fields/<id>.npz` of a run folder as pairs of heat maps.

A file holds `x` (G,), `y` (G,), and `learned`, `exact` (G, G) with the value at (x[j], y[i]) in row i and column j; a
`title`; and points `source`, `target` (n, 2) where there are some. Its name is the id of a record, or begins with it; a
name that begins with a task's label and size belongs to that task.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..terms import number
from . import rasters
from .figures import Figure, Panel
from .plots import Array
from .records import Entry, Group, Run

POINTS = 300
"""Most points of a domain that are drawn over a map."""
SHARE = 99
"""The scale ends at this percentile of the exact values' sizes; what lies beyond is drawn at its ends."""


@dataclass(frozen=True)
class Field:
    """One file: axes, both landscapes, and points over them."""

    x: Array
    y: Array
    learned: Array
    exact: Array
    title: str
    source: Array | None
    target: Array | None


def load_field(path: Path) -> Field | None:
    """A field; None where the file is damaged or its shapes do not fit."""
    try:
        with np.load(path, allow_pickle=False) as file:
            x, y, learned, exact = (np.asarray(file[key], dtype=float) for key in ("x", "y", "learned", "exact"))
            title = str(file["title"]) if "title" in file.files else path.stem
            clouds = [np.asarray(file[key], dtype=float) if key in file.files else None for key in ("source", "target")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = x.ndim == y.ndim == 1 and min(len(x), len(y)) > 1 and learned.shape == exact.shape == (len(y), len(x))
    grown = all(np.isfinite(a).all() and (np.diff(a) > 0).all() for a in (x, y))
    flat = all(c is None or (c.ndim == 2 and c.shape[1] == 2) for c in clouds)
    return Field(x, y, learned, exact, title, *clouds) if fits and grown and flat else None


def field_figures(run: Run, group: Group) -> list[Figure]:
    """The fields of a group; of a method's, those of its first seed that has any."""
    stems = {path.stem: path for path in sorted((run.folder / "fields").glob("*.npz"))}
    chosen: list[tuple[Path, Entry | None]] = []
    for e in group.entries:
        by_seed = [[path for stem, path in stems.items() if _belongs(stem, str(r["id"]))] for r in e.records.values()]
        chosen += [(path, e) for path in next(filter(None, by_seed), [])]
        for paths in by_seed:
            for path in paths:
                del stems[path.stem]
    chosen += [(path, None) for stem, path in stems.items() if stem.startswith(f"{group.label}-n{group.n_target}-")]
    found = [(load_field(path), e) for path, e in chosen]
    return [figure(field, e) for field, e in found if field]


def _belongs(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}-")


def figure(field: Field, entry: Entry | None = None) -> Figure:
    """Learned and exact side by side on one scale, and how far apart they are."""
    sizes = np.abs(field.exact[np.isfinite(field.exact)])
    limit = float(np.percentile(sizes, SHARE)) if sizes.size and sizes.max() > 0 else 1.0
    clouds = [("source-dots", field.source), ("target-dots", field.target)]
    points = [(kind, cloud[:POINTS]) for kind, cloud in clouds if cloud is not None]
    titles = (("learned", f"{entry.name}, learned" if entry else "learned", entry.style if entry else ""), ("exact", "exact", ""))
    panels = []
    for values, (name, title, style) in zip((field.learned, field.exact), titles, strict=True):
        finite = values[np.isfinite(values)]
        alt = f"Map of {field.title}, {name}, mean {number(float(finite.mean()) if finite.size else None)}"
        panels.append(Panel(rasters.heat(values, field.x, field.y, limit, points, alt), title, style))
    return Figure(words(field, limit), panels, "wide", scale=rasters.colour_scale(limit, f"Colours from {number(-limit)} to {number(limit)}"))


def words(field: Field, limit: float) -> str:
    """What a pair of maps shows."""
    both = np.isfinite(field.learned) & np.isfinite(field.exact)
    gap = float(np.abs(field.learned - field.exact)[both].mean()) if both.any() else float("nan")
    exact = field.exact[np.isfinite(field.exact)]
    span = f", where the exact values run from {number(float(exact.min()))} to {number(float(exact.max()))}" if exact.size else ""
    beyond = float((np.abs(field.learned) > limit).mean())
    cut = f" {100 * beyond:.0f} % of the learned values lie beyond the colour scale and are drawn at its ends." if beyond >= 0.02 else ""
    holes = "" if both.all() else " Grey: not a finite number."
    dots = [f"{size} dots: {name} points" for name, size, a in (("source", "small", field.source), ("target", "large", field.target)) if a is not None]
    legend = f" {'; '.join(dots).capitalize()}." if dots else ""
    return f"{field.title}. Mean absolute difference of learned and exact over the frame: {number(gap)}{span}.{cut}{holes}{legend}"
