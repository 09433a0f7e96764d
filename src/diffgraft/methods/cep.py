r"""CEP, contrastive energy prediction: the frozen source plus $\nabla \log h$, learned by comparing points within a batch.

$L = -\sum_i \frac{r(x_0^i)}{\sum_j r(x_0^j)} \log \frac{h(x_t^i, t)}{\sum_j h(x_t^j, t)}$ over K source points that share one t. Its minimum is
$h \propto E[r(x_0) | x_t]$ at each t: a factor in r cancels, and so does one in h, whose gradient is all that guidance needs.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser, noised
from ..draw import Draw
from ..fit import Watch, follow, train
from ..guide import Guided, ratio_shift
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio
from .classify import new_ratio
from .pseudo import clean_ratio
from .start import begin, short_training, source_pool

LEAST_BATCH = 512
"""Points a step, by default: most comparisons see no point of large r."""


@dataclass(frozen=True)
class CEP:
    """Guidance by a log ratio that is learned in-batch.

    Args:
        weight: Guidance weight w.
        compared: K, points that are compared with each other.
        steps, batch_size, learning_rate: Training of the guidance network.
        width, depth: Its size.

    Reference:
        Lu, Chen, Chen, Su, Li, Zhu, Contrastive Energy Prediction for Exact Energy-Guided Diffusion Sampling in Offline Reinforcement
        Learning, 2023, arXiv 2304.12824, eq. 12.
    """

    weight: float = 1.0
    compared: int = 16
    steps: int = 2500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    width: int | None = None
    depth: int | None = None

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fit the clean ratio, then learn log h from source points; see `Method.fit`."""
        began = time.monotonic()
        start = begin(source, data, generator, 0.0, new_labels=True)
        pool = source_pool(start, data)
        log_r, about = clean_ratio(pool, start)
        notes = {**about, "select_seconds": time.monotonic() - began}
        log_h = new_ratio(start.source, start.train, rng.split(start.seed, "init"), width=self.width, depth=self.depth)
        training = short_training(start.train, self.steps, self.batch_size or LEAST_BATCH, self.learning_rate)
        training = replace(training, batch_size=max(1, training.batch_size // self.compared) * self.compared)
        follow(train(log_h, lambda draw: contrastive(log_h, log_r, pool, draw, self.compared), training, start.seed, stage="guidance", folder=folder), watch)
        return start.finish(Guided(start.source, ratio_shift(log_h.requires_grad_(False), source.schedule), self.weight), notes)


def contrastive(log_h: LogRatio, log_r: Tensor, pool: Points, draw: Draw, compared: int) -> Tensor:
    """The loss above, (b,); groups of `compared` points share their time and sum to the loss of the group."""
    row = draw.index(pool.n, "source")
    some = pool.take(row)
    t = draw.times(log_h.schedule).unflatten(0, (-1, compared))[:, :1].expand(-1, compared).flatten()
    f = log_h(noised(log_h.schedule, some.x, t, draw.noise(some.x)), t, draw.drop(some.y, LABEL_DROPOUT))
    aim = log_r[row].to(f).unflatten(0, (-1, compared)).softmax(1)
    return -(aim * f.unflatten(0, (-1, compared)).log_softmax(1)).flatten()
