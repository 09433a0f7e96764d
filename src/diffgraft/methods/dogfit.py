r"""DogFit: Domain Guidance learned into the fine-tuned network, so that sampling takes one pass.

The network is trained towards $x_0 + s\,(D(x_t, y) - D_{src}(x_t, \varnothing))$ (see `offset`); in terms of the noise that is
$\epsilon + s\,\mathrm{sg}(\epsilon_\theta(x_t, y) - \epsilon_{src}(x_t))$. With w = 1 it is fine-tuning, step for step.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser, drop_label
from ..fit import Draw, Watch, train
from ..guide import Guided, toward
from .lead import check_runs_without_label, limited
from .offset import ROWS, matched_strength, offset_loss, own_strength
from .start import begin, own_net, short_training


@dataclass(frozen=True)
class DogFit:
    r"""A fine-tune that learns to be guided by the source.

    Args:
        weight: Guidance weight w that the network ends at; 1 is plain fine-tuning.
        matched: Compensate that the aim contains the network itself; without it the offset is w - 1, which acts like 1 / (2 - w).
        late: Share of the steps before the offset sets in.
        interval: Bounds in log-SNR within which the offset counts.
        steps, batch_size, learning_rate, held_out: As for `Finetune`; held-out points judge what the network amounts to without its
            guidance, $D_{src} + (D - D_{src}) / w$.

    Reference:
        Bahram, Shateri, Granger, DogFit: Domain-guided Fine-tuning for Efficient Transfer Learning of Diffusion Models, 2025, arXiv
        2508.05685.
    """

    weight: float = 1.5
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
        strength = (matched_strength if self.matched else own_strength)(self.weight)
        start = begin(source, data, generator, self.held_out, new_labels=True)
        net = own_net(start.source, "dogfit")
        check_runs_without_label(start.source)
        guide = drop_label(start.source)
        plain = offset_loss(net, guide, start.train, 0.0)
        led = offset_loss(net, guide, start.train, strength, self.interval)
        begins = round(self.late * self.steps)
        training = short_training(start.train, self.steps, self.batch_size, self.learning_rate)

        def loss(draw: Draw) -> torch.Tensor:
            return led(draw) if draw.step >= begins else plain(draw)

        # held-out points judge what the network amounts to without its guidance
        check = start.check(Guided(guide, toward(net), limited(1 / self.weight, self.interval)), ROWS)
        for progress in train(net.module, loss, training, start.seed, held_out=check, stage="dogfit", folder=folder):
            if watch:
                watch(progress)
        return start.finish(net.requires_grad_(False))
