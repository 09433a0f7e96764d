"""Fine-tuning: the source network, trained on the target points until held-out points say stop."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from ..pretrain import fit_denoiser
from .start import begin, own_net, short_training


@dataclass(frozen=True)
class Finetune:
    """All weights of the source, trained by denoising score matching on the target.

    Args:
        steps, learning_rate: Training; the best held-out check before `steps` wins, and the source itself is the first
            candidate.
        batch_size: By default 256 for vectors and 32 for images.
        held_out: Share of the target points that only early stopping sees.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train a copy of the source on the target points; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out)
        net = own_net(start.source, "finetune")
        settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        fit_denoiser(net, start.train, start.held_out, settings, start.seed, stage="finetune", watch=watch, folder=folder)
        return start.finish(net.requires_grad_(False))
