"""What samples are worth to a classifier: a table of those that learn from a method's samples beside those that learn without any."""

from dataclasses import replace
from typing import Any

from ..terms import ALONE, MORE, TUNED, count, listed, number
from .records import Entry, Group
from .scores import mean, spread
from .tables import Cell, Column, Row, Table, score_cell

SCORES = {"auc": "AUC", "f2": "F2", "g2": "G2"}
AGGREGATES = {"max": "largest", "mean": "mean"}
SHOWN = 8
"""Statements that are named as left out."""


def classifier_table(group: Group) -> Table | None:
    """A row a classifier: of the real records alone, tuned, of the real records and each method's samples, and of more real ones; None without."""
    told = _told(group)
    if not told:
        return None
    rows = {name: _reference(told, name) for name in (ALONE, TUNED, MORE) if all(name in each["references"] for each in told.values())}
    methods = [Row(f"real and {e.name}", e.style, "", [_of_method(group, e, f"downstream_{s}") for s in SCORES]) for e in group.entries if _has(e)]
    last = [rows.pop(MORE)] if MORE in rows else []
    return Table([Column(f"downstream_{s}", title, "higher is better") for s, title in SCORES.items()], [*rows.values(), *methods, *last])


def protocol_text(group: Group) -> str:
    """How the classifiers of a group were trained and tested, in words; nothing where there are none."""
    told = [each["protocol"] for each in _told(group).values()]
    if not told:
        return ""
    p = told[0]
    left_out = list(dict.fromkeys(name for each in told for name in each["left_out"]))
    low, high = p["bootstrap"]["interval"]
    sentences = [
        f"With a method's samples a classifier learns from {count(p['real'], 'real target record')} and {count(p['synthetic'], 'sample')}, in "
        f"{count(p['steps'], 'step')} of {p['batch']}; the others as their rows say. Fewer steps are a handicap of their own.",
        f"All are tested on {count(p['test'], 'real target record')} that no method and no training has seen.",
        f"Records are standardised by {p['standardised_by']}; a training step sees {p['crop']} numbers of each lead, and a record's probabilities are the "
        f"{AGGREGATES[p['aggregate']]} over windows of as many.",
        f"Thresholds of F2 and G2: {p['thresholds']}.",
        f"Intervals hold {100 * (high - low):.0f} % of {p['bootstrap']['resamples']} bootstrap resamples of the {p['bootstrap']['of']}, thresholds fixed.",
    ]
    sentences += [f"Left out, since all test records have them or none: {listed(left_out, SHOWN)}."] if left_out else []
    return " ".join(sentences)


def _told(group: Group) -> dict[int, dict[str, Any]]:
    """What records say of classifiers, by seed; the methods of a seed share it."""
    return {r["seed"]: r["downstream"] for r in reversed(group.records) if r.get("downstream")}


def _has(e: Entry) -> bool:
    return bool(e.values("downstream_auc"))


def _reference(told: dict[int, dict[str, Any]], name: str) -> Row:
    """A classifier that learns from no samples."""
    trained = next(iter(told.values()))["protocol"]["trained"][name]
    found = [each["references"][name] for each in told.values()]
    note = f"{count(trained['records'], 'record')}, {count(trained['steps'], 'step')}"
    return Row(name, None, note, [_cell([scores[s] for scores in found]) for s in SCORES])


def _cell(scores: list[dict[str, float]]) -> Cell:
    values = [score["value"] for score in scores]
    s = spread(values)
    return Cell(number(mean(values)), mean(values), "" if s is None else number(s, 2), note=_interval(scores))


def _of_method(group: Group, e: Entry, metric: str) -> Cell:
    return replace(score_cell(group, e, metric), note=_interval([r["metrics"][metric] for r in e.records.values() if metric in r["metrics"]]))


def _interval(scores: list[dict[str, float]]) -> str:
    """The bootstrap interval of a single seed, where it is known."""
    low, high = scores[0]["low"], scores[0]["high"]
    return f"{number(low)} to {number(high)}" if len(scores) == 1 and low == low else ""
