"""Sentences about all groups of a run together: who leads, against the plain fine-tune, at what cost, and where that fine-tune wins."""

from statistics import median

from ..terms import NO_SOURCE, count, has_ratios, listed, number, source_data
from .ranks import Judged, Overview, Standing
from .ratios import ratio
from .records import Entry
from .scores import leaders, separated
from .words import FEW, name_of, place, some_of


def reading(ov: Overview) -> list[str]:
    """What the ranks say, in two to five sentences."""
    plain = plain_finetune(ov)
    return [_lead(ov), *_against(ov, plain), *_cheap(ov), *_wins(ov, plain), *_caution(ov)]


def plain_finetune(ov: Overview) -> Standing | None:
    """The fine-tune on target points alone that others are compared with: the one called by its id, else the plan's first."""
    known = [s for s in ov.ranked if s.entry.method == "finetune" and source_data("finetune", s.entry.settings) == NO_SOURCE]
    return min(known, key=lambda s: (s.entry.name != "finetune", s.entry.index), default=None)


def _lead(ov: Overview) -> str:
    """Who has the best mean rank, and whether that is sure."""
    first, second = ov.ranked[:2]
    over, of = f"Over {count(len(ov.judged), 'task')}", f"among {count(len(ov.ranked), 'method')}"
    tied = [s.entry for s in ov.ranked[1:] if s.level]
    if tied:
        return f"{over} {name_of(first.entry)} has the lowest mean rank, {_mean(first)} {of}, but {some_of(tied)} cannot be told from it."
    how = "ranks best beyond noise, with a mean rank of" if ov.resampled else "has the lowest mean rank,"
    return f"{over} {name_of(first.entry)} {how} {_mean(first)} {of}; next is {name_of(second.entry)} with {_mean(second)}."


def _mean(s: Standing) -> str:
    return f"{s.mean:.1f}" + ("" if s.low is None else f" (90 % interval {s.low:.1f} to {s.high:.1f})")


def _against(ov: Overview, plain: Standing | None) -> list[str]:
    """The leader's scores beside the plain fine-tune's, or the next method's where that fine-tune leads."""
    if plain is None:
        return []
    s = next(s for s in ov.ranked if s is not plain)
    pairs = [(j, a, b) for j, a, b in zip(ov.judged, s.entries, plain.entries, strict=True) if a and b]
    found = [r.mean for j, a, b in pairs if has_ratios(j.metric) and (r := ratio(a, b, j.metric))]
    who, other, told = name_of(s.entry), plain.entry.name, _told(ov, pairs)
    if not found:
        return [f"Against {other}, {who} is {told}."]
    over = "tasks" if len(found) == len(pairs) else f"the {len(found)} tasks that have a ratio"
    return [f"In the median over {over} the score of {who} is {number(median(found), 2)} times that of {other}; it is {told}."]


def _told(ov: Overview, pairs: list[tuple[Judged, Entry, Entry]]) -> str:
    """On how many groups the first of each pair is better, and on how many worse."""
    better = sum(separated(j.group, j.metric, a, b) for j, a, b in pairs)
    worse = sum(separated(j.group, j.metric, b, a) for j, a, b in pairs)
    noise = "beyond noise" if ov.resampled else "by more than the floor"
    if not better + worse:
        return f"neither better nor worse {noise} on any task"
    return f"better {noise} on {better or 'none'} of {count(len(pairs), 'task')} and worse on {worse or 'none'}"


def _cheap(ov: Overview) -> list[str]:
    """What costs less than the leader and cannot be told from it."""
    first, tied = ov.ranked[0], [s for s in ov.ranked[1:] if s.level]
    if not tied:
        return []
    told = []
    for key, what, unit in (("passes", "takes the fewest network passes a step", ""), ("seconds", "is the fastest to fit", " s")):
        least = min(tied, key=lambda s: s.median(key))
        if least.median(key) < first.median(key):
            told.append(f"{name_of(least.entry)} {what} ({least.median(key):,.1f}{unit}, not {first.median(key):,.1f}{unit})")
    who = name_of(first.entry)
    return [f"Of the methods that share its lead, {listed(told)}." if told else f"None of the methods that share its lead costs less than {who}."]


def _wins(ov: Overview, plain: Standing | None) -> list[str]:
    """Where the plain fine-tune is the best, or among the best."""
    if plain is None:
        return []
    led = [(j.group, leaders(j.group, j.metric), e) for j, e in zip(ov.judged, plain.entries, strict=True)]
    won = [place(group) for group, found, e in led if e and found == [e]]
    level = [place(group) for group, found, e in led if e in found and len(found) > 1]
    where = {"is best on": won, "shares the lead on": level}
    told = [f"{how} {listed(on) if len(on) <= FEW else count(len(on), 'task')}" for how, on in where.items() if on]
    name = plain.entry.name
    who = "Plain finetune" if name == "finetune" else f"The plain fine-tune, {name},"
    return [f"{who} {listed(told) or 'is among the best on no task'}."]


def _caution(ov: Overview) -> list[str]:
    """That one seed shows no noise of training."""
    return [] if ov.resampled else ["There is one seed, so whether another would change this order is not known."]
