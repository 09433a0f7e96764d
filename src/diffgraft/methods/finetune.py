"""Fine-tuning: the source network, trained on the target points until held-out points say stop."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch, train
from ..pretrain import fit_denoiser
from .pseudo import pseudo_target, pseudo_training, smooths
from .start import begin, own_net, short_training, source_pool


@dataclass(frozen=True)
class Finetune:
    """All weights of the source, trained by denoising score matching on the target.

    Args:
        steps, learning_rate: Training; the best held-out check before `steps` wins, and the source itself is the first
            candidate.
        batch_size: By default 256 for vectors and 32 for images; 640 on a smoothed target.
        held_out: Share of the target points that only early stopping sees; 0 trains on all of them for all steps.
        augment: "none", or "pseudo-target" for the smoothed target that TGDP learns from (see `pseudo`).
        shape: Let the source lend its shape to the smoothed target.
        features: A model folder whose network's features the clean ratio of images and signals looks at; by default the source's own.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2
    augment: Literal["none", "pseudo-target"] = "none"
    shape: bool = True
    features: str | None = None

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train a copy of the source on the target points; see `Method.fit`."""
        began, augmented = time.monotonic(), self.augment == "pseudo-target"
        start = begin(source, data, generator, 0.0 if augmented and smooths(data.target) else self.held_out)
        net = own_net(start.source, "finetune")
        notes: dict[str, Any] = {}
        if augmented:
            pseudo = pseudo_target(source_pool(start, data), start, shape=self.shape, features=self.features)
            notes = {**pseudo.notes, "select_seconds": time.monotonic() - began}
            training = pseudo_training(pseudo, start, self.steps, self.batch_size, self.learning_rate)
            check = start.check(net) if pseudo.copies else None
            for progress in train(net.module, lambda draw: pseudo.loss(net, draw), training, start.seed, held_out=check, stage="finetune", folder=folder):
                if watch:
                    watch(progress)
        else:
            settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
            fit_denoiser(net, start.train, start.held_out, settings, start.seed, stage="finetune", watch=watch, folder=folder)
        return start.finish(net.requires_grad_(False), notes)
