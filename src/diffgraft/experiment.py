"""Runs a plan: tasks x target sizes x seeds x methods, one record each, in a folder that can be resumed.

    RUN/plan.toml          the plan with every setting written out
    RUN/run.json           arguments, seeds, versions, device, hashes of source models and data
    RUN/records.jsonl      one record a run
    RUN/log.jsonl          training progress
    RUN/models/<id>/       fitted models and source models
    RUN/samples/<id>.npz   samples of every method, and of the data that a page draws

A record that is there is not computed again. Nothing is drawn here; `report` reads the records.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .entries import seeds_of, slug
from .errors import BadPlan
from .files import append_line, atomic_file, claim, mend_lines, read_lines, write_json
from .job import Job, Runner, describe_device, versions
from .plan import Plan, method_labels, reduced, task_labels, to_toml


def jobs(plan: Plan) -> list[Job]:
    """Every job of a plan, in the order of its tasks, sizes, seeds and methods."""
    tasks, methods = task_labels(plan.task), method_labels(plan.method)
    return [
        Job(entry, method, slug(label), label, method_label, n, seed, f"{slug(label)}-n{n}-{slug(method_label)}-s{seed}")
        for entry, label in zip(plan.task, tasks, strict=True)
        for n in entry["n_target"]
        for seed in seeds_of(entry, plan.seeds)
        for method, method_label in zip(plan.method, methods, strict=True)
        if n in method.get("n_target", [n])
    ]


def run(
    plan: Plan,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    workers: int = 1,
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
        say: Called with a line as each job ends, and as each starts where one process works.
        quiet: Show no training progress.

    Raises:
        OutputExists: The folder exists and neither flag was given.
        BadPlan: Resuming under another plan.
    """
    out = Path(out)
    claim(out, overwrite=overwrite, resume=resume)
    _open_run(out, plan, device)
    plan = reduced(plan)
    todo = jobs(plan)
    done = {record["id"]: record for record in read_lines(out / "records.jsonl")}
    left = [job for job in todo if job.id not in done]
    began = time.monotonic()
    for k, (job, record, hashes) in enumerate(side_by_side(Runner(plan, out, device, quiet or workers > 1), left, workers, say), 1):
        _note_hashes(out, hashes)
        append_line(out / "records.jsonl", record)
        shutil.rmtree(out / "checkpoints" / job.id, ignore_errors=True)
        done[job.id] = record
        seconds = (time.monotonic() - began) / k * (len(left) - k)
        say(f"[{len(done)}/{len(todo)}] {_headline(job)}: {_scores(record)}; {time_left(seconds)} left")
    return [done[job.id] for job in todo]


def _headline(job: Job) -> str:
    return f"{job.task_label}, n = {job.n_target}, {job.method_label}, seed {job.seed}"


def _scores(record: dict[str, Any]) -> str:
    shown = [name for name in ("energy", "score_error", "kl_generated", "sliced_w2") if name in record["metrics"]][:3]
    return ", ".join(f"{name} {record['metrics'][name]['value']:.4g}" for name in shown)


def time_left(seconds: float) -> str:
    """Seconds, minutes or hours in a word."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def side_by_side(runner: "Runner", todo: list[Job], workers: int, say: Callable[[str], None]) -> Iterator[tuple[Job, dict[str, Any], dict[str, Any]]]:
    """Each job with its record and the hashes of its source, as they end.

    The source model that jobs share is trained first. With several workers, jobs run in processes of their own, which
    write nothing that others write too; Ctrl-C lets each finish its step.
    """
    if workers <= 1 or len(todo) <= 1:
        for job in todo:
            say(f"      {_headline(job)}")
            yield job, runner.run(job), runner.source_hashes(job)
        return
    chains: dict[tuple[str, int], list[Job]] = {}
    for job in todo:
        chains.setdefault((job.label, job.seed), []).append(job)
    threads = max(1, cores() // workers)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,))
    try:
        waiting: dict[Future, list[Job]] = {pool.submit(runner.prepare, chain[0]): chain for chain in chains.values()}
        running: dict[Future, Job] = {}
        while waiting or running:
            for future in wait([*waiting, *running], return_when=FIRST_COMPLETED)[0]:
                if future in waiting:
                    future.result()
                    running |= {pool.submit(runner.run, job): job for job in waiting.pop(future)}
                else:
                    job = running.pop(future)
                    yield job, future.result(), runner.source_hashes(job)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_run(out: Path, plan: Plan, device: str) -> None:
    text = to_toml(plan)
    file = out / "plan.toml"
    for lines in ("records.jsonl", "log.jsonl"):
        mend_lines(out / lines)
    if file.exists() and file.read_text() != text:
        changed = set(file.read_text().splitlines()) ^ set(text.splitlines())
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


def _note_hashes(out: Path, hashes: dict[str, Any]) -> None:
    facts = json.loads((out / "run.json").read_text())
    if any(name not in facts["hashes"] for name in hashes):
        facts["hashes"] |= hashes
        write_json(out / "run.json", facts)
