"""Fine-tuning: the source network, trained on the target points until held-out points say stop."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser
from ..errors import BadPlan
from ..fit import Watch, follow, train
from ..pretrain import LABEL_DROPOUT, fit_denoiser
from .pseudo import pseudo_target, pseudo_training, smooths
from .start import Start, begin, own_net, short_training, source_pool

REHEARSED = 10_000
"""Points in all where source points are rehearsed."""


@dataclass(frozen=True)
class Finetune:
    """All weights of the source, trained by denoising score matching on the target.

    Labels that the source does not know get rows of their own in its label table.

    Args:
        steps, learning_rate: Training; the best held-out check before `steps` wins, and the source itself is the first
            candidate.
        batch_size: By default 256 for vectors and 32 for images; 640 on a smoothed target.
        held_out: Share of the target points that only early stopping sees; 0 trains on all of them for all steps.
        label_dropout: Share of the labels that training replaces by none.
        rehearsal: Share of source points among those it learns from, so that it forgets less.
        augment: "none", or "pseudo-target" for the smoothed target that TGDP learns from (see `pseudo`).
        shape: Let the source lend its shape to the smoothed target.
        features: A model folder whose network's features the clean ratio of images and signals looks at; by default the source's own.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2
    label_dropout: float = LABEL_DROPOUT
    rehearsal: float = 0.0
    augment: Literal["none", "pseudo-target"] = "none"
    shape: bool = True
    features: str | None = None

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train a copy of the source on the target points; see `Method.fit`."""
        began, augmented = time.monotonic(), self.augment == "pseudo-target"
        start = begin(source, data, generator, 0.0 if augmented and smooths(data.target) else self.held_out, new_labels=True, led=False)
        net = own_net(start.source, "finetune")
        notes: dict[str, Any] = {}
        if augmented:
            pseudo = pseudo_target(source_pool(start, data), start, shape=self.shape, features=self.features)
            notes = {**pseudo.notes, "select_seconds": time.monotonic() - began}
            training = pseudo_training(pseudo, start, self.steps, self.batch_size, self.learning_rate)
            check = start.check(net) if pseudo.copies else None
            follow(train(net.module, lambda draw: pseudo.loss(net, draw), training, start.seed, held_out=check, stage="finetune", folder=folder), watch, net)
        else:
            settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
            pool = self._rehearsed(start, data)
            told: dict[str, Any] = {"stage": "finetune", "label_dropout": self.label_dropout, "watch": watch, "folder": folder}
            fit_denoiser(net, pool, start.held_out, settings, start.seed, **told)
        return start.finish(net.requires_grad_(False), notes)

    def _rehearsed(self, start: Start, data: Data) -> Points:
        """The training points, with source points among them where they are asked for."""
        if not self.rehearsal:
            return start.train
        if not 0 <= self.rehearsal < 1:
            raise BadPlan(f"rehearsal is a share of source points in [0, 1), got {self.rehearsal}")
        pool = source_pool(start, data)
        n = round(REHEARSED * self.rehearsal)
        rows = torch.randperm(pool.n, generator=rng.generator(start.seed, "rehearsal"))[torch.arange(n) % pool.n]
        old, new = pool.take(rows), start.train.take(torch.arange(REHEARSED - n) % start.train.n)
        return Points(torch.cat([new.x, old.x]), None if new.y is None or old.y is None else torch.cat([new.y, old.y]))
