"""What a backbone knows beside `x`: the noise level and the label, as vectors; and the zeros that a new part of it begins with."""

import torch
from torch import Tensor, nn

from ..data import NULL
from ..schedule import Schedule

LOG_SNR_RANGE = 15.0


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the log-SNR, which is what a denoiser's answer depends on.

    Args:
        schedule: Turns what the network receives as `t` (or a step) into log-SNR.
        width: Number of features.
    """

    frequencies: Tensor

    def __init__(self, schedule: Schedule, width: int = 32) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("frequencies", torch.logspace(-1.5, 0.5, width // 2), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        log_snr = self.schedule.log_snr(self.schedule.time_of(t)).clamp(-LOG_SNR_RANGE, LOG_SNR_RANGE)
        phase = log_snr[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], 1)


class LabelEmbedding(nn.Module):
    """A vector per class; multi-hot rows sum theirs; no label (None, -1, a row of -1) has a vector of its own."""

    def __init__(self, n_classes: int, width: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.table = nn.Embedding(n_classes + 1, width)

    def forward(self, y: Tensor | None, n: int) -> Tensor:
        null = self.table.weight[-1]
        if y is None:
            return null.expand(n, -1)
        if y.ndim == 1:
            return self.table(torch.where(y == NULL, self.n_classes, y))
        rows = y.to(null.dtype) @ self.table.weight[:-1]
        return torch.where((y == NULL).all(1, keepdim=True), null, rows)


def zeroed(module: nn.Module) -> nn.Module:
    """The module with parameters of zero."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module
