"""Plans: which methods run on which tasks, from a TOML file, checked as a whole before anything runs.

Unknown keys and wrong values are all reported at once, each with the nearest valid key.
"""

import inspect
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from .ecg.layouts import is_recordings
from .entries import QUICK_LIKELIHOODS, QUICK_SAMPLES, QUICK_STEPS, clashes, labels, quick_method, quick_task, slug
from .errors import BadPlan, nearest
from .methods.catalog import METHODS
from .methods.lead import limited
from .nets.catalog import NETS, PRESETS, check_net
from .nets.s4 import Kind
from .samplers import SAMPLERS
from .tasks.catalog import TASKS

NOT_SET = ("seed", "schedule")
"""Arguments of a task that the experiment sets itself."""
OF_ONE_WORLD = ("labels", "label_weight", "label_interval")
"""Settings of a plan that hold for its own world, not for folders that are given to it."""


class SourceEntry(BaseModel):
    """How the source model is made: trained with these settings, or read from `path`. `width`, `depth`, `patch` and `kind` are the network's own settings,
    and a `preset` names a set of them, such as "small" and "paper" of sssd. With a `seed`, the source data of that seed train one model for all seeds, as where
    one pretrained model is adapted to several draws; not for tasks whose held-out data and source data are cut from the same pool.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    path: str | None = None
    net: str | None = None
    preset: str | None = None
    width: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)
    patch: int | None = Field(None, ge=1)
    kind: Kind | None = None
    schedule: Literal["vp", "cosine", "rectified"] | None = None
    seed: int | None = None
    steps: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)

    @property
    def of_net(self) -> dict[str, Any]:
        """The network's own settings."""
        given = {key: value for key in ("width", "depth", "patch", "kind") if (value := getattr(self, key)) is not None}
        return {**PRESETS.get(self.net or "", {}).get(self.preset or "", {}), **given}


class Plan(BaseModel):
    """A checked plan. `task` and `method` are lists of settings, each with a `name`.

    Both may have a `label` to be shown by; a task has its sizes `n_target` and may have its own `seeds`; a method
    with `n_target` or `seeds` runs at these sizes and seeds only. With `particles` samples of guided methods are corrected in
    groups of so many (see `particles`), those of other methods are drawn plainly. Labels of samples are as frequent as in the points that methods
    see, or, with `labels` "test", as in the held-out ones, which compares what methods do at a label, not how well few points tell its
    frequency. With a `label_weight` conditional models of every method are led by their own labels (see `methods.lead.led_by_label`), in a
    `label_interval` of log-SNR where one is given. A model's density, the dearest score, is computed at
    `likelihoods` held-out points at most (see `evaluate`).
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    profile: Literal["full", "quick"] = "full"
    seeds: list[int] = Field([0], min_length=1)
    samples: int = Field(10_000, ge=2)
    steps: int = Field(25, ge=1)
    sampler: str = "dpmpp_2m"
    labels: Literal["target", "test"] = "target"
    label_weight: float | None = None
    label_interval: list[float] | None = None
    particles: int | None = Field(None, ge=2)
    likelihoods: int | None = Field(None, ge=10)
    task: list[dict[str, Any]] = Field(min_length=1)
    source: SourceEntry = SourceEntry()
    method: list[dict[str, Any]] = Field(min_length=1)


def read_plan(path: str | Path, changes: list[str] | None = None, seeds: list[int] | None = None) -> Plan:
    """A plan from a TOML file.

    Args:
        path: The file.
        changes: "KEY=VALUE" settings that replace the file's: `steps=50`, `source.steps=100`, `method.tgdp.weight=0.5`.
        seeds: Replace the plan's, and those of its tasks.

    Raises:
        BadPlan: No such file, not TOML, unknown keys or wrong values; one line each.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"plan {path}: cannot be read ({error}); give a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise BadPlan(f"plan {path}: not valid TOML: {error}") from None
    for change in changes or []:
        _set(raw, change)
    _on_folders(raw, {change.partition("=")[0].strip() for change in changes or []})
    if seeds:
        raw["seeds"] = list(seeds)
        for kind in ("task", "method"):
            raw[kind] = [{k: v for k, v in e.items() if k != "seeds"} if isinstance(e, dict) else e for e in raw.get(kind, [])]
    return check_plan(raw)


def check_plan(raw: dict[str, Any]) -> Plan:
    """The plan that a dictionary describes, resolved: every setting of every task and method is written out.

    Raises:
        BadPlan: Everything that is wrong with it, one line each.
    """
    errors: list[str] = []
    try:
        plan = Plan.model_validate(raw)
    except ValidationError as error:
        errors += _explain(error, "plan", {name: list(model.model_fields) for name, model in (("", Plan), ("source", SourceEntry))})
        entries = {kind: [e for e in raw.get(kind, []) if isinstance(e, dict)] if isinstance(raw.get(kind), list) else [] for kind in ("task", "method")}
        plan = Plan.model_construct(**{**raw, **entries, "source": SourceEntry()})
    else:
        for name, known in ((plan.sampler, SAMPLERS), (plan.source.net, NETS)):
            if name is not None and name not in known:
                errors.append(f"unknown name '{name}'; {nearest(name, known)}")
        net, preset, presets = plan.source.net, plan.source.preset, PRESETS.get(plan.source.net or "", {})
        if preset is not None and preset not in presets:
            errors.append(f"source.preset: net '{net}' has no preset '{preset}'; {nearest(preset, presets) if presets else 'leave it out'}")
        if net in NETS:
            try:
                check_net(net, plan.source.of_net)
            except BadPlan as error:
                errors.append(f"source: {error}")
        if plan.particles is not None and plan.sampler != "ddpm":
            errors.append(f'plan.particles: particles need fresh noise at every step, which {plan.sampler} does not take; set sampler = "ddpm"')
        errors += _of_labels(plan)
    task, method = ([_entry(e, kind, errors) for e in getattr(plan, kind)] for kind in ("task", "method"))
    if not errors:
        found = [("task", clashes(task, task_labels(task), shared=True)), ("method", clashes(method, method_labels(method)))]
        errors = [f"[[{kind}]]: two entries are called '{name}'; give them different labels" for kind, names in found for name in names]
    if errors:
        raise BadPlan("\n".join(errors))
    return plan.model_copy(update={"task": task, "method": method})


def _of_labels(plan: Plan) -> list[str]:
    """What is wrong with how a plan's samples are led by labels."""
    if plan.label_weight is None:
        return [] if plan.label_interval is None else ["plan.label_interval: it bounds a label_weight, and there is none; give one"]
    if plan.particles is not None:
        return ["plan.label_weight: particles follow a ratio alone; drop particles or the label weight"]
    try:
        limited(plan.label_weight, plan.label_interval)
    except BadPlan as error:
        return [f"plan.label_{error}"]
    return []


def _entry(entry: dict[str, Any], kind: str, errors: list[str]) -> dict[str, Any]:
    """One task or method with all its settings; what is wrong with it goes to `errors`."""
    name, known = str(entry.get("name")), TASKS if kind == "task" else METHODS
    if name not in known:
        errors.append(f"[[{kind}]]: unknown name '{name}'; {nearest(name, known)}")
        return entry
    own = _own_keys(entry, kind, f"[[{kind}]] {name}", errors)
    if kind == "method":
        return {"name": name, **own, **check_settings(METHODS[name], _given(entry, own), f"[[method]] {name}", errors)}
    worlds = TASKS[name]
    world = entry.get("world", next(iter(worlds)))
    if world not in worlds:
        errors.append(f"[[task]] {name}: unknown world '{world}'; {nearest(str(world), worlds)}")
        return entry
    counts = own.pop("n_target", [inspect.signature(worlds[world]).parameters["n_target"].default])
    checked = check_settings(worlds[world], _given(entry, {**own, "world": world}), f"[[task]] {name}", errors)
    return {"name": name, "world": world, **own, **checked, "n_target": counts}


def _given(entry: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in (*own, "name", "n_target")}


def _own_keys(entry: dict[str, Any], kind: str, where: str, errors: list[str]) -> dict[str, Any]:
    """What an entry may say of itself: a `label` to be shown by, the target sizes and the seeds it runs at."""
    own: dict[str, Any] = {}
    if "label" in entry:
        own["label"] = entry["label"]
        if not isinstance(entry["label"], str) or not slug(entry["label"]):
            errors.append(f"{where}: label must be a text with a letter or digit, got {entry['label']!r}")
    least = {"n_target": 2, "seeds": 0}
    for key in [key for key in least if key in entry]:
        own[key] = entry[key] if isinstance(entry[key], list) else [entry[key]]
        if not own[key] or not all(type(n) is int and n >= least[key] for n in own[key]):
            errors.append(f"{where}: {key} must be whole numbers of at least {least[key]}, got {own[key]}")
    return own


def task_labels(entries: list[dict[str, Any]]) -> list[str]:
    """What each task of a plan is shown as, by default by its name, and its world where there are several."""
    bases = [e["name"] if len(TASKS[e["name"]]) == 1 else f"{e['name']}-{e['world']}" for e in entries]
    return labels(entries, bases, shared=True)


def method_labels(entries: list[dict[str, Any]]) -> list[str]:
    """What each method of a plan is shown as."""
    return labels(entries, [e["name"] for e in entries])


def check_settings(make: Callable[..., Any], settings: dict[str, Any], where: str, errors: list[str]) -> dict[str, Any]:
    """All settings that `make` takes, the given ones checked against its signature; errors are collected, not raised."""
    parameters = {k: p for k, p in inspect.signature(make, eval_str=True).parameters.items() if k not in NOT_SET}
    fields: dict[str, Any] = {k: (p.annotation, p.default) for k, p in parameters.items()}
    model = create_model("Settings", __config__=ConfigDict(extra="forbid", strict=True), **fields)
    try:
        checked = model.model_validate(settings).model_dump(exclude={"n_target"})
    except ValidationError as error:
        errors += _explain(error, where, {"": list(fields)})
        return settings
    return {k: v for k, v in checked.items() if v is not None}


def make_method(name: str, settings: dict[str, Any]) -> Any:
    """A method by its id with checked settings.

    Raises:
        BadPlan: Everything that is wrong, one line each.
    """
    errors: list[str] = []
    if name not in METHODS:
        raise BadPlan(f"unknown method '{name}'; {nearest(name, METHODS)}")
    checked = check_settings(METHODS[name], settings, name, errors)
    if errors:
        raise BadPlan("\n".join(errors))
    return METHODS[name](**checked)


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """Settings from "KEY=VALUE" texts; values as in TOML, anything else is a string."""
    settings = {}
    for change in changes:
        key, eq, text = change.partition("=")
        if not eq or not key:
            raise BadPlan(f"--set takes KEY=VALUE, got '{change}'")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = text
    return settings


def to_toml(plan: Plan) -> str:
    """The plan as a TOML file that reads back equal."""
    data = plan.model_dump(exclude_none=True)
    top = [f"{k} = {json.dumps(v)}" for k, v in data.items() if not isinstance(v, dict) and k not in ("task", "method")]
    tables = [("[source]", data["source"]), *(("[[task]]", e) for e in data["task"]), *(("[[method]]", e) for e in data["method"])]
    return "\n".join([*top, *(f"\n{head}\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in body.items()) for head, body in tables)]) + "\n"


def _set(raw: dict[str, Any], change: str) -> None:
    ((key, value),) = parse_changes([change]).items()
    head, *rest = key.split(".")
    if not rest:
        raw[head] = value
    elif len(rest) == 1:
        raw.setdefault(head, {})[rest[0]] = value
    else:
        entries = [e for e in raw.get(head, []) if isinstance(e, dict) and e.get("name") == rest[0]]
        if not entries:
            raise BadPlan(f"--set {change}: the plan has no [[{head}]] named '{rest[0]}'")
        for entry in entries:
            entry[".".join(rest[1:])] = value


def _on_folders(raw: dict[str, Any], asked: set[str]) -> None:
    """A plan with `target.path`, and the source's data as `source.path`: its first task "ecg" runs on these two folders of recordings, others do not.

    What the plan has found out about the labels of its own world it does not know of others: that stays where it was asked for.
    """
    if "target" not in raw:
        _check_model(raw)
        return
    paths = {kind: raw[kind].pop("path", None) if isinstance(raw.get(kind), dict) else None for kind in ("source", "target")}
    tasks = [entry for entry in raw.get("task", []) if isinstance(entry, dict) and entry.get("name") == "ecg"]
    if raw.pop("target") or None in paths.values() or not tasks:
        raise BadPlan("target.path names the folder of a target's recordings, for plans of tasks 'ecg'; give source.path, the source's folder, beside it")
    kept = {key: value for key, value in tasks[0].items() if key not in ("label", "world")}
    raw["task"] = [{**kept, "world": "folders", **paths}]
    for key in OF_ONE_WORLD:
        if key not in asked:
            raw.pop(key, None)


def _check_model(raw: dict[str, Any]) -> None:
    """Refuse a folder of recordings as the source model's."""
    path = raw["source"].get("path") if isinstance(raw.get("source"), dict) else None
    if isinstance(path, str) and Path(path).is_dir() and is_recordings(Path(path)):
        raise BadPlan(
            f"source.path names a source model, {path} holds ECG recordings; name the target's recordings beside it by target.path, in a plan of tasks 'ecg'"
        )


def _explain(error: ValidationError, where: str, known: dict[str, list[str]]) -> list[str]:
    """One line for each thing that is wrong; a value that may be of several kinds is told of them all."""
    lines: list[str] = []
    values: dict[tuple[str, str], list[str]] = {}
    for e in error.errors():
        *path, key = [str(part) for part in e["loc"]]
        if path and isinstance(e["loc"][-1], str) and ".".join(path) not in known:
            key = path.pop()  # what pydantic appends is one of the kinds
        place = ".".join([where, *path])
        if e["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key '{key}'; {nearest(key, known.get('.'.join(path), []))}")
        elif e["type"] == "missing":
            lines.append(f"{place}: '{key}' is missing; add it")
        else:
            values.setdefault((f"{place}.{key}", repr(e["input"])), []).append(e["msg"][0].lower() + e["msg"][1:])
    return lines + [f"{place}: {', or '.join(told)}, got {value}" for (place, value), told in values.items()]


def reduced(plan: Plan) -> Plan:
    """What actually runs: the plan itself, or under the quick profile a tenth of its training, one seed, one size of each task, half the samples."""
    if plan.profile == "full":
        return plan
    entries = {"task": [quick_task(e) for e in plan.task], "method": [quick_method(e) for e in plan.method]}
    fewer = {
        "samples": max(2, min(plan.samples // 2, QUICK_SAMPLES)),
        "steps": min(plan.steps, QUICK_STEPS),
        "likelihoods": min(plan.likelihoods or QUICK_LIKELIHOODS, QUICK_LIKELIHOODS),
    }
    return plan.model_copy(update={"seeds": plan.seeds[:1], **fewer, **entries})
