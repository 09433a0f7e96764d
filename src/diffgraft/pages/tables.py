"""Tables of a group: scores with their floor, costs, every record. The page and the terminal show the same cells."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from ..terms import best_way, direction, metric_title, number
from .records import Entry, Group
from .scores import floor, leaders, mean, spread


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
        note: More, in small letters.
        mark: "best": better than every other method beyond noise; "level": cannot be told from the best; "below" or
            "above": a ratio whose interval lies on one side of 1.
        at_floor: No worse than real data.
    """

    text: str
    value: float | None = None
    spread: str = ""
    note: str = ""
    mark: str = ""
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
    rows = [Row(e.name, e.style, remark(e, group), [score_cell(group, e, m) for m in group.metrics]) for e in group.entries]
    return Table(columns, [*rows, Row("floor", None, "real against real data", [number_cell(floor(group, m)) for m in group.metrics])])


def score_cell(group: Group, e: Entry, metric: str) -> Cell:
    """The mean of a method's score with its spread and mark."""
    values = list(e.values(metric).values())
    if not values:
        return Cell("–")
    m, s, base = mean(values), spread(values), floor(group, metric)
    found = leaders(group, metric) if len(group.entries) > 1 else []
    mark = "" if e not in found else "best" if len(found) == 1 else "level"
    at_floor = best_way(metric) == "low" and base > 0 and m <= base
    return Cell(number(m), m, "" if s is None else number(s, 2), mark=mark, at_floor=at_floor)


def remark(e: Entry, group: Group) -> str:
    """The id of a method whose name does not say it, and how many seeds it has where others have more."""
    few = f"{len(e.records)} of {len(group.seeds)} seeds" if len(e.records) < len(group.seeds) else ""
    return ", ".join(filter(None, ("" if e.method in e.name else e.method, few)))


COSTS = {
    "trained_parameters": ("trained parameters", ""),
    "passes": ("network passes", "a sampling step"),
    "fit_seconds": ("fit", "seconds"),
    "select_seconds": ("selection", "seconds"),
    "sample_seconds": ("sampling", "seconds"),
    "sample_ratio": ("cost of sampling", "relative to source"),
    "peak_memory": ("peak memory", "MiB"),
    "particles": ("particles", "a group"),
}
"""Costs with a title and unit; all but the ratio are fields of a record."""


def cost_table(group: Group) -> Table:
    """Costs: means over seeds; selection only where a method needed some."""
    rows = [(e, {key: _cost(group, e, key) for key in COSTS}) for e in group.entries]
    used = [key for key in COSTS if any(math.isfinite(c[key]) and (c[key] or key != "select_seconds") for _, c in rows)]
    cells = [Row(e.name, e.style, remark(e, group), [_cost_cell(e, key, costs[key]) for key in used]) for e, costs in rows]
    return Table([Column(key, *COSTS[key]) for key in used], cells)


def _cost_cell(e: Entry, key: str, value: float) -> Cell:
    """A cost; beside particles the smallest share of them that counted at any step, over seeds."""
    shares = [share for r in e.records.values() for share in r.get("effective_share", [])] if key == "particles" else []
    return replace(number_cell(value, key), note=f"smallest effective share {number(min(shares))}" if shares else "")


def _cost(group: Group, e: Entry, key: str) -> float:
    if key != "sample_ratio":
        return mean(e.facts(key))
    base = group.source.records if group.source else {}
    pairs = [(r.get("sample_seconds"), base[seed].get("sample_seconds")) for seed, r in e.records.items() if seed in base]
    return mean([mine / its for mine, its in pairs if mine and its])


def number_cell(value: float, key: str = "") -> Cell:
    """A score, or with its key a cost; a dash where it isn't known."""
    if math.isnan(value):
        return Cell("–")
    if key in ("trained_parameters", "peak_memory", "particles"):
        return Cell(f"{value:,.0f}", value)
    return Cell(f"{value:,.2f}" if key == "sample_ratio" else f"{value:,.1f}" if key else number(value), value)


def record_table(group: Group) -> Table:
    """Every score of every record, in full."""
    records: list[tuple[Entry, dict[str, Any]]] = [(e, r) for e in group.entries for r in e.records.values()]
    cells = [[_full(r["metrics"].get(m, {}).get("value")) for m in group.metrics] for e, r in records]
    rows = [Row(str(r["id"]), e.style, "", row) for (e, r), row in zip(records, cells, strict=True)]
    return Table([Column(m, m) for m in group.metrics], rows)


def _full(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.6g}", value)
