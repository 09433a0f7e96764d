"""Tables of a group: scores with their floor, ratios to a reference method, costs. The page and the terminal show the same cells."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from .glossary import best_way, direction, has_ratios, metric_title, number
from .records import Entry, Group
from .scores import Ratio, best, floor, mean, ratio, reference, score, spread


@dataclass(frozen=True)
class Column:
    """A column's id, its title and a note below it."""

    id: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Args:
        text: As a reader sees it.
        value: The number itself, where there is one.
        spread: Plus or minus what, over seeds.
        best: Better than every other method beyond noise.
        at_floor: No worse than real data.
    """

    text: str
    value: float | None = None
    spread: str = ""
    best: bool = False
    at_floor: bool = False


@dataclass(frozen=True)
class Row:
    """A row: its name, the style of its method (None for the floor), a note and its cells."""

    name: str
    style: str | None
    note: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Columns and rows."""

    columns: list[Column]
    rows: list[Row] = field(default_factory=list)

    def slices(self, width: int) -> "list[Table]":
        """The table cut into tables of at most so many columns, as equal as can be."""
        parts = max(1, math.ceil(len(self.columns) / width))
        size = max(1, math.ceil(len(self.columns) / parts))
        return [self.part(k, k + size) for k in range(0, len(self.columns), size)]

    def part(self, start: int, stop: int) -> "Table":
        """Some of its columns."""
        return Table(self.columns[start:stop], [replace(row, cells=row.cells[start:stop]) for row in self.rows])


def score_table(group: Group) -> Table:
    """Scores: a row a method, the floor last."""
    columns = [Column(m, metric_title(m), direction(m)) for m in group.metrics]
    rows = [Row(e.name, e.style, own_settings(e, group), [_score_cell(group, e, m) for m in group.metrics]) for e in group.entries]
    return Table(columns, [*rows, Row("floor", None, "real against real data", [_number_cell(floor(group, m)) for m in group.metrics])])


def _score_cell(group: Group, e: Entry, metric: str) -> Cell:
    values = list(e.values(metric).values())
    if not values:
        return Cell("–")
    m, s, base = mean(values), spread(values), floor(group, metric)
    at_floor = best_way(metric) == "low" and base > 0 and m <= base
    return Cell(number(m), m, "" if s is None else number(s, 2), best=best(group, metric) is e, at_floor=at_floor)


def own_settings(e: Entry, group: Group) -> str:
    """The settings that tell a method from its namesakes in the plan; nothing where it has none."""
    name = next(iter(e.records.values()))["method"]["name"]
    others = [o.settings for o in group.entries if o is not e and next(iter(o.records.values()))["method"]["name"] == name]
    return ", ".join(f"{k} = {v}" for k, v in e.settings.items() if any(o.get(k) != v for o in others))


def ratio_table(group: Group) -> Table | None:
    """Ratios to the reference method, paired by seed; None where there is no reference or nothing to compare."""
    base = reference(group)
    metrics = [m for m in group.metrics if has_ratios(m) and base is not None and score(base, m) > 0]
    if base is None or len(group.entries) == 1 or not metrics:
        return None
    columns = [Column(m, metric_title(m), "below 1 is better" if best_way(m) == "low" else "above 1 is better") for m in metrics]
    rows = [Row(e.name, e.style, own_settings(e, group), [_ratio_cell(ratio(e, base, m)) for m in metrics]) for e in group.entries if e is not base]
    return Table(columns, rows)


def _ratio_cell(r: Ratio | None) -> Cell:
    if r is None:
        return Cell("–")
    return Cell(number(r.mean), r.mean, "" if r.low is None else f"{number(r.low)} to {number(r.high)}")


COSTS = {
    "trained_parameters": ("trained parameters", ""),
    "passes": ("network passes", "per denoiser call"),
    "fit_seconds": ("fit", "seconds"),
    "select_seconds": ("selection", "seconds"),
    "sample_seconds": ("sampling", "seconds"),
    "peak_memory": ("peak memory", "MiB"),
}
"""Fields of a record, with a title and unit."""


def cost_table(group: Group) -> Table:
    """Costs: means over seeds; selection only where a method needed some."""
    used = [key for key in COSTS if any(any(e.facts(key)) if key == "select_seconds" else e.facts(key) for e in group.entries)]
    rows = [Row(e.name, e.style, own_settings(e, group), [_number_cell(mean(e.facts(key)), key) for key in used]) for e in group.entries]
    return Table([Column(key, *COSTS[key]) for key in used], rows)


def _number_cell(value: float, key: str = "") -> Cell:
    if math.isnan(value):
        return Cell("–")
    if key in ("trained_parameters", "peak_memory"):
        return Cell(f"{value:,.0f}", value)
    return Cell(f"{value:,.1f}" if key else number(value), value)


def record_table(group: Group) -> Table:
    """Every score of every record, in full."""
    records: list[tuple[Entry, dict[str, Any]]] = [(e, r) for e in group.entries for r in e.records.values()]
    cells = [[_full(r["metrics"].get(m, {}).get("value")) for m in group.metrics] for e, r in records]
    rows = [Row(str(r["id"]), e.style, "", row) for (e, r), row in zip(records, cells, strict=True)]
    return Table([Column(m, m) for m in group.metrics], rows)


def _full(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.6g}", value)
