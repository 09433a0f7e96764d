r"""Importance resampling: the source network, trained on source points resampled by the clean density ratio.

With the exact ratio and endless source points this is training on the target. In truth the ratio rests on few source
points: the effective sample size, in the record, says how many.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser
from ..domain import resampled
from ..fit import Watch
from ..pretrain import fit_denoiser
from .pseudo import clean_ratio
from .start import begin, own_net, short_training, source_pool


@dataclass(frozen=True)
class Importance:
    """A fine-tune on resampled source points.

    Args:
        steps, batch_size, learning_rate: Training, as for `Finetune`.
        held_out: Share of the target points that only early stopping sees.
        draws: Source points to draw, with replacement.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, eq. 6.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2
    draws: int = 10_000

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train a copy of the source on resampled source points; see `Method.fit`."""
        began = time.monotonic()
        start = begin(source, data, generator, self.held_out, new_labels=True)
        net, pool = own_net(start.source, "importance"), source_pool(start, data)
        log_r, about = clean_ratio(pool, start)
        drawn = resampled(pool, log_r, self.draws, start.seed)
        notes = {**about, "select_seconds": time.monotonic() - began}
        settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        fit_denoiser(net, drawn, start.held_out, settings, start.seed, stage="importance", watch=watch, folder=folder)
        return start.finish(net.requires_grad_(False), notes)
