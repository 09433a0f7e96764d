r"""Classifier guidance between domains: the source plus $\nabla \log c(x_t, t)$, c the probability that a point is of the target.

A baseline that is NOT exact: $\nabla \log c = (1 - c) \nabla \log h$, so with w = 1 it leads to a density between the two
domains, at t = 0 to the normalised $p q / (p + q)$.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import rng
from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from ..guide import Guided, ratio_shift
from .classify import new_ratio, time_classifier
from .start import begin, short_training, source_pool


@dataclass(frozen=True)
class ClassifierGuidance:
    """Guidance by a time-dependent domain classifier.

    Args:
        weight: Guidance weight.
        steps, batch_size, learning_rate: Training of the classifier.
        width, depth: Its size.
        held_out: Share of the target points that only early stopping sees.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, Remark 3.4.
    """

    weight: float = 1.0
    steps: int = 1500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    width: int | None = None
    depth: int | None = None
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train the classifier on noised points of both domains; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out, new_labels=True)
        pool = source_pool(start, data)
        log_h = new_ratio(start.source, start.train, rng.split(start.seed, "init"), width=self.width, depth=self.depth)
        training = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        time_classifier(log_h, pool, start.train, start.held_out, training, start.seed, watch=watch, folder=folder)
        log_h.link = "log_c"
        return start.finish(Guided(start.source, ratio_shift(log_h, source.schedule), self.weight))
