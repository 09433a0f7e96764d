"""How methods rank over all groups of a run, and how far another draw of seeds would change that.

One score judges each group (see `JUDGES`). A method's rank in a group is its place by the mean of that score over the seeds
that most methods of the group have; equal means share their places, and a method without some of these seeds has no rank there.
Its mean rank is the mean over groups.

The interval is a paired bootstrap: each draw takes as many seeds of each group, with replacement, the same for all methods, and
ranks them anew. So what a seed does to all methods alike changes no rank.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..terms import best_way, ranks
from .records import Entry, Group, Run
from .scores import score

Array = NDArray[np.floating]

JUDGES = ("score_error", "energy")
"""Scores that judge a group: the first that it has. The exact score is the sharpest where it is known; samples can always be compared."""
DRAWS, SEED = 1000, 0
"""Draws of seeds, and the seed of the draws themselves."""
TAIL = 0.05
"""Share of the draws beyond each end of an interval."""
ENOUGH = 0.5
"""Share of the methods that must be in every group to be ranked among themselves alone."""


@dataclass(frozen=True)
class Judged:
    """A group, cut down to the score that judges it, to the seeds that most methods have, and to the methods that have them all.

    Args:
        group: With at least two methods.
        metric: The score.
        seeds: Those of the comparison. Where there are none each method keeps its own, and nothing is drawn.
    """

    group: Group
    metric: str
    seeds: list[int]


@dataclass(frozen=True)
class Standing:
    """How one method ranks.

    Args:
        entries: It in each group; None where it is missing.
        ranks: Its rank in each group.
        mean: Over groups; None where it is not ranked over all.
        low, high: 90 % interval of the mean; None with one seed.
        first: Share of the draws in which its mean rank is lowest, shared where several are.
        level: Whether it cannot be told from the first, or is the first.
    """

    entries: list[Entry | None]
    ranks: list[float | None]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    first: float | None = None
    level: bool = False

    @property
    def entry(self) -> Entry:
        """It in the first group that has it."""
        return next(e for e in self.entries if e)

    def median(self, key: str) -> float:
        """Median over its records of a number such as `passes`, or of `seconds`, those of fitting and choosing together; nan of none."""
        records = [r for e in self.entries if e for r in e.records.values()]
        if key == "seconds":
            found = [r["fit_seconds"] + (r.get("select_seconds") or 0.0) for r in records if r.get("fit_seconds") is not None]
        else:
            found = [r[key] for r in records if r.get(key) is not None]
        return float(np.median(found)) if found else math.nan


@dataclass(frozen=True)
class Overview:
    """How methods rank over several groups.

    Args:
        judged: The groups.
        standings: The methods, best mean rank first; last those without one.
        resampled: Whether there were several seeds to draw from.
    """

    judged: list[Judged]
    standings: list[Standing]
    resampled: bool

    @property
    def ranked(self) -> list[Standing]:
        """Methods that have a mean rank."""
        return [s for s in self.standings if s.mean is not None]


def judge(group: Group) -> str | None:
    """The score that judges a group: the first of `JUDGES` that it has, else its first score that ranks methods."""
    return next((m for m in (*JUDGES, *group.metrics) if m in group.metrics and ranks(m)), None)


def judged(group: Group) -> Judged | None:
    """A group with its judge; None where fewer than two methods can be compared."""
    metric = judge(group)
    entries = [e for e in group.entries if metric and e.values(metric)]
    if metric is None or len(entries) < 2:
        return None
    seeds = shared_seeds([set(e.values(metric)) for e in entries])
    if seeds:
        entries = [replace(e, records={seed: e.records[seed] for seed in seeds}) for e in entries if set(seeds) <= set(e.values(metric))]
    return Judged(replace(group, entries=entries), metric, seeds)


def shared_seeds(found: list[set[int]]) -> list[int]:
    """Seeds on which methods are compared: those that most methods have, and two at least in full; a method that lacks some is left out.

    So one method with few seeds, or one still running, does not take the others' seeds from them.
    """
    seeds = sorted(seed for seed in set.union(*found) if sum(seed in own for own in found) > len(found) / 2)
    if sum(set(seeds) <= own for own in found) >= 2:
        return seeds
    return sorted(set.intersection(*found))


def overview(run: Run) -> Overview | None:
    """How the methods of a run rank over its groups; None where fewer than two groups compare methods."""
    groups = [j for g in run.groups if (j := judged(g))]
    if len(groups) < 2:
        return None
    order = {e.name: e.index for j in groups for e in j.group.entries}
    found = [{e.name: e for e in j.group.entries} for j in groups]
    table = [[by_name.get(name) for by_name in found] for name in sorted(order, key=lambda name: order[name])]
    values = [_values(j, [row[k] for row in table]) for k, j in enumerate(groups)]
    among = compared(np.array([[e is not None for e in row] for row in table]))
    resampled = any(v.shape[1] > 1 for v in values)
    standings = _standings(table, np.stack([places(m, among) for m in drawn_means(values)]), among, resampled)
    return Overview(groups, sorted(standings, key=lambda s: math.inf if s.mean is None else s.mean), resampled)


def compared(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which methods are ranked: those in every group, or all where these are too few. `present` is (methods, groups)."""
    everywhere = np.asarray(present.all(axis=1))
    return everywhere if everywhere.sum() >= max(2, ENOUGH * len(present)) else np.ones(len(present), dtype=bool)


def _values(j: Judged, row: list[Entry | None]) -> Array:
    """Scores (methods, seeds), lower better: nan for a method that is missing, infinite for a score that failed."""
    sign = -1 if best_way(j.metric) == "high" else 1
    blank = [math.nan] * max(1, len(j.seeds))
    table = [blank if e is None else [e.values(j.metric)[s] for s in j.seeds] or [score(e, j.metric)] for e in row]
    missing = np.array([e is None for e in row])[:, None]
    values = sign * np.array(table)
    return np.where(np.isfinite(values) | missing, values, np.inf)


def drawn_means(values: list[Array]) -> list[Array]:
    """Means (methods, 1 + DRAWS) of each group's scores (methods, seeds): over all seeds, then over the seeds of each draw."""
    generator = np.random.default_rng(SEED)
    picks = [generator.integers(v.shape[1], size=(DRAWS, v.shape[1])) for v in values]
    return [v[:, np.vstack([np.arange(v.shape[1]), pick])].mean(-1) for v, pick in zip(values, picks, strict=True)]


def places(means: Array, among: NDArray[np.bool_]) -> Array:
    """Ranks (methods, draws) by means, lowest first, among some of the methods; the others get the place they would take, nan where missing."""
    rivals = means[among][None]
    below = (rivals < means[:, None]).sum(1)
    level = (rivals == means[:, None]).sum(1) - among[:, None]
    return np.where(np.isnan(means), np.nan, 1 + below + level / 2)


def _standings(table: list[list[Entry | None]], found: Array, among: NDArray[np.bool_], resampled: bool) -> list[Standing]:
    """One standing a row, from the ranks (groups, methods, draws) of which the first draw is the scores as they are."""
    standings = [Standing(row, [None if math.isnan(r) else float(r) for r in found[:, k, 0]]) for k, row in enumerate(table)]
    means = np.nanmean(found[:, among], axis=0)
    told = [replace(s, mean=float(m)) for s, m in zip((standings[k] for k in np.flatnonzero(among)), means[:, 0], strict=True)]
    told = _drawn(told, means) if resampled else told
    return [*told, *(standings[k] for k in np.flatnonzero(~among))]


def _drawn(standings: list[Standing], means: Array) -> list[Standing]:
    """Standings with what the draws say: interval, share of first places, and who cannot be told from the first."""
    draws = means[:, 1:]
    low, high = np.quantile(draws, [TAIL, 1 - TAIL], axis=1, method="inverted_cdf")
    low, high = np.minimum(low, means[:, 0]), np.maximum(high, means[:, 0])  # draws shrink a lead, so the mean may lie outside
    lead = draws == draws.min(0)
    first = (lead / lead.sum(0)).mean(1)
    behind = np.quantile(draws - draws[means[:, 0].argmin()], TAIL, axis=1, method="inverted_cdf")
    rows = zip(standings, low, high, first, behind, strict=True)
    return [replace(s, low=float(a), high=float(b), first=float(f), level=bool(gap <= 0)) for s, a, b, f, gap in rows]
