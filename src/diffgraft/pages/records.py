"""Reads a run folder and groups its records: one group a task and target size, one entry a method, one record a seed."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from json import loads
from math import isnan
from pathlib import Path
from typing import Any

from ..errors import BadData
from ..files import read_lines
from .planned import Planned

SCHEMA = 1
COLOURS = 8
"""Colours of methods in `page.css`, c0 to c7."""
NEEDED = ("id", "task", "n_target", "method", "seed", "metrics")
"""What a record must hold; the rest may be missing."""
FACTS: dict[str, Any] = {"arguments": [], "plan": "", "seeds": [], "versions": {}, "device": "", "hashes": {}}
"""What `run.json` holds, where it lacks something."""


@dataclass(frozen=True)
class Curve:
    """Training of one network.

    Args:
        id, stage: Whose it is, and which of its networks.
        loss: (step, mean training loss).
        held_out: (step, held-out loss), where it was checked.
    """

    id: str
    stage: str
    loss: list[tuple[int, float]]
    held_out: list[tuple[int, float]]


@dataclass(frozen=True)
class Entry:
    """One method of a group.

    Args:
        name: What it is shown as: its label, or its id with what tells it from its namesakes.
        index: Its place in the plan, which gives it its colour.
        records: By seed.
    """

    name: str
    index: int
    records: dict[int, dict[str, Any]]

    @property
    def style(self) -> str:
        """Class of its marks in the page's style: a colour, and hollow or dashed marks where colours repeat."""
        return f"c{self.index % COLOURS}" + " again" * (self.index >= COLOURS)

    @property
    def first(self) -> dict[str, Any]:
        """Its first record."""
        return next(iter(self.records.values()))

    @property
    def method(self) -> str:
        """Id of the method."""
        return str(self.first["method"]["name"])

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings, without the name and those left to their default None."""
        return {k: v for k, v in self.first["method"].items() if k != "name" and v is not None}

    def values(self, metric: str) -> dict[int, float]:
        """Score of each seed."""
        return {seed: as_number(r["metrics"][metric]["value"]) for seed, r in self.records.items() if metric in r["metrics"]}

    def facts(self, key: str) -> list[float]:
        """A number of every record that holds it, such as `fit_seconds`."""
        return [as_number(r[key]) for r in self.records.values() if r.get(key) is not None]


@dataclass(frozen=True)
class Group:
    """A task at one target size.

    Args:
        label: What tells the task entry from the plan's others.
        n_target: Target points.
        entries: In the plan's order.
        missing: Methods and seeds of the plan that have no record here yet.
        title: What the task is shown as.
    """

    label: str
    n_target: int
    entries: list[Entry]
    missing: list[str]
    title: str

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """All its records."""
        return [r for entry in self.entries for r in entry.records.values()]

    @cached_property
    def metrics(self) -> list[str]:
        """Ids of the metrics, in the order of the records."""
        return list(dict.fromkeys(name for r in self.records for name in r["metrics"]))

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds, in ascending order."""
        return sorted({r["seed"] for r in self.records})

    def floors(self, metric: str) -> list[float]:
        """What real data score against real data, by the records."""
        found = (as_number(r["metrics"].get(metric, {}).get("floor")) for r in self.records)
        return [value for value in found if not isnan(value)]

    @property
    def source(self) -> Entry | None:
        """The plain source model, if it was run."""
        return next((e for e in self.entries if e.method == "source"), None)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        folder: Where it is.
        groups: Its records.
        facts: What `run.json` holds, with empty values where it lacks something.
        plan, plan_text: The resolved plan; empty where there is none.
        date: Of its start, or of its last record where the start isn't known.
        curves: Training of every network, from `log.jsonl`.
    """

    folder: Path
    groups: list[Group]
    facts: dict[str, Any]
    plan: dict[str, Any]
    plan_text: str
    date: str
    curves: list[Curve]

    @property
    def name(self) -> str:
        """Name of the plan, or of the folder."""
        return str(self.plan.get("name") or self.facts.get("plan") or self.folder.resolve().name)


def read_run(folder: str | Path) -> Run:
    """Everything that a page shows of a run, but its samples.

    Raises:
        BadData: No such folder, no records, or records of another format.
    """
    folder = Path(folder)
    remedy = f"make it by: diffgraft run PLAN.toml --out {folder}"
    if not folder.is_dir():
        raise BadData(f"run {folder}: no such folder; {remedy}")
    file = folder / "records.jsonl"
    try:
        records = read_lines(file)
    except ValueError as error:
        raise BadData(f"{file}: not JSON lines ({error}); {remedy} --overwrite") from None
    if not records:
        raise BadData(f"run {folder}: it has no records (records.jsonl is missing or empty); {remedy} --resume")
    for k, record in enumerate(records, 1):
        _check(record, f"{file}, line {k}")
    plan_text = _read(folder / "plan.toml", str, "")
    facts, plan = _read(folder / "run.json", loads, {}), _read(folder / "plan.toml", tomllib.loads, {})
    facts = {**FACTS, **(facts if isinstance(facts, dict) else {})}
    return Run(folder, group(records, plan), facts, plan, plan_text, _date(facts.get("started"), file), read_curves(folder / "log.jsonl"))


def _date(started: Any, file: Path) -> str:
    """When a run began, or when a file was last written where that is not known."""
    try:
        date = datetime.fromisoformat(str(started))
    except ValueError:
        date = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return date.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _check(record: Any, where: str) -> None:
    if not isinstance(record, dict) or any(key not in record for key in NEEDED):
        lacks = [key for key in NEEDED if not isinstance(record, dict) or key not in record]
        raise BadData(f"{where}: not a record, it lacks {', '.join(lacks)}; make the run again with --overwrite")
    if record.get("schema", SCHEMA) != SCHEMA:
        raise BadData(f"{where}: expected a record of schema {SCHEMA}, got {record['schema']}; use the version of diffgraft that wrote it")


def group(records: list[dict[str, Any]], plan: dict[str, Any]) -> list[Group]:
    """Records by task and target size, all in the plan's order; a job that was recorded twice counts once, as last recorded."""
    planned = Planned(plan)
    order = list(dict.fromkeys([*planned.methods, *map(method_label, records)]))
    table: dict[tuple[str, int], dict[str, dict[int, dict[str, Any]]]] = {}
    for r in records:
        table.setdefault((task_label(r), r["n_target"]), {}).setdefault(method_label(r), {})[r["seed"]] = r
    tasks = [label for label, _ in table]
    groups = []
    for (label, n), found in sorted(table.items(), key=lambda item: (planned.place(*item[0]), tasks.index(item[0][0]), item[0][1])):
        entries = [Entry(name, order.index(name), dict(sorted(found[name].items()))) for name in order if name in found]
        missing = [f"{name}, seed {seed}" for seed in planned.seeds(label, n) for name in planned.at(n, seed) if seed not in found.get(name, {})]
        first = entries[0].first
        groups.append(Group(label, n, entries, missing, str(first.get("task_label") or label)))
    return groups


def task_label(record: dict[str, Any]) -> str:
    """What tells a record's task entry from the plan's others."""
    return str(record.get("label") or record["task"])


def method_label(record: dict[str, Any]) -> str:
    """What a record's method is called; in older records the name, with its number where the plan holds the method more than once."""
    if record.get("method_label"):
        return str(record["method_label"])
    name, middle = record["method"]["name"], str(record["id"])
    middle = middle.removeprefix(f"{task_label(record)}-n{record['n_target']}-").removesuffix(f"-s{record['seed']}")
    return middle if middle.startswith(f"{name}-") and middle.removeprefix(f"{name}-").isdigit() else str(name)


def read_curves(path: Path) -> list[Curve]:
    """Training curves from a log; a step that was run again counts once, as last run."""
    steps: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    rows = _read(path, lambda text: [loads(row) for row in text.splitlines() if row.endswith("}")], [])
    for line in [row for row in rows if {"id", "stage", "step"} <= set(row)]:
        steps.setdefault((str(line["id"]), str(line["stage"])), {})[line["step"]] = line
    curves = []
    for (name, stage), lines in steps.items():
        rows = [lines[k] for k in sorted(lines)]
        held_out = [(r["step"], r["held_out"]) for r in rows if r.get("held_out") is not None]
        curves.append(Curve(name, stage, [(r["step"], r["loss"]) for r in rows if r.get("loss") is not None], held_out))
    return curves


def _read(path: Path, parse: Callable[[str], Any], default: Any) -> Any:
    """What `parse` makes of a file, or the default where it is missing or damaged: a page is shown without it."""
    try:
        return parse(path.read_text())
    except (OSError, ValueError):
        return default


def as_number(value: Any) -> float:
    """A number of a record, whose nan is null, in older ones NaN."""
    return float("nan") if value is None else float(value)
