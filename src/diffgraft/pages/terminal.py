"""The ranks over all groups and the comparison table of each, as plain text."""

from collections.abc import Iterator

from ..terms import count
from .overview import seeds_text, summary_table, task_table
from .ranks import Overview
from .records import Group
from .tables import Cell, cost_table, score_table

WIDTH = 100
"""Columns of the terminal."""
MARKS = {"best": "*", "level": "~"}
COSTS = {"trained_parameters": "parameters", "passes": "passes", "fit_seconds": "fit s"}
"""Costs that stand beside the scores, with their heads."""
HEADS = {"mean_rank": "mean rank", "first": "first", "trained_parameters": "parameters", "seconds": "fit s", "passes": "passes", "source": "source data"}
"""Heads of the columns over all groups."""


def overview_block(ov: Overview) -> str:
    """Ranks over all groups: methods as rows, best first, groups by number and listed below."""
    summary, tasks = summary_table(ov), task_table(ov)
    columns = [[HEADS[c.id], *(plain(row.cells[k]) for row in summary.rows)] for k, c in enumerate(summary.columns)]
    if ov.resampled:
        columns.insert(1, ["90 %", *(row.cells[0].note or "-" for row in summary.rows)])
    columns += [[f"#{k + 1}", *(plain(row.cells[k]) for row in tasks.rows)] for k in range(len(tasks.columns))]
    head = f"All tasks together, ranks on each and their mean, {seeds_text(ov)}"
    named = [f"#{k}: {c.title}, {c.note}" for k, c in enumerate(tasks.columns, 1)]
    return "\n".join([head, *laid_out(["", *(row.name for row in summary.rows)], columns), *named])


def block(group: Group) -> str:
    """The scores and main costs of one group: methods as rows, the floor last."""
    scores, costs = score_table(group), cost_table(group)
    names = ["", *(row.name for row in scores.rows)]
    columns = [[c.id, *(plain(row.cells[k]) for row in scores.rows)] for k, c in enumerate(scores.columns)]
    columns += [[COSTS[c.id], *(plain(row.cells[k]) for row in costs.rows), ""] for k, c in enumerate(costs.columns) if c.id in COSTS]
    head = f"{group.title}, n = {group.n_target}, {count(len(group.seeds), 'seed')}"
    return "\n".join([head, *laid_out(names, columns)])


def plain(cell: Cell) -> str:
    """A cell: mean +- spread, and its mark or room for one."""
    text = f"{cell.text} +- {cell.spread}" if cell.spread else cell.text
    return text.replace("–", "-") + MARKS.get(cell.mark, " ")


def laid_out(names: list[str], columns: list[list[str]]) -> Iterator[str]:
    """Lines with the names at the left; columns that do not fit follow below, under the names again."""
    first, start = max(map(len, names)), 0
    widths = [2 + max(map(len, column)) for column in columns]
    while start < len(columns):
        stop = start + 1
        while stop < len(columns) and first + sum(widths[start : stop + 1]) <= WIDTH:
            stop += 1
        for r, name in enumerate(names):
            cells = (columns[k][r].rjust(widths[k]) for k in range(start, stop))
            yield (name.ljust(first) + "".join(cells)).rstrip()
        start = stop
