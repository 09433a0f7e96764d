"""DiffFit: the source network with its biases, normalisations, label table and a scale a layer trained, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from ..nets.adapters import with_scales
from ..pretrain import fit_denoiser
from .start import begin, own_net, short_training


@dataclass(frozen=True)
class DiffFit:
    """A fine-tune of few parameters.

    Args:
        steps, batch_size, learning_rate, held_out: As for `Finetune`.

    Reference:
        Xie et al., DiffFit: Unlocking Transferability of Large Diffusion Models via Simple Parameter-Efficient Fine-Tuning, 2023, arXiv
        2304.06648.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 3e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train the few parameters; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out, new_labels=True, led=False)
        net = own_net(start.source, "difffit")
        with_scales(net.module)
        settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        fit_denoiser(net, start.train, start.held_out, settings, start.seed, stage="difffit", watch=watch, folder=folder)
        return start.finish(net.requires_grad_(False))
