r"""LoRA: the source network with low-rank additions to its weights, $W + \frac{a}{r} B A$; only these are trained."""

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import rng
from ..data import Data
from ..denoise import Denoiser, KnownLabels
from ..fit import Watch
from ..nets.adapters import merged, with_lora
from ..pretrain import fit_denoiser
from .start import begin, own_net, short_training


@dataclass(frozen=True)
class LoRA:
    """A low-rank fine-tune; labels that the source does not know train rows of their own in its label table.

    Args:
        rank: r, of the additions.
        alpha: a, their scale; by default r, so that the scale is one.
        merge: Write the additions into the weights in the end: one plain network, as large as the source.
        steps, batch_size, learning_rate, held_out: As for `Finetune`.

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv 2106.09685.
    """

    rank: int = 8
    alpha: float | None = None
    merge: bool = False
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 3e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train the additions; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out, new_labels=True, led=False)
        net = own_net(start.source, "lora")
        new = isinstance(start.source, KnownLabels)
        with_lora(net.module, self.rank, self.rank if self.alpha is None else self.alpha, rng.split(start.seed, "lora"), table=new)
        settings = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        fit_denoiser(net, start.train, start.held_out, settings, start.seed, stage="lora", watch=watch, folder=folder)
        if self.merge:
            merged(net.module)
        return start.finish(net.requires_grad_(False))
