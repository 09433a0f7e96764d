"""What a page shows of all groups together: tables of ranks and costs, and a plot of the mean ranks."""

from ..terms import count, metric_title, source_data
from . import plots
from .figures import Figure, Panel
from .ranks import Overview, Standing
from .records import Entry
from .scores import leaders
from .tables import Cell, Column, Row, Table, number_cell

COSTS = {"trained_parameters": ("trained parameters", "median"), "seconds": ("fit and choice", "seconds, median"), "passes": ("network passes", "a step")}
"""Costs of a method over all groups, with a title and unit."""


def summary_table(ov: Overview) -> Table:
    """A row a method, best first: its mean rank, how often it is first in draws of the seeds, and what it costs."""
    drawn = [Column("first", "first", "share of draws")] if ov.resampled else []
    head = [Column("mean_rank", "mean rank", "90 % interval" if ov.resampled else "one seed"), *drawn]
    columns = [*head, *(Column(key, *said) for key, said in COSTS.items()), Column("source", "source data")]
    return Table(columns, [Row(s.entry.name, s.entry.style, _remark(s), _summary_cells(ov, s)) for s in ov.standings])


def _remark(s: Standing) -> str:
    """The id of a method whose name does not say it, and in how many groups it is where that is not in all."""
    has = sum(e is not None for e in s.entries)
    return ", ".join(filter(None, ("" if s.entry.method in s.entry.name else s.entry.method, f"{has} of {len(s.ranks)} tasks" if has < len(s.ranks) else "")))


def _summary_cells(ov: Overview, s: Standing) -> list[Cell]:
    alone = sum(o.level for o in ov.standings) == 1
    mark = "" if not s.level else "best" if alone else "level"
    note = "" if s.low is None or s.high is None else f"{s.low:.1f} to {s.high:.1f}"
    cells = [Cell("–") if s.mean is None else Cell(f"{s.mean:.1f}", s.mean, note=note, mark=mark)]
    if ov.resampled:
        cells.append(Cell("–") if s.first is None else Cell(f"{100 * s.first:.0f} %", s.first))
    return [*cells, *(number_cell(s.median(key), key) for key in COSTS), Cell(source_data(s.entry.method, s.entry.settings))]


def task_table(ov: Overview) -> Table:
    """A row a method, in the same order: its rank in each group."""
    groups = [(j.group, f"n = {j.group.n_target}, {metric_title(j.metric)}") for j in ov.judged]
    columns = [Column(f"{g.label}-n{g.n_target}", g.title, note) for g, note in groups]
    led = [leaders(j.group, j.metric) for j in ov.judged]
    rows = [Row(s.entry.name, s.entry.style, "", [_rank_cell(s, k, found) for k, found in enumerate(led)]) for s in ov.standings]
    return Table(columns, rows)


def seeds_text(ov: Overview) -> str:
    """On how many seeds groups are judged."""
    few, many = min(len(j.seeds) for j in ov.judged), max(len(j.seeds) for j in ov.judged)
    return count(many, "seed") if few == many else f"{few} to {count(many, 'seed')}"


def _rank_cell(s: Standing, k: int, found: list[Entry]) -> Cell:
    rank, e = s.ranks[k], s.entries[k]
    if rank is None:
        return Cell("–")
    return Cell(f"{rank:g}", rank, mark="" if e not in found else "best" if len(found) == 1 else "level")


def rank_figure(ov: Overview) -> Figure:
    """Mean ranks with their intervals, a line a method."""
    rows = [(s.entry.name, s.entry.style, s.low, s.mean, s.high) for s in ov.ranked if s.mean is not None]
    told = "; ".join(f"{name} {mean:.1f}" + ("" if low is None else f" ({low:.1f} to {high:.1f})") for name, _, low, mean, high in rows)
    panel = Panel(plots.intervals(rows, (1.0, float(len(rows))), f"Mean rank by method: {told}"), "mean rank", note="1 is best")
    lines = "lines: 90 % interval over draws of the seeds" if ov.resampled else "one seed, so there is no interval"
    return Figure(f"Mean rank of each method over {len(ov.judged)} tasks ({lines}).", [panel], "wide")
