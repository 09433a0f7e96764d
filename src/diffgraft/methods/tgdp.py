r"""TGDP, the Transfer Guided Diffusion Process: the frozen source plus the gradient of a learned log ratio.

The target's score is the source's plus $\nabla \log h(x_t, t, y)$ with $h = q_t / p_t$. The network is log h itself: an
unconstrained number, no ratio that could overflow.

`objective="score"`, the default for tables, learns from a pseudo-target (`pseudo`) by the consistency loss (eq. 14), score matching
of `source + guidance`, which supervises the gradient directly. Beside unsmoothed target points it adds a logistic loss
between noised source and target samples, whose optimal logit is log h.

`objective="ratio"`, the default for images and signals, learns log h as the expectation of the clean ratio (see `expected`). Of signals, the
consistency loss then teaches its gradient (see `consistency`).

`objective="paper"` is the objective of the paper, eq. 15, with h = exp f (see `paper`).
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser
from ..draw import Draw
from ..fit import Loss, Watch, follow, train
from ..guide import Guided, ratio_shift
from ..ratio import LogRatio, logistic_loss
from .classify import new_ratio, noised_logits
from .consistency import calibrated_weight, has_frozen_features, teach_gradient
from .expected import expected_losses, expected_training
from .finetune import Finetune
from .paper import paper_loss
from .pseudo import PseudoTarget, pseudo_target, pseudo_training, smooths
from .start import Start, begin, source_pool


@dataclass(frozen=True)
class TGDP:
    """Transfer Guided Diffusion Process.

    Args:
        weight: Guidance weight w; 0 the source, 1 the target. "calibrated" finds the one at which samples have the mean log h of the
            target.
        base: What is guided: the "source", or "finetune", a plain fine-tune of it; the ratio is then that of the target to samples of
            the fine-tune.
        objective: "score" for tables and "ratio" for anything else by default, or "paper" for eq. 15.
        augment: "pseudo-target" learns from the smoothed target, "none" from the points alone.
        shape: Let the source lend its shape to the smoothed target.
        features: A model folder whose network's features the clean ratio of images and signals looks at; by default the source's own.
        logistic: Weight of the logistic loss beside score matching; by default 0 with a smoothed target, else 0.3.
        eta_0, eta_1, eta_2: Weights of the guidance, cycle and consistency loss of eq. 15.
        steps, batch_size, learning_rate: Training of the guidance network.
        width, depth: Its size; by default half the width of a denoiser and 3 layers for vectors, a head on the source's features for images.
        held_out: Share of the target points that only early stopping sees, where the target is not smoothed; under the
            paper's objective that of its classifiers alone.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, eq. 7 to 15.
    """

    weight: float | Literal["calibrated"] = 1.0
    base: Literal["source", "finetune"] = "source"
    objective: Literal["score", "ratio", "paper"] | None = None
    augment: Literal["pseudo-target", "none"] = "pseudo-target"
    shape: bool = True
    features: str | None = None
    logistic: float | None = None
    eta_0: float = 1.0
    eta_1: float = 1.0
    eta_2: float = 1.0
    steps: int = 2500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    width: int | None = None
    depth: int | None = None
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Learn log h from source and target points; see `Method.fit`."""
        objective = self._objective(data)
        if self.base == "finetune":
            generator = rng.generator(rng.seed_from(generator), "base")
            source, data = Finetune().fit(source, data, generator, watch=watch, folder=folder), replace(data, source=None, log_ratio=None)
        began = time.monotonic()
        augmented = objective != "paper" and self.augment == "pseudo-target"
        start = begin(source, data, generator, 0.0 if augmented and smooths(data.target) else self.held_out, new_labels=True)
        pool = source_pool(start, data)
        log_h = self._network(start)
        guided = Guided(start.source, ratio_shift(log_h, source.schedule))
        pseudo = pseudo_target(pool, start, shape=self.shape, features=self.features) if augmented else PseudoTarget(start.train)
        notes = pseudo.notes
        training, check = pseudo_training(pseudo, start, self.steps, self.batch_size, self.learning_rate), None
        if objective == "paper":
            loss, notes = paper_loss(self, guided, log_h, pool, start, watch, folder)
        elif objective == "ratio":
            training = expected_training(log_h, pseudo, start, self.steps, self.batch_size, self.learning_rate)
            loss, check = expected_losses(log_h, pseudo, start, pool, self.steps, watch)
        else:
            loss, check = self._score_loss(guided, log_h, pool, pseudo), start.check(guided) if pseudo.copies else None
        notes = {**notes, "objective": objective, "select_seconds": time.monotonic() - began}
        follow(train(log_h, loss, training, start.seed, held_out=check, stage="guidance", folder=folder), watch, guided)
        if objective == "ratio" and has_frozen_features(log_h):
            teach_gradient(guided, log_h, pseudo, start, self.steps, self.learning_rate, watch, folder)
        log_h.requires_grad_(False)
        weight, found = (self.weight, {}) if self.weight != "calibrated" else calibrated_weight(guided, log_h, pseudo.pool, start.seed)
        return start.finish(Guided(start.source, ratio_shift(log_h, source.schedule), weight), {**notes, **found})

    def _objective(self, data: Data) -> str:
        return self.objective or ("score" if self.augment == "none" or smooths(data.target) else "ratio")

    def _network(self, start: Start) -> LogRatio:
        return new_ratio(start.source, start.train, rng.split(start.seed, "init"), width=self.width, depth=self.depth)

    def _score_loss(self, guided: Guided, log_h: LogRatio, pool: Points, pseudo: PseudoTarget) -> Loss:
        weight = self.logistic if self.logistic is not None else 0.0 if pseudo.exact is not None else 0.3

        def loss(draw: Draw) -> Tensor:
            matched = pseudo.loss(guided, draw)
            if weight == 0:
                return matched
            return matched + weight * logistic_loss(*noised_logits(log_h, guided.schedule, pool, pseudo.pool, draw))

        return loss
