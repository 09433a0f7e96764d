r"""Domain Guidance: a fine-tuned network, led by the frozen source without a label.

$D = D_{src}(x_t, \varnothing) + w (D_{tuned}(x_t, y) - D_{src}(x_t, \varnothing))$, the density $q^w / p^{w-1}$ noise level by noise
level. w = 1 is the fine-tuned network alone, w = 0 the source; above 1 it goes beyond a network that has not moved far enough, and
over-sharpens one that has.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..data import Data
from ..denoise import Denoiser, Net
from ..fit import Watch
from ..nets.adapters import WithoutAdapter
from .difffit import DiffFit
from .finetune import Finetune
from .lead import check_runs_without_label, guided_by_source, limited
from .lora import LoRA
from .start import Method


@dataclass(frozen=True)
class DomainGuidance:
    """A fine-tune, guided by the source it came from.

    Args:
        weight: Guidance weight w; 1 the fine-tune alone.
        interval: Bounds in log-SNR within which the weight counts; outside the fine-tune alone, in one pass.
        tune: How the source is fine-tuned: "finetune", "lora" (one set of weights, the guide is the adapter switched off) or
            "difffit".
        rank: Of "lora".
        steps, batch_size, learning_rate, held_out: Of the fine-tune; the rate by default that of its method.
        augment, shape, features: Of "finetune"; see `Finetune`.

    Reference:
        Zhong, Zhang, Wang, Long, Domain Guidance: A Simple Transfer Approach for a Pre-trained Diffusion Model, 2025, arXiv
        2504.01521, eq. 8.
    """

    weight: float = 1.5
    interval: list[float] | None = None
    tune: Literal["finetune", "lora", "difffit"] = "finetune"
    rank: int = 8
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float | None = None
    held_out: float = 0.2
    augment: Literal["none", "pseudo-target"] = "none"
    shape: bool = True
    features: str | None = None

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune, then guide; see `Method.fit`."""
        limited(self.weight, self.interval)
        check_runs_without_label(source)
        return self.lead(source, self.tuning().fit(source, data, generator, watch=watch, folder=folder))

    def lead(self, source: Denoiser, tuned: Denoiser) -> Denoiser:
        """Guide a fine-tune that is there already, as `tuning()` makes it."""
        weight = limited(self.weight, self.interval)
        if self.tune == "lora" and isinstance(tuned, Net):
            return guided_by_source(WithoutAdapter(tuned), tuned, weight)
        return guided_by_source(copy.deepcopy(source).requires_grad_(False).eval(), tuned, weight)

    def tuning(self) -> Method:
        """The method that fine-tunes."""
        given: dict[str, Any] = {"steps": self.steps, "batch_size": self.batch_size, "held_out": self.held_out}
        if self.learning_rate is not None:
            given["learning_rate"] = self.learning_rate
        match self.tune:
            case "lora":
                return LoRA(rank=self.rank, **given)
            case "difffit":
                return DiffFit(**given)
        return Finetune(augment=self.augment, shape=self.shape, features=self.features, **given)
