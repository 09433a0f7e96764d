"""Convolutional backbones for small images: a U-Net to denoise, an encoder to compare domains.

For images up to about 32 x 32 on a laptop; larger ones come with diffusers' networks.
"""

from torch import Tensor, cat, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from ..schedule import Schedule
from .embed import LabelEmbedding, NoiseEmbedding


class Told(nn.Module):
    """The conditioning vector of a convolutional net: noise level plus label."""

    def __init__(self, schedule: Schedule, n_classes: int, width: int) -> None:
        super().__init__()
        self.noise = NoiseEmbedding(schedule)
        self.project = nn.Sequential(nn.Linear(self.noise.frequencies.numel() * 2, width), nn.SiLU(), nn.Linear(width, width))
        self.label = LabelEmbedding(n_classes, width) if n_classes else None

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        told = self.project(self.noise(t).to(x.dtype))
        return silu(told if self.label is None else told + self.label(y, len(x)))


class Block(nn.Module):
    """A residual block, two convolutions, scaled and shifted by the conditioning in between."""

    def __init__(self, n_in: int, n_out: int, n_told: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, n_in), nn.GroupNorm(8, n_out)
        self.conv1, self.conv2 = nn.Conv2d(n_in, n_out, 3, padding=1), nn.Conv2d(n_out, n_out, 3, padding=1)
        self.told = nn.Linear(n_told, 2 * n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, 1)
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class UNet(nn.Module):
    """A U-Net with one residual block a level on each side; any height and width.

    Args:
        shape: Shape of one image, (C, H, W).
        schedule: The forward process, for the noise level.
        n_classes: How many labels; 0 for none.
        width: Channels of the first level, a multiple of 8; each level doubles them.
        levels: Number of resolutions.
    """

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 32, levels: int = 2) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "levels": levels}
        sizes, n_told = [width * 2**k for k in range(levels)], 4 * width
        self.told = Told(schedule, n_classes, n_told)
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, n_told) for a, b in zip([width, *sizes], sizes, strict=False))
        self.middle = Block(sizes[-1], sizes[-1], n_told)
        self.up = nn.ModuleList(Block(a + b, b, n_told) for a, b in zip([sizes[-1], *sizes[::-1]], sizes[::-1], strict=False))
        self.head = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        told, x, skips = self.told(x, t, y), self.stem(x), []
        for block in self.down:
            skips.append(block(x, told))
            x = avg_pool2d(skips[-1], 2, ceil_mode=True)
        x = self.middle(x, told)
        for block in self.up:
            skip = skips.pop()
            x = block(cat([interpolate(x, size=skip.shape[2:]), skip], 1), told)
        return self.head(x)


class Encoder(nn.Module):
    """The downward half of the U-Net with a pooled linear head: one number an image, for a log ratio."""

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 32, levels: int = 2) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "levels": levels}
        sizes, n_told = [width * 2**k for k in range(levels)], 4 * width
        self.told = Told(schedule, n_classes, n_told)
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, n_told) for a, b in zip([width, *sizes], sizes, strict=False))
        self.norm = nn.GroupNorm(8, sizes[-1])
        self.head = nn.Linear(sizes[-1], 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        told, x = self.told(x, t, y), self.stem(x)
        for block in self.down:
            x = avg_pool2d(block(x, told), 2, ceil_mode=True)
        return self.head(silu(self.norm(x)).mean((2, 3)))
