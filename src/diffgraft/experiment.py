"""Runs a plan: tasks x target sizes x seeds x methods, one record each, in a folder that can be resumed.

    RUN/plan.toml          the plan with every setting written out
    RUN/run.json           arguments, seeds, versions, device, hashes of source models and data
    RUN/records.jsonl      one record a run
    RUN/log.jsonl          training progress
    RUN/models/<id>/       fitted models and source models
    RUN/samples/<id>.npz   samples of every method, and of the data that a page draws
    RUN/features/<id>.npz  features of some samples and of some data, of each task's first seed, where it has features
    RUN/fields/<id>.npz    learned log ratios beside exact ones, in the plane (see `landscapes`), and maps of features (see `embedding`)

A record that is there is not computed again. With several workers only the main process writes records.jsonl and
run.json. Nothing is drawn here; `report` reads the records.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import store
from .costs import describe_device, versions
from .embedding import embed
from .entries import seeds_of, settings, slug
from .errors import BadData, BadPlan, DiffgraftError
from .files import append_line, atomic_file, claim, mend_lines, read_lines, write_json
from .job import Job, Runner, job_id, make_task
from .landscapes import clean_ratios, is_flat, learned_guidance
from .machine import PLAIN, Machine
from .plan import Plan, method_labels, read_plan, reduced, task_labels, to_toml
from .tasks.recordings import look
from .workers import Crew

CLASSIFIER = "those of a classifier trained on labelled data that no test holds"
"""What a task's features are where it does not name them."""


def jobs(plan: Plan) -> list[Job]:
    """Every job of a plan, in the order of its tasks, sizes, seeds and methods."""
    tasks, methods = task_labels(plan.task), method_labels(plan.method)
    return [
        Job(entry, method, slug(label), label, method_label, n, seed, job_id(slug(label), n, method_label, seed))
        for entry, label in zip(plan.task, tasks, strict=True)
        for n in entry["n_target"]
        for seed in seeds_of(entry, plan.seeds)
        for method, method_label in zip(plan.method, methods, strict=True)
        if n in method.get("n_target", [n]) and all(seed in e.get("seeds", [seed]) for e in (entry, method))
    ]


def run(
    plan: Plan,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    workers: int = 1,
    machine: Machine = PLAIN,
    say: Callable[[str], None] = lambda line: None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Run a plan into a folder; returns all its records.

    Args:
        plan: A checked plan.
        out: The run folder.
        resume: Go on in an existing folder; jobs with a record are skipped.
        overwrite: Start an existing folder anew.
        device: Where networks live.
        workers: Processes that work side by side. Records do not depend on it.
        machine: Precision and memory of training and sampling.
        say: Called with a line as each job ends, and as each starts where one process works.
        quiet: Show no training progress.

    Raises:
        OutputExists: The folder exists and neither flag was given.
        BadPlan: Resuming under another plan.
        BadData: Data of a task cannot be used.
    """
    out, asked, plan = Path(out), plan, reduced(plan)
    todo = jobs(plan)
    _check_data(todo, plan, say)
    claim(out, overwrite=overwrite, resume=resume)
    _open_run(out, asked, device)
    done = {record["id"]: record for record in read_lines(out / "records.jsonl")}
    left = [job for job in todo if job.id not in done]
    workers = min(workers, len(left))
    runner = Runner(plan, out, device, quiet or workers > 1, machine)
    ends = _side_by_side(runner, left, workers, say) if workers > 1 else _in_turn(runner, left, say)
    times: list[float] = []
    with closing(ends):
        for k, (job, record, hashes) in enumerate(ends, 1):
            _note_hashes(out, hashes)
            append_line(out / "records.jsonl", record)
            shutil.rmtree(out / "checkpoints" / job.id, ignore_errors=True)
            done[job.id] = record
            times.append(time.monotonic())
            seconds = _seconds_a_job(times, record, workers) * (len(left) - k)
            place = f"[{len(todo) - len(left) + k}/{len(todo)}]"
            say(f"{place} {_headline(job)}: {_scores(record)}; {_spent(record)}" + (f", {time_left(seconds)} left" if k < len(left) else ""))
    _draw_fields(out, todo)
    return [done[job.id] for job in todo]


def found(plan: Plan) -> tuple[list[str], bool]:
    """What lies in the folders of recordings that a plan names, a line or more each, and whether it is enough; all other data are read as a run reads them.

    Raises:
        BadData, BadPlan: As for `run`, but for recordings that cannot be used; their signals are not read.
    """
    entries = [e for e in plan.task if (e["name"], e["world"]) == ("ecg", "folders")]
    seen = [look(n_target=max(e["n_target"]), **settings(e)) for e in entries]
    told = [line for lines, _ in seen for line in lines]
    _check_data([job for job in jobs(plan) if (job.task["name"], job.task["world"]) != ("ecg", "folders")], plan, told.append)
    return told, all(enough for _, enough in seen)


def _check_data(todo: list[Job], plan: Plan, say: Callable[[str], None]) -> None:
    """Make each task once, at each size, so that bad data are named before any training and before anything is overwritten; say what was left out."""
    said: set[str] = set()
    if plan.source.path is not None:
        store.check(plan.source.path)
    for job in {(job.label, job.n_target): job for job in reversed(todo)}.values():
        try:
            task = make_task(job)
            told = [f"{job.task_label}: {line}" for line in task.account]
            for line in told:
                if line not in said:
                    say(line)
            said.update(told)
            if task.data.source is None and plan.source.path is None:
                raise BadData('it has no source data to train a source model on; name a model, [source] path = "MODEL", or give source data')
        except DiffgraftError as error:
            error.args = (f"{job.task_label}, n = {job.n_target}: {error}",)
            raise


def _draw_fields(out: Path, done: list[Job]) -> None:
    """Write what is missing under `fields`, for the first seed of each task and size; models are read, not fitted again."""
    groups: dict[str, list[Job]] = {}
    for job in done:
        members = groups.setdefault(f"{job.label}-n{job.n_target}", [job])
        if job.seed == members[0].seed and job is not members[0]:
            members.append(job)
    for group, members in groups.items():
        task = make_task(members[0])
        if task.features is not None:
            _draw_embedding(out, group, members, str(task.config.get("features") or CLASSIFIER))
        if not is_flat(task):
            continue
        if not list((out / "fields").glob(f"{group}-clean-ratio-*.npz")):
            for name, landscape in clean_ratios(task, members[0].seed):
                landscape.write(out / "fields" / f"{group}-clean-ratio-{name}.npz")
        for job in members:
            at, model = out / "fields" / f"{job.id}.npz", out / "models" / job.id
            if not at.exists() and model.exists() and (guidance := learned_guidance(store.load(model), task)) is not None:
                guidance.write(at)


def _draw_embedding(out: Path, group: str, members: list[Job], features: str) -> None:
    """Write the map of a group's features, unless it is there."""
    file, data = out / "fields" / f"{group}-embedding.npz", f"{group}-s{members[0].seed}"
    kept = {name: out / "features" / f"{name}.npz" for name in (f"{data}-test", f"{data}-source", *(job.id for job in members))}
    clouds = {name: _features(path) for name, path in kept.items() if path.exists()}
    if clouds and not file.exists() and (embedding := embed(clouds, features)) is not None:
        embedding.write(file)


def _features(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file["Z"])


def _headline(job: Job) -> str:
    return f"{job.task_label}, n = {job.n_target}, {job.method_label}, seed {job.seed}"


def _scores(record: dict[str, Any]) -> str:
    shown = [name for name in ("energy", "score_error", "kl_generated", "sliced_w2") if name in record["metrics"]][:3]
    return ", ".join(f"{name} {record['metrics'][name]['value']:.4g}" for name in shown)


def _spent(record: dict[str, Any]) -> str:
    return time_left(_seconds(record))


def _seconds(record: dict[str, Any]) -> float:
    return float(record["fit_seconds"] + record["sample_seconds"])


def _seconds_a_job(times: list[float], record: dict[str, Any], workers: int) -> float:
    """From one end to the next: the mean since the first, before which sources were trained."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else _seconds(record) / max(1, workers)


def time_left(seconds: float) -> str:
    """Seconds, minutes or hours in a word."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


End = tuple[Job, dict[str, Any], dict[str, Any]]
"""A job that ended, with its record and the hashes of its source."""


def _in_turn(runner: Runner, todo: list[Job], say: Callable[[str], None]) -> Generator[End, None, None]:
    for job in todo:
        say(f"      {_headline(job)}")
        yield job, *_ended(runner, job)


def _side_by_side(runner: Runner, todo: list[Job], workers: int, say: Callable[[str], None]) -> Generator[End, None, None]:
    """Jobs as they end in several processes, which write nothing that others write too; shared source models come first."""
    chains: dict[str, list[Job]] = {}
    for job in todo:
        chains.setdefault(f"the source model {runner.source_name(job)}", []).append(job)
    say(f"{len(todo)} jobs, {workers} side by side")
    crew = Crew(workers, partial(torch.set_num_threads, min(torch.get_num_threads(), max(1, cores() // workers))))
    threads = min(torch.get_num_threads(), max(1, cores() // min(workers, len(chains) or 1)))
    for name, chain in chains.items():
        crew.give(name, _prepared, runner, chain[0], threads)
    jobs = {job.id: job for job in todo}
    with closing(crew.results()) as results:
        for name, ended in results:
            for job in chains.get(name, []):
                crew.give(job.id, _ended, runner, job, kind=f"{job.label}-n{job.n_target}-s{job.seed}")  # these share data and classifiers
            if name in jobs:
                yield jobs[name], *ended


def _prepared(runner: Runner, job: Job, threads: int) -> None:
    """Train the source model of a job, on the cores of workers that have nothing to do until it is there."""
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    runner.prepare(job)
    torch.set_num_threads(own)


def _ended(runner: Runner, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record and hashes of a job; what goes wrong in it bears its name."""
    try:
        return runner.run(job), runner.source_hashes(job)
    except DiffgraftError as error:
        error.args = (f"{job.id}: {error}",)
        raise


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_run(out: Path, plan: Plan, device: str) -> None:
    text = to_toml(plan)
    file = out / "plan.toml"
    for lines in ("records.jsonl", "log.jsonl"):
        mend_lines(out / lines)
    if file.exists() and (changed := set(_as_read_today(file).splitlines()) ^ set(text.splitlines())):
        raise BadPlan(f"cannot resume {out}: its plan differs in {'; '.join(sorted(changed))}; use that plan, or --overwrite")
    with atomic_file(file) as partial:
        partial.write_text(text)
    if not (out / "run.json").exists():
        facts = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "arguments": sys.argv[1:],
            "plan": plan.name,
            "seeds": plan.seeds,
            "versions": versions(),
            "device": describe_device(device),
            "hashes": {},
        }
        write_json(out / "run.json", facts)


def _as_read_today(file: Path) -> str:
    """A run's plan with the options that were not there yet when it was written, at their defaults."""
    try:
        return to_toml(read_plan(file))
    except BadPlan:
        return file.read_text()


def _note_hashes(out: Path, hashes: dict[str, Any]) -> None:
    facts = json.loads((out / "run.json").read_text())
    if any(name not in facts["hashes"] for name in hashes):
        facts["hashes"] |= hashes
        write_json(out / "run.json", facts)
