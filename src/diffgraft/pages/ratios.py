r"""Scores as ratios to the best baseline, paired by seed.

With values $v_s$ of a method and $b_s$ of the baseline at seed s, the ratio is $\exp(m)$ with m the mean of
$\log(v_s / b_s)$ over the k seeds that both have; its 95 % interval is $\exp(m \pm t_{.975, k-1}\, s / \sqrt{k})$.

The baseline of a score is the entry of `scratch` or `finetune` with the lowest mean: chosen in hindsight, by the very
scores that it is compared on, which favours it. Entries that train on the pseudo-target are rows, not baselines: it is a
part of TGDP.
"""

import math
from dataclasses import dataclass

from ..terms import best_way, has_ratios, metric_title, number
from .records import Entry, Group
from .scores import half_interval, mean, score
from .tables import Cell, Column, Row, Table, remark

BASELINES = ("scratch", "finetune")
"""Methods that transfer is compared with; without any of them, the plain source."""


@dataclass(frozen=True)
class Ratio:
    """Geometric mean over seeds of a method's value over another's, with its 95 % interval where there are several seeds."""

    mean: float
    low: float | None
    high: float | None


def ratio(entry: Entry, reference: Entry, metric: str) -> Ratio | None:
    """A method's value over a reference's, paired by seed; None where a value isn't positive."""
    x, y = entry.values(metric), reference.values(metric)
    pairs = [(x[seed], y[seed]) for seed in x if seed in y]
    if not pairs or not all(0 < v < math.inf for pair in pairs for v in pair):
        return None
    logs = [math.log(a / b) for a, b in pairs]
    m, half = mean(logs), half_interval(logs)
    return Ratio(math.exp(m), None, None) if half is None else Ratio(math.exp(m), math.exp(m - half), math.exp(m + half))


def baseline(group: Group, metric: str) -> Entry | None:
    """The baseline with the lowest mean of positive values; None where there is none."""
    known = [e for e in group.entries if e.method in BASELINES and e.settings.get("augment", "none") == "none"] or [
        e for e in group.entries if e.method == "source"
    ]
    fit = [e for e in known if e.values(metric) and all(0 < v < math.inf for v in e.values(metric).values())]
    return min(fit, key=lambda e: score(e, metric), default=None)


def ratio_table(group: Group) -> Table | None:
    """A column a score where lower is better, a row a method; None where there is nothing to compare."""
    bases = {m: baseline(group, m) for m in group.metrics if best_way(m) == "low" and has_ratios(m)}
    found = {m: base for m, base in bases.items() if base}
    if len(group.entries) < 2 or not found:
        return None
    columns = [Column(m, metric_title(m), f"over {base.name}") for m, base in found.items()]
    rows = [Row(e.name, e.style, remark(e, group), [_cell(e, base, m) for m, base in found.items()]) for e in group.entries]
    return Table(columns, rows)


def _cell(e: Entry, base: Entry, metric: str) -> Cell:
    r = ratio(e, base, metric)
    if e is base:
        return Cell("1", note="baseline")
    if r is None:
        return Cell("–")
    if r.low is None or r.high is None:
        return Cell(number(r.mean), r.mean)
    mark = "below" if r.high < 1 else "above" if r.low > 1 else ""
    return Cell(number(r.mean), r.mean, note=f"{number(r.low)} to {number(r.high)}", mark=mark)
