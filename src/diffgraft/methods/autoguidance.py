r"""Autoguidance: a fine-tuned network, led by an earlier, worse state of itself.

$D = D_{early}(x_t, y) + w (D_{tuned}(x_t, y) - D_{early}(x_t, y))$, with the same label in both; w = 1 is the fine-tune alone. The
early network is a fine-tune of the same seed, data order and noise, stopped at a share of the steps. A guide from another domain
makes other errors, so the source is none.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import rng
from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch, follow, train
from ..guide import Guided, toward
from .lead import limited
from .start import Start, begin, matching_loss, own_net, short_training


@dataclass(frozen=True)
class Autoguidance:
    """A fine-tune, guided away from an early state of it.

    Args:
        weight: Guidance weight w; 1 the fine-tune alone.
        interval: Bounds in log-SNR within which the weight counts.
        early: Share of the steps after which the early state is taken.
        steps, batch_size, learning_rate, held_out: Of the fine-tune; see `Finetune`.

    Reference:
        Karras, Aittala, Kynkaanniemi, Lehtinen, Aila, Laine, Guiding a Diffusion Model with a Bad Version of Itself, 2024, arXiv
        2406.02507.
    """

    weight: float = 1.5
    interval: list[float] | None = None
    early: float = 0.2
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune twice, for a few and for all steps; see `Method.fit`."""
        weight = limited(self.weight, self.interval)
        start = begin(source, data, generator, self.held_out, new_labels=True, led=False)
        early = self._tune(start, "early", max(1, round(self.early * self.steps)), watch, folder)
        tuned = self._tune(start, "finetune", self.steps, watch, folder)
        return start.finish(Guided(early, toward(tuned), weight))

    def _tune(self, start: Start, stage: str, steps: int, watch: Watch | None, folder: Path | None) -> Denoiser:
        """A fine-tune of this length; the early one is not stopped by held-out points."""
        net = own_net(start.source, "autoguidance")
        training = short_training(start.train, steps, self.batch_size, self.learning_rate)
        check = start.check(net) if stage == "finetune" else None
        seed = rng.split(start.seed, "tune")
        follow(train(net.module, lambda draw: matching_loss(net, start.train, draw), training, seed, held_out=check, stage=stage, folder=folder), watch, net)
        return start.finish(net.requires_grad_(False))
