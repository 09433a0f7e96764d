"""Runs a plan: tasks x target sizes x seeds x methods, one record each, in a folder that can be resumed.

    RUN/plan.toml          the plan with every setting written out
    RUN/run.json           arguments, seeds, versions, device, hashes of source models and data
    RUN/records.jsonl      one record a run
    RUN/log.jsonl          training progress
    RUN/models/<id>/       fitted models and source models
    RUN/samples/<id>.npz   samples of every method, and of the data that a page draws

A record that is there is not computed again. Nothing is drawn here; `report` reads the records.
"""

import hashlib
import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import __version__, rng, store, watch
from .data import Points, Task
from .denoise import Denoiser, Net
from .errors import BadPlan
from .files import append_line, atomic_file, claim, mend_lines, read_lines, write_json
from .methods.catalog import METHODS, describe
from .metrics.catalog import evaluate
from .plan import QUICK, Plan, reduced, to_toml
from .pretrain import default_training, pretrain, with_steps
from .ratio import LogRatio
from .samplers import sample, sample_labels
from .tasks.catalog import TASKS

SCHEMA = 1
SHOWN = 2000
"""Points of data kept for the page's pictures."""


@dataclass(frozen=True)
class Job:
    """One line of the experiment: a task at one size and seed, and a method.

    Args:
        task, method: Resolved settings with a `name`.
        label: What tells this task entry from the others.
        n_target, seed: Size and seed of the draw.
        id: Name of its record, model and samples.
    """

    task: dict[str, Any]
    method: dict[str, Any]
    label: str
    n_target: int
    seed: int
    id: str


def jobs(plan: Plan) -> list[Job]:
    """Every job of a plan, in the order in which they run."""
    tasks = _labels([f"{e['name']}" if len(TASKS[e["name"]]) == 1 else f"{e['name']}-{e['world']}" for e in plan.task])
    methods = _labels([e["name"] for e in plan.method])
    return [
        Job(entry, method, label, n, seed, f"{label}-n{n}-{method_label}-s{seed}")
        for entry, label in zip(plan.task, tasks, strict=True)
        for n in entry["n_target"]
        for seed in plan.seeds
        for method, method_label in zip(plan.method, methods, strict=True)
    ]


def _labels(names: list[str]) -> list[str]:
    """The names, with a number added to those that occur again."""
    return [name if names[:k].count(name) == 0 else f"{name}-{names[:k].count(name) + 1}" for k, name in enumerate(names)]


def run(
    plan: Plan,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
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
        say: Called with a line as each job starts and ends.
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
    for k, job in enumerate(todo, 1):
        if job.id in done:
            continue
        say(f"[{k}/{len(todo)}] {job.label}, n = {job.n_target}, {job.method['name']}, seed {job.seed}")
        done[job.id] = _Runner(plan, out, device, quiet).run(job)
        say("      " + ", ".join(f"{name} {score['value']:.4g} (floor {score['floor']:.2g})" for name, score in done[job.id]["metrics"].items()))
    return [done[job.id] for job in todo]


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


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"diffgraft": __version__, "python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}}


def describe_device(device: str) -> str:
    """The machine kind, for records."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class _Runner:
    """Runs single jobs of one run folder."""

    plan: Plan
    out: Path
    device: str
    quiet: bool

    def run(self, job: Job) -> dict[str, Any]:
        """Fit, sample, score, save, record."""
        task = make_task(job)
        source = self._source(job, task)
        method = METHODS[job.method["name"]](**{k: v for k, v in job.method.items() if k != "name"})
        checkpoints = self.out / "checkpoints" / job.id
        began = time.monotonic()
        model = method.fit(source, task.data, rng.generator(job.seed, "fit"), watch=self._watch(job.id), folder=checkpoints)
        fit_seconds = time.monotonic() - began
        with counted_passes(model) as passes:
            began = time.monotonic()
            x, y = draw(model, self.plan, rng.split(job.seed, "sample"))
            sample_seconds = time.monotonic() - began
        write_samples(self.out / "samples" / f"{job.id}.npz", Points(x, y), job.seed)
        metrics = evaluate(x, task.test.x, y=y, model=model, train=task.data.target.x, truth=task.truth, generator=rng.generator(job.seed, "evaluate"))
        record = {
            "schema": SCHEMA,
            "id": job.id,
            "task": job.task["name"],
            "label": job.label,
            "task_config": task.config,
            "n_target": job.n_target,
            "method": describe(method),
            "seed": job.seed,
            "metrics": metrics,
            "trained_parameters": trained_parameters(model, source),
            "passes": passes(),
            "fit_seconds": round(fit_seconds, 3),
            "select_seconds": 0.0,
            "sample_seconds": round(sample_seconds, 3),
            "peak_memory": peak_memory(self.device),
            "sampler": self.plan.sampler,
            "steps": self.plan.steps,
            "samples": self.plan.samples,
            "versions": versions(),
            "device": describe_device(self.device),
        }
        origin = {"method": describe(method), "n_target": job.n_target, "seed": job.seed, "fit_seconds": record["fit_seconds"], "metrics": metrics}
        store.save(model, self.out / "models" / job.id, origin=origin, overwrite=True)
        append_line(self.out / "records.jsonl", record)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return record

    def _source(self, job: Job, task: Task) -> Denoiser:
        """The source model of a task and seed: given, kept from before, or trained now."""
        self._keep_data(job, task)
        if self.plan.source.path is not None:
            return store.load(self.plan.source.path).to(self.device)
        name = f"{job.label}-source-s{job.seed}"
        folder = self.out / "models" / name
        if not folder.exists():
            assert task.data.source is not None
            s = self.plan.source
            training = with_steps(default_training(tuple(task.data.source.x.shape[1:])), s.steps)
            training = with_steps(training, training.steps // QUICK if self.plan.profile == "quick" else None)
            chosen = {k: v for k, v in (("batch_size", s.batch_size), ("learning_rate", s.learning_rate)) if v is not None}
            model = pretrain(
                task.data.source,
                rng.split(job.seed, "pretrain"),
                net=s.net,
                training=type(training)(**{**vars(training), **chosen}),
                transform=task.transform,
                device=self.device,
                watch=self._watch(name),
                folder=self.out / "checkpoints" / name,
            )
            store.save(model, folder, origin={"method": "pretrain", "n_source": task.data.source.n, "seed": job.seed}, overwrite=True)
            shutil.rmtree(self.out / "checkpoints" / name, ignore_errors=True)
        self._note_hashes(name, folder, task)
        return store.load(folder).to(self.device)

    def _note_hashes(self, name: str, folder: Path, task: Task) -> None:
        file = self.out / "run.json"
        facts = json.loads(file.read_text())
        if name not in facts["hashes"]:
            facts["hashes"][name] = {"weights": json.loads((folder / "config.json").read_text())["files"], "data": hash_points(task.data.source)}
            write_json(file, facts)

    def _keep_data(self, job: Job, task: Task) -> None:
        """Some of the data, for the page's pictures."""
        for part, pool in (("source", task.data.source), ("target", task.data.target), ("test", task.test)):
            file = self.out / "samples" / f"{job.label}-n{job.n_target}-s{job.seed}-{part}.npz"
            if pool is not None and not file.exists():
                write_samples(file, pool.take(torch.arange(min(SHOWN, pool.n))), job.seed)

    def _watch(self, name: str) -> Callable[..., None]:
        return watch.every(watch.screen(f"      {name} ", self.quiet), watch.log(self.out / "log.jsonl", id=name))


def make_task(job: Job) -> Task:
    """The task of a job."""
    settings = {k: v for k, v in job.task.items() if k not in ("name", "world", "n_target")}
    return TASKS[job.task["name"]][job.task["world"]](n_target=job.n_target, seed=job.seed, **settings)


def draw(model: Denoiser, plan: Plan, seed: int) -> tuple[Tensor, Tensor | None]:
    """A plan's samples of a model, with labels from its prior."""
    y = sample_labels(model, plan.samples, seed)
    x = sample(model, plan.samples, y=y, steps=plan.steps, sampler=plan.sampler, generator=rng.generator(seed))
    return x.cpu(), y


def write_samples(path: Path, pool: Points, seed: int) -> None:
    """Write a sample file: `X` in data units, `y` where labelled, `seed`."""
    arrays: dict[str, Any] = {"X": pool.x.numpy(), "seed": np.int64(seed), **({} if pool.y is None else {"y": pool.y.numpy()})}
    with atomic_file(path) as partial:
        np.savez_compressed(partial, **arrays)


@contextmanager
def counted_passes(model: Denoiser) -> Iterator[Callable[[], float]]:
    """Counts network passes: the value gives passes of all its networks together for one call of the model."""
    rows = {"passes": 0, "calls": 0}

    def count(module: torch.nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        rows["passes"] += len(out)

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, Net | LogRatio)]
    start = model.register_forward_hook(lambda module, args, out: rows.__setitem__("calls", rows["calls"] + len(out)))
    try:
        yield lambda: round(rows["passes"] / max(1, rows["calls"]), 3)
    finally:
        for hook in (*hooks, start):
            hook.remove()


def trained_parameters(model: Denoiser, source: Denoiser) -> int:
    """Parameters of a fitted model that are not the source's."""
    kept = list(source.parameters())
    return sum(p.numel() for p in model.parameters() if not any(p.shape == k.shape and torch.equal(p, k) for k in kept))


def hash_points(pool: Points | None) -> str | None:
    """Hash of a pool's numbers."""
    if pool is None:
        return None
    return hashlib.sha256(b"".join(np.ascontiguousarray(a.numpy()).tobytes() for a in pool if a is not None)).hexdigest()


def peak_memory(device: str) -> int:
    """Most memory that this process has held so far, in MiB: of the device, or of the machine."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() // 2**20
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo // 2**20
