"""A head on the features of a trained denoiser: what a ratio of images or signals learns with."""

from itertools import pairwise
from typing import Any, TypeGuard

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import silu

from ..interop.networks import Network
from ..schedule import Schedule
from .sssd import SSSD
from .unet import Told, UNet

LOWEST, WIDER = 4, 1.64
"""Frequency bands of signals: how many frequencies the lowest holds, and how far each reaches beyond the one before. A band of one or two has
next to no power in some noised signals, where the gradient of its logarithm has no bound."""


def can_be_read(module: nn.Module | None) -> TypeGuard[nn.Module]:
    """Whether a denoiser's network shows its feature maps."""
    return isinstance(module, UNet | SSSD | Network)


class Probe(nn.Module):
    r"""A small head on the feature maps of a frozen network: one number a sample, for a log ratio.

    The network is a trained denoiser's own, not a copy, and is read without a label, where it can be: the means and root mean squares over
    positions of every map. Of signals the head also sees how loud they are in each band of frequencies: a network that looks through noise
    does not tell. Only the head learns, so features may be taken once (`seen`) and judged many times (`judge`).

    Args:
        shape, schedule: Of the samples.
        n_classes: How many labels the head knows; 0 for none.
        body: The network, see `can_be_read`.
        hidden: Width of the head.
        n_out: How many numbers.

    Reference:
        Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, 2022, arXiv 2112.03126.
    """

    body: Any
    mean: Tensor
    spread: Tensor

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, body: nn.Module, hidden: int = 128, n_out: int = 1) -> None:
        super().__init__()
        self.n_classes, self.n_out = n_classes, n_out
        self.config = {"shape": list(shape), "n_classes": n_classes, "hidden": hidden, "n_out": n_out}
        self.body = body.requires_grad_(False)
        self.edges = band_edges(shape[1]) if len(shape) == 2 else []
        n_features = 2 * sum(self.body.map_sizes) + shape[0] * max(len(self.edges) - 1, 0)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.told, self.modulate = Told(schedule, n_classes, hidden), nn.Linear(hidden, 2 * hidden)
        self.first = nn.Linear(n_features, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, n_out))

    def seen(self, x: Tensor, t: Tensor) -> Tensor:
        """Features (B, F) of noised samples."""
        return self.seen_in(self.body.maps(x, t, None), x)

    def seen_in(self, maps: list[Tensor], x: Tensor) -> Tensor:
        """Features (B, F) of the network's maps of noised samples."""
        flat = [a.flatten(2) for a in maps]
        loud = [band_powers(x, self.edges)] if self.edges else []
        return cat([a.mean(2) for a in flat] + [(a.square().mean(2) + 1e-12).sqrt() for a in flat] + loud, 1)

    def judge(self, seen: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The number (B, 1) of features."""
        told = self.told(seen, t, y)
        scale, shift = self.modulate(told).chunk(2, 1)
        return self.head(silu(self.first((seen - self.mean) / self.spread)) * (1 + scale) + shift)

    def standardise(self, seen: Tensor) -> None:
        """Take mean and spread from features (n, F)."""
        self.mean.copy_(seen.mean(0))
        self.spread.copy_(seen.std(0).clamp(min=1e-4))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.judge(self.seen(x, t), t, y)


def band_edges(length: int) -> list[int]:
    """Edges of bands of the frequencies 0 to length / 2, in whole cycles a signal; none of signals that have fewer than the lowest band holds."""
    top, edges, edge = length // 2 + 1, [0], float(LOWEST)
    while round(edge) + LOWEST <= top:
        edges.append(round(edge))
        edge *= WIDER
    return [*edges, top] if top >= LOWEST else []


def band_powers(x: Tensor, edges: list[int]) -> Tensor:
    """Logarithms of the power of signals (B, C, L) between neighbouring edges, (B, C * bands)."""
    z = torch.fft.rfft(x, norm="ortho")
    power = z.real.square() + z.imag.square()
    return (torch.stack([power[..., a:b].mean(-1) for a, b in pairwise(edges)], -1) + 1e-6).log().flatten(1)
