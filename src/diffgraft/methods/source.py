"""No adaptation: the source model as it is, sampled with the target's labels, or without one where it knows none of them. Every method must beat it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import Data
from ..denoise import Denoiser
from ..fit import Watch
from .start import begin


@dataclass(frozen=True)
class Source:
    """The source model, with the label prior of the target."""

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """A copy of the source; see `Method.fit`."""
        start = begin(source, data, generator, held_out=0.2, new_labels=True)
        return start.finish(start.source)
