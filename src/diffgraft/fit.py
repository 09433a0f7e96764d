r"""The training loop: one generator for every network of this package.

Each random number of a step is a function of the seed and the step (`Draw`), drawn for the whole batch and then cut to
this process's share. So a resumed run, and a run on any number of processes, follow the same path; the state is the
step, the weights, their average and the optimiser's moments, kept in safetensors. The learning rate is a function of
the step too. accelerate places the processes and gathers; data order, randomness and checkpoints stay here.

The weights that count are an exponential moving average (EMA), with its decay warmed up, $\min(d, (1 + k) / (10 + k))$,
so that a short run is not the average of its start. With a held-out loss, taken at fixed times and noise, the best
average is kept and training stops after `patience` checks without a better one.
"""

import atexit
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoints
from .draw import Draw
from .errors import BadModel, BadPlan, OutOfMemory
from .interrupts import finish_on_interrupt
from .machine import Machine, current


@dataclass(frozen=True)
class Training:
    """How long and how fast to train.

    Args:
        steps: Optimiser steps.
        batch_size: Samples a step, over all processes.
        learning_rate: Peak; linear warm-up, then cosine to zero.
        warmup: Steps of warm-up.
        ema: Decay of the weights' average.
        clip: Bound on the gradient's norm.
        check_every: Steps between held-out checks.
        checked: Noised samples of a check, always the same ones; by default as many as a batch.
        patience: Checks without a better one before training stops.
        checkpoint_every: Steps between checkpoints.
        balanced: Of denoisers, divide the loss at each noise level by its mean there, which is learned beside the network. The ends, where
            much of the loss cannot be learned away, do not drown the middle then, where structure forms.

    Reference:
        Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, 2024, arXiv 2312.02696 (balanced noise levels).
    """

    steps: int = 2000
    batch_size: int = 512
    learning_rate: float = 2e-3
    warmup: int = 100
    ema: float = 0.995
    clip: float = 1.0
    check_every: int = 100
    checked: int | None = None
    patience: int = 10
    checkpoint_every: int = 500
    balanced: bool = False

    def rate_at(self, step: int) -> float:
        """The learning rate of one step."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Progress:
    """Where a training run stands; one line of its log.

    Args:
        stage: Which network is trained.
        step, steps: Steps done, steps planned.
        loss: Mean training loss since the last report; None while nothing is learned yet.
        held_out: Held-out loss of the averaged weights, where it was checked.
        learning_rate: Of the last step.
        seconds, seconds_left: Time spent and estimated.
        averaged: Puts the averaged weights into the network for a block, `with progress.averaged(): ...`.
        model: The denoiser that is trained, where there is one to be sampled.
    """

    stage: str
    step: int
    steps: int
    loss: float | None
    held_out: float | None
    learning_rate: float
    seconds: float
    seconds_left: float
    averaged: Callable[[], AbstractContextManager[None]] = field(default=nullcontext, repr=False, compare=False)
    model: Any = field(default=None, repr=False, compare=False)


Watch = Callable[[Progress], None]


Loss = Callable[[Draw], Tensor]


def train(
    module: nn.Module,
    loss: Loss,
    settings: Training,
    seed: int,
    *,
    held_out: Loss | None = None,
    stage: str = "net",
    folder: Path | None = None,
) -> Iterator[Progress]:
    """Train the parameters of `module` that require gradients; at the end they are the averaged, best ones.

    Args:
        module: Its parameters are trained in place.
        loss: Per-sample loss (b,) on the numbers of a `Draw`.
        settings: Length and speed.
        seed: Everything random follows from it.
        held_out: Per-sample loss on held-out data; switches early stopping on.
        stage: Name of this network in logs and checkpoints.
        folder: For checkpoints; a run that finds some there goes on from the last.

    Yields:
        Progress, about a hundred times and at each held-out check.

    Raises:
        BadModel: The loss became infinite or nan; the step is named.
        OutOfMemory: The GPU's memory is too small; the last step that was done is saved.
        KeyboardInterrupt: After Ctrl-C, once the step is finished and saved.
    """
    loop = _Loop(module, settings, seed, Checkpoints(folder and folder / stage, {"stage": stage, "seed": seed, **asdict(settings)}))
    loop.restore()
    began, first, report_every = time.monotonic(), loop.step, max(1, settings.steps // 100)
    with finish_on_interrupt() as interrupted, prepared(module, loop.machine):
        while loop.step < settings.steps and not loop.done:
            try:
                checked = loop.check(held_out) if held_out and loop.step % settings.check_every == 0 else None
                loop.advance(loss)
            except torch.OutOfMemoryError:
                loop.save()
                raise OutOfMemory(settings.batch_size, loop.machine.accumulate) from None
            if interrupted():
                loop.save()
                raise KeyboardInterrupt
            if checked is not None or loop.step % report_every == 0:
                seconds = time.monotonic() - began
                left = seconds / (loop.step - first) * (settings.steps - loop.step)
                yield Progress(stage, loop.step, settings.steps, loop.mean_loss(), checked, settings.rate_at(loop.step - 1), seconds, left, loop.averaged)
            if loop.step % settings.checkpoint_every == 0:
                loop.save()
    if held_out and not loop.done:
        loop.check(held_out)
    loop.done = True
    loop.save()
    loop.finish()


def follow(training: Iterator[Progress], watch: Watch | None, model: Any = None) -> None:
    """Train to the end, telling `watch` of each progress, with the denoiser that is trained."""
    for progress in training:
        if watch:
            watch(replace(progress, model=model))


class _Loop:
    """State and moves of one training run."""

    def __init__(self, module: nn.Module, settings: Training, seed: int, checkpoints: Checkpoints) -> None:
        from accelerate import Accelerator

        self.module, self.settings, self.seed, self.checkpoints = module, settings, seed, checkpoints
        self.params = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self.params:
            raise BadModel("nothing to train: no parameter of this network requires a gradient")
        first = next(iter(self.params.values()))
        self.device = first.device
        self.optimizer = torch.optim.Adam(self.params.values(), lr=settings.learning_rate)
        self.machine = current()
        self.accelerator = Accelerator(cpu=self.device.type == "cpu")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.machine.precision == "fp16")
        if self.machine.accumulate > settings.batch_size:
            raise BadPlan(f"a batch of {settings.batch_size} cannot be cut into {self.machine.accumulate} parts; lower --accumulate")
        if self.accelerator.num_processes > 1:
            _leave_group_at_exit()
        self.average = {name: p.detach().clone() for name, p in self.params.items()}
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.stale, self.step, self.done = math.inf, 0, 0, False
        self.losses = torch.zeros(2, dtype=torch.float64, device=self.device)  # sum and count since the last report

    def draw(self, step: int, part: int = 0) -> Draw:
        """The numbers of a step: this process's share, or a part of it where a batch is cut into several."""
        a, parts = self.accelerator, self.machine.accumulate
        return Draw(self.seed, step, self.settings.batch_size, a.process_index * parts + part, a.num_processes * parts, self.device)

    def advance(self, loss: Loss) -> None:
        """One optimiser step."""
        self.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate_at(self.step)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in range(self.machine.accumulate):
            with self.machine.autocast(self.device.type):
                share = loss(self.draw(self.step, part)).sum() / self.settings.batch_size
            self.scaler.scale(share).backward()
            total += share.detach().double()
        self._add_over_processes()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.params.values(), self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.params.values()], 1 - decay)
        self.losses += torch.stack([total, torch.ones_like(self.losses[1]) / self.accelerator.num_processes])
        self.step += 1

    def _add_over_processes(self) -> None:
        """Sum gradients over processes, in one flat buffer; each loss is already its share of the batch mean."""
        if self.accelerator.num_processes == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.params.values()]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), "sum")
        for p, g in zip(self.params.values(), flat.split([p.numel() for p in self.params.values()]), strict=True):
            p.grad = g.view_as(p)

    def mean_loss(self) -> float:
        """Mean loss since the last call, over all processes."""
        total, count = self.accelerator.reduce(self.losses, "sum").tolist() if self.accelerator.num_processes > 1 else self.losses.tolist()
        self.losses.zero_()
        if not math.isfinite(total):
            raise BadModel(f"training diverged: the loss is {total} at step {self.step}; lower learning_rate or check the data's scale")
        return total / count

    @torch.no_grad()
    def check(self, held_out: Loss) -> float:
        """Held-out loss of the averaged weights, at fixed times and noise; keeps the best and counts the stale."""
        with self.averaged():
            value = float(held_out(Draw(self.seed, -1, self.settings.checked or self.settings.batch_size, device=self.device)).double().mean())
        if value < self.best_loss:
            self.best_loss, self.stale, self.best = value, 0, {name: a.clone() for name, a in self.average.items()}
        else:
            self.stale += 1
        self.done = self.stale >= self.settings.patience
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the network, and the network in evaluation mode, for a block."""
        raw = {name: p.detach().clone() for name, p in self.params.items()}
        self._load(self.average)
        self.module.eval()
        try:
            yield
        finally:
            self._load(raw)

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, p in self.params.items():
            p.copy_(weights[name])

    def save(self) -> None:
        """Write a checkpoint, from the main process."""
        if self.accelerator.is_main_process:
            tensors = {f"{kind}/{name}": a for kind, part in self._parts().items() for name, a in part.items()}
            state = {"step": self.step, "best_loss": self.best_loss, "stale": self.stale, "done": self.done, "scale": self.scaler.get_scale()}
            self.checkpoints.write(self.step, {**tensors, "losses": self.losses}, state)

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        moments: dict[str, dict[str, Tensor]] = {"exp_avg": {}, "exp_avg_sq": {}, "count": {}}
        for name, p in self.params.items():
            state = self.optimizer.state.get(p, {})
            for kind, key in (("exp_avg", "exp_avg"), ("exp_avg_sq", "exp_avg_sq"), ("count", "step")):
                if key in state:
                    moments[kind][name] = state[key]
        return {"raw": {name: p.detach() for name, p in self.params.items()}, "average": self.average, "best": self.best, **moments}

    def restore(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        found = self.checkpoints.latest(self.device)
        if found is None:
            return
        tensors, state = found
        parts: dict[str, dict[str, Tensor]] = {}
        self.losses = tensors.pop("losses")
        for key, value in tensors.items():
            kind, name = key.split("/", 1)
            parts.setdefault(kind, {})[name] = value
        self._load(parts["raw"])
        self.average = {name: parts["average"][name] for name in self.params}  # in the order of the parameters, not of the file
        self.best = parts.get("best", {})
        for name, p in self.params.items():
            if name in parts.get("count", {}):  # a parameter that no loss has touched yet has no moments
                # Adam keeps its step count on the CPU
                count = parts["count"][name].cpu()
                self.optimizer.state[p] = {"step": count, "exp_avg": parts["exp_avg"][name], "exp_avg_sq": parts["exp_avg_sq"][name]}
        self.step, self.best_loss, self.stale, self.done = state["step"], state["best_loss"], state["stale"], state["done"]
        if self.scaler.is_enabled():
            self.scaler.update(state["scale"])

    def finish(self) -> None:
        """Leave the averaged weights, the best where they were checked, in the module."""
        self._load(self.best or self.average)
        self.module.eval()


@contextmanager
def prepared(module: nn.Module, machine: Machine) -> Iterator[None]:
    """A network as a machine wants it trained, for a block: with gradient checkpointing, compiled.

    Raises:
        BadPlan: It cannot compute its activations again.
    """
    if machine.checkpointing:
        set_checkpointing(module, True)
    if machine.compiled:
        module.compile()
    try:
        yield
    finally:
        if machine.checkpointing:
            set_checkpointing(module, False)
        if machine.compiled:
            module._compiled_call_impl = None  # what `compile` set: a copy of the network, or its folder, has no use for it


def set_checkpointing(module: nn.Module, on: bool) -> None:
    """Switch gradient checkpointing of a network's parts.

    Raises:
        BadPlan: No part of it can do it.
    """
    parts: list[Any] = [part for part in module.modules() if getattr(part, "_supports_gradient_checkpointing", False)]
    if not parts:
        raise BadPlan("no part of this network can compute its activations again, which networks of diffusers can; drop --checkpointing")
    for part in parts:
        part.enable_gradient_checkpointing() if on else part.disable_gradient_checkpointing()


@cache
def _leave_group_at_exit() -> None:
    """Close the process group when Python ends: its threads, left running, can abort the process while it is torn down.

    An optimiser must have been made before the group was: it imports modules of torch that keep hold of any group they find.
    """
    from accelerate import PartialState

    atexit.register(PartialState().destroy_process_group)


def describe(progress: Progress) -> str:
    """A line for people."""
    said = losses(progress)
    return f"{progress.stage} {progress.step}/{progress.steps}{said and ', '}{said}, {progress.seconds_left:.0f} s left"


def losses(progress: Progress) -> str:
    """The losses of a progress, for people."""
    known = (("loss", progress.loss), ("held-out", progress.held_out))
    return ", ".join(f"{name} {value:.4f}" for name, value in known if value is not None)


def to_json(progress: Progress) -> dict[str, Any]:
    """A line for programs."""
    return {key: value for key, value in vars(progress).items() if key not in ("averaged", "model")}
