r"""Learned log ratios beside exact ones, over the plane: what Figure 2 of arXiv 2405.16876 shows.

For a two-dimensional task without labels whose truth is known, as files that `pages.fields` draws:

- the clean ratio log r(x_0) of a kernel and of a network classifier, with as many source points as target points;
- log h(x_t, t) of a guided model at one noise level. A constant in log h moves no sample and score matching leaves it
  open, so it is shifted to the exact mean over noised points of both domains.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import rng
from .data import Points, Task, Transform, split
from .denoise import Denoiser, noised
from .domain import kernel_ratio, net_ratio
from .files import atomic_file
from .fit import Training
from .guide import Guided, RatioShift
from .methods.classify import new_ratio

SIDE = 61
"""Points along each axis."""
MARGIN = 0.15
"""Room around the points of both domains, as a share of their range."""
LOG_SNR = 2.0
"""Noise level of log h."""
SHOWN = 300
"""Most points of a domain that a file keeps."""
NET = Training(steps=300, batch_size=256, check_every=25, patience=8)
HELD_OUT = 0.2


@dataclass(frozen=True)
class Landscape:
    """Learned and exact values (SIDE * SIDE,) over a frame, with points of both domains to draw over it."""

    x: Tensor
    y: Tensor
    learned: Tensor
    exact: Tensor
    title: str
    source: Points
    target: Points

    def write(self, path: Path) -> None:
        """Write it as an npz file."""
        path.parent.mkdir(exist_ok=True)
        arrays: dict[str, Any] = {name: getattr(self, name).reshape(len(self.y), len(self.x)).float().numpy() for name in ("learned", "exact")}
        arrays |= {"x": self.x.numpy(), "y": self.y.numpy(), "source": self.source.x[:SHOWN].numpy(), "target": self.target.x[:SHOWN].numpy()}
        with atomic_file(path) as partial:
            np.savez_compressed(partial, title=np.array(self.title), **arrays)


def is_flat(task: Task) -> bool:
    """Whether a task is one that can be drawn: two features, no labels, source points and a truth."""
    return task.truth is not None and task.data.source is not None and task.data.target.x.shape[1:] == (2,) and task.data.target.y is None


def clean_ratios(task: Task, seed: int) -> Iterator[tuple[str, Landscape]]:
    """log r(x_0) of a kernel classifier and of a network, with balanced classes."""
    transform = task.transform or Transform.identity()
    source, target = _clouds(task, transform)
    x, y, points = _frame(source, target)
    few = source.take(torch.randperm(source.n, generator=rng.generator(seed, "balanced"))[: target.n])
    train, held_out = split(target, HELD_OUT, rng.split(seed, "split")) if target.n > 1 else (target, None)
    network = new_ratio(task.truth.source, target, rng.split(seed, "init"))
    learned = {
        "kernel": kernel_ratio(few, target, seed, weight=1.0)(points),
        "network": net_ratio(network, few, train, NET, seed, held_out=held_out)(points),
    }
    exact = task.truth.within(transform)
    log_r = exact.log_prob_target(points.double()) - exact.log_prob_source(points.double())
    for name, values in learned.items():
        yield name, Landscape(x, y, values, log_r, f"log r(x_0) of a {name} classifier, {few.n} source and {target.n} target points", few, target)


def learned_guidance(model: Denoiser, task: Task) -> Landscape | None:
    """log h(x_t, t) of a model guided by a log ratio; None for any other model."""
    if not (isinstance(model, Guided) and isinstance(model.shift, RatioShift)):
        return None
    ratio = model.shift.log_h
    if getattr(ratio, "link", "log_h") != "log_h":
        return None
    t = model.schedule.time_at(torch.tensor(LOG_SNR))
    source, target = _clouds(task, model.transform)
    n = min(source.n, 1000)
    clean = torch.cat([source.x[:n], target.x.repeat(math.ceil(n / target.n), 1)[:n]])
    x_t = noised(model.schedule, clean, t.expand(len(clean)), torch.randn(clean.shape, generator=rng.generator(0, "landscape")))
    x, y, points = _frame(Points(x_t[:n]), Points(x_t[n:]))
    device = next(model.parameters()).device
    exact = task.truth.under(model.schedule).within(model.transform)

    def both(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            learned = ratio(at.to(device), t.to(device), None).cpu()
        return learned, exact.log_h(at.double(), t.double())

    learned, log_h = both(points)
    there, true = both(x_t)
    learned = learned + (true - there).mean().float()
    title = f"log h(x_t, t) at log-SNR {LOG_SNR:g}, up to a constant, which moves no sample"
    return Landscape(x, y, learned, log_h, title, Points(x_t[:n]), Points(x_t[n : n + target.n]))


def _clouds(task: Task, transform: Transform) -> tuple[Points, Points]:
    """Both domains in model space."""
    assert task.data.source is not None
    return Points(transform.forward(task.data.source.x)), Points(transform.forward(task.data.target.x))


def _frame(source: Points, target: Points) -> tuple[Tensor, Tensor, Tensor]:
    """Axes (SIDE,) around nearly all points, and the points of the grid (SIDE * SIDE, 2), x fastest."""
    cloud = torch.cat([source.x[:5000], target.x])
    lo, hi = cloud.quantile(0.005, 0), cloud.quantile(0.995, 0)
    room = MARGIN * (hi - lo)
    x, y = (torch.linspace(float(a), float(b), SIDE) for a, b in zip(lo - room, hi + room, strict=True))
    return x, y, torch.cartesian_prod(y, x).flip(1)
