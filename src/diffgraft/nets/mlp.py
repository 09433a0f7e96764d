"""A multilayer perceptron for vectors, told the noise level at every layer."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..schedule import Schedule
from ..shapes import expand, shared
from .embed import LabelEmbedding, NoiseEmbedding, zeroed


def default_width(shape: tuple[int, ...]) -> int:
    """128 units a layer, or 8 a feature where that is more, up to 512: a narrow network cannot copy wide noise."""
    return min(512, max(128, 8 * shape[0]))


class MLP(nn.Module):
    """`depth` layers of `width` SiLU units; noise level and label are added before each.

    Args:
        shape: Shape of one sample, (D,).
        schedule: The forward process, for the noise level.
        n_classes: How many labels; 0 for none.
        n_out: Outputs; D by default, 1 for a ratio.
        width: Units a layer; 128, or 8 a feature where that is more, up to 512.
        steered: Take a guidance weight `w`, () or (B,), as a fourth input: a second head, zero at first, adds w - 1 times its output.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: Schedule,
        n_classes: int = 0,
        *,
        n_out: int | None = None,
        width: int | None = None,
        depth: int = 4,
        steered: bool = False,
    ) -> None:
        super().__init__()
        width = width or default_width(shape)
        self.n_classes = n_classes
        self.config = {"shape": list(shape), "n_classes": n_classes, "n_out": n_out, "width": width, "depth": depth, "steered": steered}
        self.noise = NoiseEmbedding(schedule)
        self.embed = nn.Linear(self.noise.frequencies.numel() * 2, depth * width)
        self.label = LabelEmbedding(n_classes, depth * width) if n_classes else None
        sizes = [shape[0], *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.n_out = n_out or shape[0]
        self.head = nn.Linear(width, self.n_out)
        self.lead = zeroed(nn.Linear(width, self.n_out)) if steered else None

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, w: Tensor | None = None) -> Tensor:
        for layer, e in zip(self.layers, self._told(x, t, y), strict=True):
            x = silu(layer(x).add_(e))
        out = self.head(x)
        return out if self.lead is None or w is None else out + expand(w - 1, x) * self.lead(x)

    def gradient(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The gradient of its outputs' sum in `x`, (B, D), by the chain rule written out.

        Autograd gives the same; this is cheaper in sampling, and training needs no second derivative.
        """
        passed: list[tuple[Tensor, Tensor]] = []
        for layer, e in zip(self.layers, self._told(x, t, y), strict=True):
            a = layer(x).add_(e)
            passed.append((layer.get_parameter("weight"), a))
            x = silu(a)
        gradient = self.head.weight.sum(0).expand(len(x), -1)
        for weight, a in reversed(passed):
            gradient = _through_silu(gradient, a) @ weight
        return gradient

    def _told(self, x: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
        """What each layer is told of noise level and label."""
        told = self.embed(self.noise(shared(t)).to(x.dtype))
        if self.label is not None:
            told = told + self.label(y, len(x))
        return told.chunk(len(self.layers), 1)


def _through_silu(gradient: Tensor, a: Tensor) -> Tensor:
    """A gradient after `silu(a)` taken to before it."""
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(gradient, a)  # one pass over memory, but it has no derivative of its own
    s = a.sigmoid()
    return gradient * torch.addcmul(s, a * s, 1 - s)
