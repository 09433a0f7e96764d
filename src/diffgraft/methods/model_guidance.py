r"""Model guidance: classifier-free guidance learned into the fine-tuned network, so that sampling takes one pass.

The network is trained towards $x_0 + s\,(D(x_t, y) - D(x_t, \varnothing))$ (see `offset`), its own answer without the label as the guide;
where the label is dropped, towards $x_0$. Labels are needed, and the weight is fixed by training.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser, drop_label
from ..fit import Watch
from .lead import limited, needs_labels
from .offset import fit_towards, strength
from .start import begin, own_net


@dataclass(frozen=True)
class ModelGuidance:
    """A fine-tune that learns to be guided by its own answer without the label.

    Args:
        weight: Guidance weight w that the network ends at; 1 is plain fine-tuning.
        matched: As for `DogFit`.
        interval: Bounds in log-SNR within which the offset counts.
        steps, batch_size, learning_rate, held_out: As for `Finetune`.

    Reference:
        Tang, Wang, et al., Diffusion Models without Classifier-free Guidance, 2025, arXiv 2502.12154.
    """

    weight: float = 1.5
    matched: bool = True
    interval: list[float] | None = None
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune towards the guided aim; see `Method.fit`."""
        limited(self.weight, self.interval)
        strength(self.weight, self.matched)
        needs_labels("model_guidance", data, source)
        start = begin(source, data, generator, self.held_out, new_labels=True, led=False)
        net = own_net(start.source, "model_guidance")
        return fit_towards(self, start, net, drop_label(net), stage="model_guidance", watch=watch, folder=folder)
