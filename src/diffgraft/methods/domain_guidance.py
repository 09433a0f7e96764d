r"""Domain Guidance: a fine-tuned network, led by the frozen source without a label.

$D = D_{src}(x_t, \varnothing) + w (D_{tuned}(x_t, y) - D_{src}(x_t, \varnothing))$, the density $q^w / p^{w-1}$ noise level by noise
level. w = 1 is the fine-tuned network alone, w = 0 the source; above 1 it goes beyond a network that has not moved far enough, and
over-sharpens one that has.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from .finetune import Finetune
from .lead import guided_by_source, limited


@dataclass(frozen=True)
class DomainGuidance:
    """A fine-tune, guided by the source it came from.

    Args:
        weight: Guidance weight w; 1 the fine-tune alone.
        interval: Bounds in log-SNR within which the weight counts; outside the fine-tune alone, in one pass.
        steps, batch_size, learning_rate, held_out, augment, shape: Of the fine-tune; see `Finetune`.

    Reference:
        Zhong, Zhang, Wang, Long, Domain Guidance: A Simple Transfer Approach for a Pre-trained Diffusion Model, 2025, arXiv
        2504.01521, eq. 8.
    """

    weight: float = 1.5
    interval: list[float] | None = None
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2
    augment: Literal["none", "pseudo-target"] = "none"
    shape: bool = True

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune, then guide; see `Method.fit`."""
        weight = limited(self.weight, self.interval)
        names = ("steps", "batch_size", "learning_rate", "held_out", "augment", "shape")
        tuned = Finetune(**{name: getattr(self, name) for name in names}).fit(source, data, generator, watch=watch, folder=folder)
        return guided_by_source(copy.deepcopy(source).requires_grad_(False).eval(), tuned, weight)
