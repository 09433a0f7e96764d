"""Sentences about a run: what the scores say in plain words, and what fell short. Every one follows from the records."""

import math

from ..entries import said
from ..terms import best_way, count, has_ratios, listed, metric_text, metric_title, number, ranks
from .ranks import judge
from .ratios import ratio
from .records import Entry, Group, Run
from .scores import best, floor, leaders, score, separated

FAR = 3
"""A score this many times its floor is far from it."""
FEW = 3
"""A sentence names at most this many things one by one."""


def name_of(entry: Entry) -> str:
    """How sentences call a method."""
    return "the plain source" if entry.method == "source" else entry.name


def names_of(entries: list[Entry]) -> str:
    """How sentences call several methods."""
    return listed([name_of(e) for e in entries])


def titles(metrics: list[str]) -> str:
    """How sentences call several metrics."""
    return listed([metric_title(m) for m in metrics])


def place(group: Group) -> str:
    """How sentences call a group."""
    return f"{group.title} with {group.n_target} target points"


def summary(run: Run, over_all: list[str]) -> str:
    """One paragraph: what ranks over all tasks say, or where there are none which method scores best beyond noise on each task."""
    seeds = max(len(g.seeds) for g in run.groups)
    alone = [] if over_all else ["There is one seed, so how much a new training would change these scores is not known."]
    caution = [f"Differences are judged on {seeds} seeds, each method paired with the others on the same data."] if seeds > 1 else alone
    return " ".join([*(over_all or map(verdict, run.groups)), *caution])


def verdict(group: Group) -> str:
    """What the scores of one group say, in a sentence or two."""
    if len(group.entries) == 1:
        return f"On {place(group)} only {name_of(group.entries[0])} was run, so there is nothing to compare it with."
    led = {metric: found for metric in group.metrics if (found := leaders(group, metric))}
    wins: dict[str, list[str]] = {}
    ties: dict[str, list[str]] = {}
    for metric, found in led.items():
        who, names = (wins, name_of(found[0])) if best(group, metric) else (ties, some_of(found))
        who.setdefault(names, []).append(metric)
    clauses = [f"{name} scores best on {_on(metrics, len(led))}" for name, metrics in wins.items()]
    clauses += [f"{names} lead on {_on(metrics, len(led))} and cannot be told apart" for names, metrics in _gathered(ties, judge(group)).items()]
    return f"On {place(group)}, {'; '.join(clauses) or 'no score ranks the methods'}.{_of_source(group, led)}"


def _gathered(ties: dict[str, list[str]], judged: str | None) -> dict[str, list[str]]:
    """Ties, by who leads; of many only that of the score that judges a group is told by name."""
    if len(ties) < FEW:
        return ties
    named = {names: [m for m in metrics if m == judged] for names, metrics in ties.items() if judged in metrics}
    return {**named, "several methods": [m for metrics in ties.values() for m in metrics if m != judged]}


def _of_source(group: Group, led: dict[str, list[Entry]]) -> str:
    """Where the plain source wins, or is among the best."""
    source = group.source
    won = [m for m, found in led.items() if source and best(group, m) is source]
    level = [m for m, found in led.items() if source in found and m not in won]
    text = f" Adapting made the score worse on {_on(won, len(led))}, whatever the method." if won else ""
    where = "any metric" if len(level) == len(led) > 1 else _on(level, len(led))
    return text + (f" No method is shown to improve on the plain source on {where}." if level else "")


def some_of(entries: list[Entry]) -> str:
    """Their names, or the first of many."""
    return names_of(entries) if len(entries) <= FEW else f"{', '.join(map(name_of, entries[: FEW - 1]))} and {len(entries) - FEW + 1} others"


def _on(metrics: list[str], of: int) -> str:
    """Their titles, or how many of so many."""
    if len(metrics) == of > 1:
        return "every metric"
    return titles(metrics) if len(metrics) <= FEW else f"{len(metrics)} of {of} metrics"


def shortfalls(group: Group) -> list[str]:
    """What fell short in a group: far from the floor, worse than the source, no gain over it, failed, missing."""
    lines = [line for metric in group.metrics for line in _far(group, metric)]
    source = group.source
    if source:
        others = [e for e in group.entries if e is not source]
        lines += [*(line for e in others for line in _worse(group, e, source)), *_level(group, others, source)]
    for e in group.entries:
        failed = [m for m in group.metrics if not math.isfinite(score(e, m))]
        lines += [f"{e.name} has no finite score on {titles(failed)}."] if failed else []
    lines += [f"No record yet of {listed(group.missing)}: the run is not finished."] if group.missing else []
    return lines


def _far(group: Group, metric: str) -> list[str]:
    """Whether even the best method is far from the floor; nothing where the floor is no measure of that."""
    found, base, perfect = leaders(group, metric), floor(group, metric), metric_text(metric).perfect
    if not found or not base > perfect or not has_ratios(metric):
        return []
    value = score(found[0], metric)
    times = (value - perfect) / (base - perfect) if best_way(metric) == "low" else base / value if value > 0 else math.inf
    if times <= FAR:
        return []
    best_mean = f"the best mean, of {name_of(found[0])}, is {number(value)}"
    return [f"No method comes near the floor on {metric_title(metric)}: {best_mean}; the floor is {number(base)}, a factor of {number(times, 2)}."]


def _shared(group: Group, e: Entry, source: Entry) -> list[str]:
    return [m for m in group.metrics if ranks(m) and e.values(m) and source.values(m)]


def _is_source(group: Group, e: Entry, source: Entry) -> bool:
    """Whether a method returned the source as it was."""
    shared = _shared(group, e, source)
    return bool(shared) and all(e.values(m) == source.values(m) for m in shared) and not any(e.facts("trained_parameters"))


def _worse(group: Group, e: Entry, source: Entry) -> list[str]:
    if _is_source(group, e, source):
        return [f"{e.name} has exactly the source's scores and no trained parameter: it returned the source as it was."]
    worse = [m for m in _shared(group, e, source) if separated(group, m, source, e)]
    return [f"{e.name} is worse than the plain source on {listed([_by(m, e, source) for m in worse])}."] if worse else []


def _level(group: Group, others: list[Entry], source: Entry) -> list[str]:
    """Methods that cannot be told from the source: a line for each set of metrics."""
    found: dict[tuple[str, ...], list[str]] = {}
    for e in others:
        level = [m for m in _shared(group, e, source) if not separated(group, m, source, e) and not separated(group, m, e, source)]
        if level and not _is_source(group, e, source):
            found.setdefault(tuple(level), []).append(e.name)
    return [f"{listed(names)} cannot be told from the plain source on {titles(list(level))}." for level, names in found.items()]


def _by(metric: str, e: Entry, source: Entry) -> str:
    r = ratio(e, source, metric) if has_ratios(metric) else None
    return metric_title(metric) if r is None else f"{metric_title(metric)} ({number(r.mean)} times its score)"


def finished(run: Run) -> str:
    """How many records there are, of how many."""
    have, lack = sum(len(g.records) for g in run.groups), sum(len(g.missing) for g in run.groups)
    return f"{have} of {have + lack} records" if lack else count(have, "record")


def warnings(run: Run) -> list[tuple[str, list[str]]]:
    """What methods warned of: each distinct warning, and the methods, sizes and seeds that it concerns."""
    found: dict[str, dict[str, list[int]]] = {}
    for g in run.groups:
        for e in g.entries:
            for seed, r in e.records.items():
                for text in dict.fromkeys(map(str, (r.get("notes") or {}).get("warnings", []))):
                    found.setdefault(text, {}).setdefault(f"{e.name} on {g.title}, n = {g.n_target}", []).append(seed)
    return [
        (text, [f"{where}, {'seed' if len(s) == 1 else 'seeds'} {listed([*map(str, s)])}" for where, s in places.items()]) for text, places in found.items()
    ]


def own_names(run: Run) -> list[tuple[str, str]]:
    """Methods that the plan gave names of their own: each with its id and the settings that tell it from its namesakes."""
    entries = [e for g in run.groups for e in g.entries]
    found = {}
    for e in [e for e in entries if e.name != e.method and not e.name.startswith(f"{e.method} (")]:
        others = [o.settings for o in entries if o.method == e.method]
        differ = [said(k, v) for k, v in e.settings.items() if any(o.get(k) != v for o in others)]
        found[e.name] = f"The method {e.method}" + (f" with {listed(differ)}." if differ else ".")
    return list(found.items())
