r"""Means and spreads over seeds, and whether a difference of two methods is beyond its noise.

A difference of two methods is judged on gaps paired by seed. Its noise is the larger of two sizes:

- the floor (its distance from a perfect score, mostly zero) divided by $\sqrt{k}$, the error of measuring with finitely
  many points;
- with k > 1 seeds, $t_{.975, k-1}\, s / \sqrt{k}$ with s the standard deviation of the gaps: half the 95 % interval.

With one seed only the first is known. A metric whose floor is not an error (higher is better) then decides nothing.
"""

import math

from scipy.special import stdtrit

from ..terms import best_way, metric_text, ranks
from .records import Entry, Group


def mean(values: list[float]) -> float:
    """Arithmetic mean; nan of nothing."""
    return sum(values) / len(values) if values else math.nan


def spread(values: list[float]) -> float | None:
    """Standard deviation over seeds; None of fewer than two."""
    if len(values) < 2:
        return None
    m = mean(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / (len(values) - 1))


def score(entry: Entry, metric: str) -> float:
    """Mean over seeds."""
    return mean(list(entry.values(metric).values()))


def floor(group: Group, metric: str) -> float:
    """Mean floor of a metric."""
    return mean(group.floors(metric))


def half_interval(values: list[float]) -> float | None:
    """Half of the 95 % interval of a mean, by Student's t; None of fewer than two values."""
    s, k = spread(values), len(values)
    return None if s is None else float(stdtrit(k - 1, 0.975)) * s / math.sqrt(k)


def noise(group: Group, metric: str, gaps: list[float]) -> float:
    """How large the mean of these gaps between two methods may be by chance."""
    by_seeds = half_interval(gaps)
    by_points = abs(floor(group, metric) - metric_text(metric).perfect) / math.sqrt(len(gaps)) if best_way(metric) == "low" else 0.0
    if by_seeds is None:
        return by_points if best_way(metric) == "low" else math.inf
    return max(by_seeds, 0.0 if math.isnan(by_points) else by_points)


def separated(group: Group, metric: str, a: Entry, b: Entry) -> bool:
    """Whether a is better than b beyond noise, on the seeds that both have."""
    x, y = a.values(metric), b.values(metric)
    sign = -1 if best_way(metric) == "high" else 1
    gaps = [sign * (y[seed] - x[seed]) for seed in x if seed in y]
    return bool(gaps) and mean(gaps) > noise(group, metric, gaps)


def leaders(group: Group, metric: str) -> list[Entry]:
    """The method with the best mean, and all that cannot be told from it, by their means; none where the metric ranks nothing."""
    scored = [e for e in group.entries if math.isfinite(score(e, metric))]
    if not ranks(metric) or not scored:
        return []
    sign = -1 if best_way(metric) == "high" else 1
    first, *others = sorted(scored, key=lambda e: sign * score(e, metric))
    return [first, *(e for e in others if not separated(group, metric, first, e))]


def best(group: Group, metric: str) -> Entry | None:
    """The method that is better than every other beyond noise, if there is one."""
    found = leaders(group, metric)
    return found[0] if len(found) == 1 and len(group.entries) > 1 else None
