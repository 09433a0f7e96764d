"""What samples are worth to a classifier: a table of those that learn from a method's samples beside those that learn without any."""

import math
from dataclasses import replace
from typing import Any

from ..terms import ALONE, MORE, TUNED, count, listed, metric_title, number
from .records import Entry, Group, as_number
from .scores import mean, spread
from .tables import Cell, Column, Row, Table, remark, score_cell

SCORES = {"auc": "AUC", "f2": "F2", "g2": "G2"}
SYNTHETIC = "synthetic_auc"
"""The metric of a classifier that learns from samples and no real record."""
AGGREGATES = {"max": "largest", "mean": "mean"}
SHOWN = 8
"""Statements that are named as left out."""


def classifier_table(group: Group) -> Table | None:
    """A row a classifier: of the real records alone, tuned, of the real records and each method's samples, and of more real ones; None without."""
    told = _told(group)
    if not told:
        return None
    titles = {f"downstream_{s}": title for s, title in SCORES.items()} | ({SYNTHETIC: metric_title(SYNTHETIC)} if SYNTHETIC in group.metrics else {})
    rows = {name: _reference(told, name, list(titles)) for name in (ALONE, TUNED, MORE) if all(name in each["references"] for each in told.values())}
    methods = [Row(f"real and {e.name}", e.style, remark(e, group), [_of_method(group, e, m) for m in titles]) for e in group.entries if _has(e)]
    last = [rows.pop(MORE)] if MORE in rows else []
    return Table([Column(metric, title, "higher is better") for metric, title in titles.items()], [*rows.values(), *methods, *last])


def heading(group: Group, shown: Table) -> str:
    """What stands in the cells of a group's table, for its caption."""
    percent = f"{_percent(_protocols(group)[0])} %"
    if len(group.seeds) == 1:
        return f"seed {group.seeds[0]}" + (f" with its {percent} interval" if _has_intervals(shown) else "")
    told = f"mean ± standard deviation over seeds {', '.join(map(str, group.seeds))}"
    told += f", then the mean ends of their {percent} intervals" if _has_intervals(shown) else ""
    single = any(cell.value is not None and not cell.spread for row in shown.rows for cell in row.cells)
    return told + ("; no ± where there is one seed" if single else "")


def protocol_text(group: Group, shown: Table) -> str:
    """How the classifiers of a group's table were trained and tested, in words."""
    told = _protocols(group)
    p = told[0]
    left_out = list(dict.fromkeys(name for each in told for name in each["left_out"]))
    resampled = f"{p['bootstrap']['resamples']} bootstrap resamples of the {p['bootstrap']['of']}, thresholds fixed"
    sentences = [
        f"With a method's samples a classifier learns from {count(p['real'], 'real target record')} and {count(p['synthetic'], 'sample')}, in "
        f"{count(p['steps'], 'step')} of {p['batch']}; the others as their rows say. Fewer steps are a handicap of their own.",
        f"All are tested on {count(p['test'], 'real target record')} that no method and no training has seen.",
        f"Records are standardised by {p['standardised_by']}; a training step sees {p['crop']} numbers of each lead, and a record's probabilities are the "
        f"{AGGREGATES[p['aggregate']]} over windows of as many.",
        f"Thresholds of F2 and G2: {p['thresholds']}.",
    ]
    if SYNTHETIC in group.metrics:
        sentences.append(
            f"{metric_title(SYNTHETIC)}: a classifier that learns from {count(p['synthetic'], 'sample')} and from no real record; beside it stands what "
            f"{ALONE} are worth" + (f", and {MORE} without these." if MORE in p["trained"] else ".")
        )
    sentences += [f"Intervals hold {_percent(p)} % of {resampled}."] if _has_intervals(shown) else []
    sentences += [f"Left out, since all test records have them or none: {listed(left_out, SHOWN)}."] if left_out else []
    return " ".join(sentences)


def _told(group: Group) -> dict[int, dict[str, Any]]:
    """What records say of classifiers, by seed; the methods of a seed share it."""
    return {r["seed"]: r["downstream"] for r in reversed(group.records) if r.get("downstream")}


def _protocols(group: Group) -> list[dict[str, Any]]:
    return [each["protocol"] for each in _told(group).values()]


def _percent(protocol: dict[str, Any]) -> str:
    """How much of the resamples an interval holds."""
    low, high = protocol["bootstrap"]["interval"]
    return f"{100 * (high - low):.0f}"


def _has_intervals(shown: Table) -> bool:
    return any(cell.note for row in shown.rows for cell in row.cells)


def _has(e: Entry) -> bool:
    return bool(e.values("downstream_auc"))


def _reference(told: dict[int, dict[str, Any]], name: str, metrics: list[str]) -> Row:
    """A classifier that learns from no samples."""
    trained = next(iter(told.values()))["protocol"]["trained"][name]
    found = [each["references"][name] for each in told.values()]
    note = f"{count(trained['records'], 'record')}, {count(trained['steps'], 'step')}"
    own = "auc" if name == ALONE else "alone"
    keys = [own if metric == SYNTHETIC else metric.removeprefix("downstream_") for metric in metrics]
    return Row(name, None, note, [_cell([scores[key] for scores in found if key in scores]) for key in keys])


def _cell(scores: list[dict[str, Any]]) -> Cell:
    if not scores:
        return Cell("–")
    values = [as_number(score["value"]) for score in scores]
    s = spread(values)
    return Cell(number(mean(values)), mean(values), "" if s is None else number(s, 2), note=_interval(scores))


def _of_method(group: Group, e: Entry, metric: str) -> Cell:
    return replace(score_cell(group, e, metric), note=_interval([r["metrics"][metric] for r in e.records.values() if metric in r["metrics"]]))


def _interval(scores: list[dict[str, Any]]) -> str:
    """The bootstrap interval, of several seeds the means of both ends; nothing where one is not known."""
    low, high = (mean([as_number(score[end]) for score in scores]) for end in ("low", "high"))
    return "" if math.isnan(low + high) else f"{number(low)} to {number(high)}"
