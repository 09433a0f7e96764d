"""A multilayer perceptron for vectors, told the noise level at every layer."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import silu

from ..schedule import Schedule
from ..shapes import shared
from .embed import LabelEmbedding, NoiseEmbedding


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
    """

    def __init__(
        self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, n_out: int | None = None, width: int | None = None, depth: int = 4
    ) -> None:
        super().__init__()
        width = width or default_width(shape)
        self.n_classes = n_classes
        self.config = {"shape": list(shape), "n_classes": n_classes, "n_out": n_out, "width": width, "depth": depth}
        self.noise = NoiseEmbedding(schedule)
        self.embed = nn.Linear(self.noise.frequencies.numel() * 2, depth * width)
        self.label = LabelEmbedding(n_classes, depth * width) if n_classes else None
        sizes = [shape[0], *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(width, n_out or shape[0])

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        told = self.embed(self.noise(shared(t)).to(x.dtype))
        if self.label is not None:
            told = told + self.label(y, len(x))
        for layer, e in zip(self.layers, told.chunk(len(self.layers), 1), strict=True):
            x = silu(layer(x) + e)
        return self.head(x)
