"""One job of an experiment: fit a method on a task, sample, score, save, and the record of it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import rng, store, watch
from .costs import counted_passes, describe_device, peak_memory, trained_parameters, versions
from .data import Data, Points, Prior, Task, hash_points
from .denoise import Denoiser
from .entries import QUICK, seeds_of, settings, slug
from .files import atomic_file, hash_weights, nulled
from .guide import Guided
from .interop.latents import keep_latents
from .machine import PLAIN, Machine, on
from .methods.catalog import METHODS, describe
from .methods.lead import led_by_label
from .methods.start import Leads, Method
from .metrics.case import features_of
from .metrics.catalog import evaluate
from .metrics.neighbours import K_COVERAGE
from .plan import Plan, method_labels
from .pretrain import default_training, pretrain, with_steps
from .sample_files import write_samples
from .samplers import sample, sample_labels
from .schedule import from_config
from .tasks.catalog import TASKS

SCHEMA = 1
SHOWN = 2000
"""Points of data kept for the page's pictures."""
MAPPED = 500
"""Most points of each cloud whose features are kept for the page's map."""
HASHED = 10**7
"""Most numbers of data that a fit hashes for its model folder."""


@dataclass(frozen=True)
class Job:
    """One line of the experiment: a task at one size and seed, and a method.

    Args:
        task, method: Resolved settings with a `name`.
        label: What tells this task entry from the others, as names of files have it.
        task_label, method_label: What task and method are shown as.
        n_target, seed: Size and seed of the draw.
        id: Name of its record, model and samples.
    """

    task: dict[str, Any]
    method: dict[str, Any]
    label: str
    task_label: str
    method_label: str
    n_target: int
    seed: int
    id: str


@dataclass(frozen=True)
class Runner:
    """Runs single jobs of one run folder."""

    plan: Plan
    out: Path
    device: str
    quiet: bool
    machine: Machine = PLAIN

    def run(self, job: Job) -> dict[str, Any]:
        """Fit, sample, score, save, record."""
        with on(self.machine):
            return self._run(job)

    def _run(self, job: Job) -> dict[str, Any]:
        task = make_task(job)
        source, method = self._source(job, task), _method(job.method)
        asked = origin_of(method, task.data, job.seed, {})
        model, fit_seconds = self._fit(job, method, source, task, asked)
        notes = dict(model.notes)
        select_seconds = notes.pop("select_seconds", 0.0)
        spent = {"fit_seconds": round(fit_seconds - select_seconds, 3), "select_seconds": round(select_seconds, 3)}
        samples, cost = self._drawn(job, task, model)
        record = {
            **_names(job),
            "task_config": task.config,
            **({"account": list(task.account)} if task.account else {}),
            "method": describe(method),
            **self._scored(job, task, model, samples),
            "notes": notes,
            "trained_parameters": trained_parameters(model, source),
            **spent,
            **cost,
            "sampler": self.plan.sampler,
            "steps": self.plan.steps,
            "samples": self.plan.samples,
            **({"labels": self.plan.labels} if samples.y is not None else {}),
            "versions": versions(),
            "device": describe_device(self.device),
            **({} if self.machine == PLAIN else {"machine": asdict(self.machine)}),
        }
        origin = {"task": job.task_label, **asked, "notes": notes, **spent, "metrics": nulled(record["metrics"])}
        store.save(model, self.out / "models" / job.id, origin=origin, overwrite=True)
        return record

    def _drawn(self, job: Job, task: Task, model: Denoiser) -> tuple[Points, dict[str, Any]]:
        """A model's samples, which are written, too, and what they cost."""
        weight, bounds = self.plan.label_weight, self.plan.label_interval
        led = weight is not None and model.n_classes > 0 and model.prior is not None
        model = led_by_label(model, weight, bounds) if led and weight is not None else model
        with counted_passes(model) as passes:
            began = time.monotonic()
            with self.machine.autocast(torch.device(self.device).type):
                samples, shares = draw(model, self.plan, rng.split(job.seed, "sample"), task.test.y)
            seconds = time.monotonic() - began
        write_samples(self.out / "samples" / f"{job.id}.npz", samples, job.seed, task.layout)
        self._keep_features(job, task, job.id, samples.x)
        return samples, {
            "passes": passes(self.plan.samples * self.plan.steps if shares else None),
            "sample_seconds": round(seconds, 3),
            **({"label_weight": weight, "label_interval": bounds} if led else {}),
            "peak_memory": peak_memory(self.device),
            **({"particles": self.plan.particles, "effective_share": [round(share, 4) for share in shares]} if shares else {}),
        }

    def _scored(self, job: Job, task: Task, model: Denoiser, samples: Points) -> dict[str, Any]:
        """The scores of samples, and the protocol of those that have one."""
        worth = task.downstream.shorter(QUICK) if self.plan.profile == "quick" and task.downstream else task.downstream
        given: dict[str, Any] = {"train": task.data.target.x, "truth": task.truth, "features": task.features, "measures": task.measures, "downstream": worth}
        given |= {"likelihoods": self.plan.likelihoods, "generator": rng.generator(job.seed, "evaluate")}
        metrics = evaluate(samples.x, tuple(task.test), y=samples.y, model=model, **given)
        return {"metrics": metrics, "coverage_within": K_COVERAGE, **({"downstream": worth.report(samples.n)} if worth and "downstream_auc" in metrics else {})}

    def _fit(self, job: Job, method: Method, source: Denoiser, task: Task, asked: dict[str, Any]) -> tuple[Denoiser, float]:
        """The fitted model, and the seconds that it took; what was fitted before its record was lost, or by another method of the plan, is not done again.

        `asked` is what the fit follows from; see `origin_of`.
        """
        if (kept := self._kept(job.id, asked)) is not None:
            return kept
        began = time.monotonic()
        if isinstance(method, Leads) and (found := self._tuned(job, {**asked, "method": describe(method.tuning())})) is not None:
            tuned, spent = found
            return method.lead(source, tuned), time.monotonic() - began + spent
        model = method.fit(source, task.data, rng.generator(job.seed, "fit"), watch=self._watch(job.id), folder=self.out / "checkpoints" / job.id)
        return model, time.monotonic() - began

    def _tuned(self, job: Job, wanted: dict[str, Any]) -> tuple[Denoiser, float] | None:
        """What some method of the plan made at a job's size and seed, and the seconds that it took; None where none has done what is wanted."""
        ids = [job_id(job.label, job.n_target, label, job.seed) for label in method_labels(self.plan.method)]
        return next((found for name in ids if (found := self._kept(name, wanted)) is not None), None)

    def _kept(self, name: str, wanted: dict[str, Any]) -> tuple[Denoiser, float] | None:
        """The model of that name and the seconds that its fit took, if it is there and of the method, data and seed wanted."""
        folder = self.out / "models" / name
        if not (folder / "config.json").is_file():
            return None
        origin = json.loads((folder / "config.json").read_text())["origin"]
        if any(origin.get(key) != wanted[key] for key in ("method", "data", "seed")):
            return None
        model, selected = store.load(folder).to(self.device), origin.get("select_seconds", 0.0)  # folders of older runs do not tell
        model.notes = {**origin["notes"], "select_seconds": selected}
        return model, origin["fit_seconds"] + selected

    def prepare(self, job: Job) -> None:
        """Train the source model of a job's task and seed, if it is not there."""
        with on(self.machine):
            self._source(job, make_task(job))

    def _source(self, job: Job, task: Task) -> Denoiser:
        """The source model of a task and seed: given, kept from before, or trained now."""
        self._keep_data(job, task)
        if self.plan.source.path is not None:
            return keep_latents(store.load(self.plan.source.path), self.out / "latents").to(self.device)
        folder = self.out / "models" / self.source_name(job)
        if not folder.exists():
            seed = self._source_seed(job)
            self._pretrain(seed, task if seed == job.seed else make_task(replace(job, seed=seed)), folder)
        return store.load(folder).to(self.device)

    def source_name(self, job: Job) -> str:
        """Name of the source model of a job's task and seed, or of the seed that the plan names."""
        return f"{job.label}-source-s{self._source_seed(job)}"

    def _source_seed(self, job: Job) -> int:
        return job.seed if self.plan.source.seed is None else self.plan.source.seed

    def _pretrain(self, seed: int, task: Task, folder: Path) -> None:
        assert task.data.source is not None
        s, pool = self.plan.source, task.data.source
        training = with_steps(default_training(tuple(pool.x.shape[1:])), s.steps)
        training = with_steps(training, training.steps // QUICK if self.plan.profile == "quick" else None)
        chosen: dict[str, Any] = {k: v for k, v in (("batch_size", s.batch_size), ("learning_rate", s.learning_rate)) if v is not None}
        checkpoints = self.out / "checkpoints" / folder.name
        model = pretrain(
            pool,
            rng.split(seed, "pretrain"),
            net=s.net,
            settings=s.of_net,
            schedule=None if s.schedule is None else from_config({"name": s.schedule}),
            training=replace(training, **chosen),
            transform=task.transform,
            layout=task.layout,
            device=self.device,
            watch=self._watch(folder.name),
            folder=checkpoints,
        )
        origin = {"method": "pretrain", "n_source": pool.n, "seed": seed, "data": hash_points(pool)}
        store.save(model, folder, origin=origin, overwrite=True)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def source_hashes(self, job: Job) -> dict[str, Any]:
        """Hashes of the weights of a job's source model and of the data that it was trained on, by its name."""
        name = self.source_name(job)
        config = self.out / "models" / name / "config.json"
        if not config.exists():
            return {}
        facts = json.loads(config.read_text())
        return {name: {"weights": facts["files"], "data": facts["origin"].get("data")}}

    def _keep_data(self, job: Job, task: Task) -> None:
        """Some of the data, for the page's pictures, and how records were split."""
        if task.split is not None and not (table := self.out / "splits" / f"{job.label}.csv").exists():
            with atomic_file(table) as partial:
                partial.write_text("record,fold\n" + "".join(f"{name},{fold}\n" for name, fold in task.split.items()))
        for part, pool in (("source", task.data.source), ("target", task.data.target), ("test", task.test)):
            file = self.out / "samples" / f"{job.label}-n{job.n_target}-s{job.seed}-{part}.npz"
            if pool is not None and not file.exists():
                write_samples(file, pool.take(torch.arange(min(SHOWN, pool.n))), job.seed, task.layout)
            if pool is not None and part != "target":
                self._keep_features(job, task, file.stem, pool.x)

    def _keep_features(self, job: Job, task: Task, name: str, x: Tensor) -> None:
        """Features of some points, where the task has features, of its first seed: for the page's map."""
        file = self.out / "features" / f"{name}.npz"
        if task.features is None or job.seed != seeds_of(job.task, self.plan.seeds)[0] or file.exists():
            return
        some = x[torch.randperm(len(x), generator=rng.generator(job.seed, "map"))[:MAPPED]]
        with atomic_file(file) as partial:
            np.savez_compressed(partial, Z=features_of(task.features, some).cpu().numpy())

    def _watch(self, name: str) -> Callable[..., None]:
        return watch.every(watch.screen(f"      {name} ", self.quiet), watch.log(self.out / "log.jsonl", id=name))


def _names(job: Job) -> dict[str, Any]:
    """What a record is called."""
    named = {"id": job.id, "task": job.task["name"], "label": job.label, "task_label": job.task_label, "method_label": job.method_label}
    return {"schema": SCHEMA, **named, "n_target": job.n_target, "seed": job.seed}


def _method(entry: dict[str, Any]) -> Method:
    found: Method = METHODS[entry["name"]](**settings(entry))
    return found


def job_id(label: str, n_target: int, method_label: str, seed: int) -> str:
    """Name of a job's record, model and samples."""
    return f"{label}-n{n_target}-{slug(method_label)}-s{seed}"


def origin_of(method: Method, data: Data, seed: int, notes: dict[str, Any]) -> dict[str, Any]:
    """What a model folder tells of a fit: the method, which settings of it are not the defaults, the data, and what it noted."""
    settings, defaults = describe(method), describe(type(method)())
    pools = {"target": data.target, "source": data.source}
    return {
        "method": settings,
        "changed": {key: value for key, value in settings.items() if value != defaults[key]},
        "n_target": data.target.n,
        **({"flip": True} if data.flip else {}),
        **({} if data.source is None else {"n_source": data.source.n}),
        "data": {part: hash_points(pool) for part, pool in pools.items() if pool is not None and pool.x.numel() <= HASHED},
        "seed": seed,
        "notes": notes,
    }


def asked_of(method: Method, source: Denoiser | None, data: Data, seed: int) -> dict[str, Any]:
    """What a fit follows from, in words that people know: where it is resumed, all of it has to be the same."""
    pools = {"target data": data.target, "source data": data.source}
    return {
        "method or settings": describe(method),
        "source model": None if source is None else hash_weights(source),
        **{name: None if pool is None else hash_points(pool) if pool.x.numel() <= HASHED else pool.n for name, pool in pools.items()},
        "flip": data.flip,
        "seed": seed,
    }


def make_task(job: Job) -> Task:
    """The task of a job."""
    return TASKS[job.task["name"]][job.task["world"]](n_target=job.n_target, seed=job.seed, **settings(job.task))


def draw(model: Denoiser, plan: Plan, seed: int, held_out: Tensor | None = None) -> tuple[Points, list[float]]:
    """A plan's samples of a model, and the effective share of particles at each step where they are corrected.

    Labels come from the model's prior, or are as frequent as the held-out ones where the plan says so.
    """
    y = sample_labels(model, plan.samples, seed)
    if plan.labels == "test" and y is not None and (prior := Prior.fit(held_out)) is not None:
        y = prior.draw(plan.samples, seed)
    shares: list[float] = []
    particles = plan.particles if isinstance(model, Guided) else None
    x = sample(model, plan.samples, y=y, steps=plan.steps, sampler=plan.sampler, particles=particles, generator=rng.generator(seed), trace=shares)
    return Points(x.cpu(), y), shares
