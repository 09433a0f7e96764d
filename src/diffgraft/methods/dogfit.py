r"""DogFit: Domain Guidance learned into the fine-tuned network, so that sampling takes one pass.

The network is trained towards $x_0 + s\,(D(x_t, y) - D_{src}(x_t, \varnothing))$ (see `offset`); in terms of the noise that is
$\epsilon + s\,\mathrm{sg}(\epsilon_\theta(x_t, y) - \epsilon_{src}(x_t))$. With w = 1 it is fine-tuning, step for step. With `control` the weight is
an input of the network (see `control`), to be chosen in sampling.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser, drop_label
from ..fit import Watch
from .control import check_control, fit_control
from .lead import check_runs_without_label, limited
from .offset import fit_towards, strength
from .start import begin, own_net


@dataclass(frozen=True)
class DogFit:
    r"""A fine-tune that learns to be guided by the source.

    Args:
        weight: Guidance weight w that the network ends at; 1 is plain fine-tuning. With `control` the one that it is sampled at where no
            other is asked for.
        control: Make the weight an input of the network, so that sampling may choose any from 1 on, in one pass; training draws 1 for
            half of the rows and 1 + Exp(3) for the others, so few weights lie beyond 2. Takes more steps than one weight does.
        matched: Compensate that the aim contains the network itself; without it the offset is w - 1, which acts like 1 / (2 - w). Means
            nothing with `control`, whose offset is that of w = 1 and does not compound.
        late: Share of the steps before the offset sets in.
        interval: Bounds in log-SNR within which the offset counts.
        steps, batch_size, learning_rate, held_out: As for `Finetune`; held-out points judge what the network amounts to without its
            guidance, $D_{src} + (D - D_{src}) / w$, with `control` at the weights of training.

    Reference:
        Bahram, Shateri, Granger, DogFit: Domain-guided Fine-tuning for Efficient Transfer Learning of Diffusion Models, 2025, arXiv
        2508.05685.
    """

    weight: float = 1.5
    control: bool = False
    matched: bool = True
    late: float = 0.25
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
        check_control(self.weight, self.matched) if self.control else strength(self.weight, self.matched)
        start = begin(source, data, generator, self.held_out, new_labels=True)
        net = own_net(start.source, "dogfit")
        check_runs_without_label(start.source)
        guide = drop_label(start.source)
        if self.control:
            return fit_control(self, start, net, guide, stage="dogfit", watch=watch, folder=folder)
        return fit_towards(self, start, net, guide, stage="dogfit", late=self.late, watch=watch, folder=folder)
