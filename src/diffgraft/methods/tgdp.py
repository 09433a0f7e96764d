r"""TGDP, the Transfer Guided Diffusion Process: the frozen source plus the gradient of a learned log ratio.

The target's score is the source's plus $\nabla \log h(x_t, t, y)$ with $h = q_t / p_t$. The network is log h itself, trained
by two losses that both have the exact log h as their minimum:

- consistency (eq. 14): denoising score matching on the target points of `source + guidance`, which supervises the
  gradient directly;
- a logistic loss between noised source and noised target points, whose optimal logit is log h.

Held-out target points decide when to stop.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser, denoising_loss, noised
from ..fit import Draw, Watch, train
from ..guide import Guided, ratio_shift
from ..nets.catalog import ratio_net
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio, logistic_loss
from .start import begin, short_training, source_pool


@dataclass(frozen=True)
class TGDP:
    """Transfer Guided Diffusion Process.

    Args:
        weight: Guidance weight w; 0 the source, 1 the target.
        logistic: Weight of the logistic loss beside the consistency loss.
        steps, learning_rate: Training of the guidance network.
        batch_size: By default 256 for vectors and 32 for images.
        width: Its width; 128 for vectors and 32 for images by default.
        held_out: Share of the target points that only early stopping sees.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, eq. 12 to 15.
    """

    weight: float = 1.0
    logistic: float = 0.3
    steps: int = 1500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    width: int | None = None
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Learn log h from source and target points; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out)
        pool = source_pool(start, data)
        log_h = self._network(start.source, start.seed, start.train)
        guided = Guided(start.source, ratio_shift(log_h, source.schedule))

        def match(draw: Draw, part: Points) -> Tensor:
            x, y = draw.rows(part, "target")
            return denoising_loss(guided, x, draw.times(source.schedule), draw.noise(x), draw.drop(y, LABEL_DROPOUT))

        def loss(draw: Draw) -> Tensor:
            t = draw.times(source.schedule)
            logits = []
            for name, part in (("source", pool), ("target", start.train)):
                x, y = draw.rows(part, name)
                logits.append(log_h(noised(source.schedule, x, t, draw.noise(x, f"{name} noise")), t, draw.drop(y, LABEL_DROPOUT)))
            return match(draw, start.train) + self.logistic * logistic_loss(*logits)

        settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        for progress in train(log_h, loss, settings, start.seed, held_out=lambda draw: match(draw, start.held_out), stage="guidance", folder=folder):
            if watch:
                watch(progress)
        return start.finish(Guided(start.source, ratio_shift(log_h.requires_grad_(False), source.schedule), self.weight))

    def _network(self, source: Denoiser, seed: int, train: Points) -> LogRatio:
        shape, like = tuple(train.x.shape[1:]), next(source.parameters(), train.x)
        with torch.random.fork_rng():
            torch.manual_seed(rng.split(seed, "init"))
            width = {} if self.width is None else {"width": self.width}
            module = ratio_net(shape, source.schedule, source.n_classes if train.y is not None else 0, **width)
        return LogRatio(module.to(like.device), source.schedule)
