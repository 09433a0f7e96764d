r"""TRE, telescoping ratios: the frozen source plus $\nabla \log h$, with log h the sum of K easier ones.

Between a source point $x_p$ and a target point $x_q$ lie waymarks $x_k = \sqrt{1 - a_k^2}\, x_p + a_k x_q$, $a_k = k / K$. A classifier each
tells $x_k$ from $x_{k-1}$, noised alike; their logits add up to $\log q_t / p_t$. Where one classifier would tell the domains apart
perfectly and learn nothing more, each of the K has work to do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser, noised
from ..draw import Draw
from ..fit import Loss, Watch, follow, train
from ..guide import Guided, ratio_shift
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio
from .classify import new_ratio
from .start import begin, short_training, source_pool


@dataclass(frozen=True)
class Telescoping:
    """Guidance by a sum of log ratios between waymarks.

    Args:
        weight: Guidance weight w.
        bridges: K, how many ratios add up; 1 is a plain time-dependent classifier.
        steps, batch_size, learning_rate: Training of the guidance network.
        width, depth: Its size.
        held_out: Share of the target points that only early stopping sees.

    Reference:
        Rhodes, Xu, Gutmann, Telescoping Density-Ratio Estimation, 2020, arXiv 2006.12204, eq. 5 to 7.
    """

    weight: float = 1.0
    bridges: int = 4
    steps: int = 2500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    width: int | None = None
    depth: int | None = None
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Learn the ratios of all bridges together; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out, new_labels=True)
        pool = source_pool(start, data)
        log_h = new_ratio(start.source, start.train, rng.split(start.seed, "init"), width=self.width, depth=self.depth, bridges=self.bridges)
        training = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        check = None if start.held_out is None else telescoping_loss(log_h, pool, start.held_out)
        loss = telescoping_loss(log_h, pool, start.train)
        follow(train(log_h, loss, training, start.seed, held_out=check, stage="guidance", folder=folder), watch)
        return start.finish(Guided(start.source, ratio_shift(log_h.requires_grad_(False), source.schedule), self.weight))


def telescoping_loss(log_h: LogRatio, source: Points, target: Points) -> Loss:
    """The sum over bridges of their logistic losses, (b,), from one pair of points, one time and one noise."""
    schedule, bridges = log_h.schedule, log_h.bridges
    like = _alike(source, target)

    def loss(draw: Draw) -> Tensor:
        row = draw.index(target.n, "target")
        x_q, y = target.take(row)
        x_p = source.x[like(row, draw.index(2**30, "source"))]
        t, eps, y = draw.times(schedule), draw.noise(x_q), draw.drop(y, LABEL_DROPOUT)
        before = log_h.each(noised(schedule, x_p, t, eps), t, y)
        total = torch.zeros_like(before[:, 0])
        for k in range(1, bridges + 1):
            a = k / bridges
            after = log_h.each(noised(schedule, (1 - a**2) ** 0.5 * x_p + a * x_q, t, eps), t, y)
            total = total + softplus(before[:, k - 1]) + softplus(-after[:, k - 1])
            before = after
        return total

    return loss


def _alike(source: Points, target: Points) -> Callable[[Tensor, Tensor], Tensor]:
    """From target rows and large random numbers (b,) to source rows with the same labels, or any where there are none."""
    if source.y is None or target.y is None:
        return lambda row, number: number % source.n
    values, which = target.y.unique(dim=0, return_inverse=True)
    found = [(source.y == v if v.ndim == 0 else (source.y == v).all(1)).nonzero()[:, 0] for v in values.to(source.y)]
    found = [rows if len(rows) else torch.arange(source.n) for rows in found]
    sizes = torch.tensor([len(rows) for rows in found])
    begins = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)[:-1]])
    table = torch.cat(found)
    return lambda row, number: table[begins[which[row]] + number % sizes[which[row]]]
