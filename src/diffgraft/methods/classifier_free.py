r"""Classifier-free guidance on the target: a fine-tuned network, led by itself without the label.

$D = D_{tuned}(x_t, \varnothing) + w (D_{tuned}(x_t, y) - D_{tuned}(x_t, \varnothing))$; w = 1 is the fine-tune alone. Only labels make the
two differ, so unlabelled targets are refused.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from .finetune import Finetune
from .lead import led_by_label, limited, needs_labels
from .start import Method


@dataclass(frozen=True)
class ClassifierFree:
    """A fine-tune with labels dropped one time in ten, guided away from what it does without them.

    Args:
        weight: Guidance weight w; 1 the fine-tune alone.
        interval: Bounds in log-SNR within which the weight counts.
        steps, batch_size, learning_rate, held_out: Of the fine-tune; see `Finetune`.

    Reference:
        Ho, Salimans, Classifier-Free Diffusion Guidance, 2022, arXiv 2207.12598, eq. 6.
    """

    weight: float = 1.5
    interval: list[float] | None = None
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune, then guide; see `Method.fit`."""
        limited(self.weight, self.interval)
        needs_labels("classifier_free", data, source)
        return self.lead(source, self.tuning().fit(source, data, generator, watch=watch, folder=folder))

    def lead(self, source: Denoiser, tuned: Denoiser) -> Denoiser:
        """Guide a fine-tune that is there already, as `tuning()` makes it."""
        return led_by_label(tuned, self.weight, self.interval)

    def tuning(self) -> Method:
        """The method that fine-tunes."""
        return Finetune(steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate, held_out=self.held_out)
