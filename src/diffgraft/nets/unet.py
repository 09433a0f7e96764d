"""Convolutional backbones for small images: a U-Net to denoise, an encoder to compare domains.

For images up to about 32 x 32 on a laptop; larger ones come with diffusers' networks.
"""

from torch import Tensor, cat, channels_last, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from ..schedule import Schedule
from ..shapes import expand
from .embed import LabelEmbedding, NoiseEmbedding, zeroed


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


class Descent(nn.Module):
    """The downward half: conditioning, a stem, and a residual block before each halving of the resolution."""

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int, width: int, levels: int) -> None:
        super().__init__()
        self.sizes, self.n_told = [width * 2**k for k in range(levels)], 4 * width
        self.told = Told(schedule, n_classes, self.n_told)
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(a, b, self.n_told) for a, b in zip([width, *self.sizes], self.sizes, strict=False))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor], Tensor]:
        """The lowest resolution, each level on the way, and the conditioning."""
        told, levels = self.told(x, t, y), []
        x = self.stem(x)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=channels_last)  # convolutions there are faster so, and what follows keeps the order
        for block in self.blocks:
            levels.append(block(x, told))
            x = avg_pool2d(levels[-1], 2, ceil_mode=True)
        return x, levels, told


class UNet(nn.Module):
    """A U-Net with one residual block a level on each side; any height and width.

    Args:
        shape: Shape of one image, (C, H, W).
        schedule: The forward process, for the noise level.
        n_classes: How many labels; 0 for none.
        width: Channels of the first level, a multiple of 8; each level doubles them.
        levels: Number of resolutions.
        steered: Take a guidance weight `w`, () or (B,), as a fourth input: a second head, zero at first, adds w - 1 times its output.
    """

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 32, levels: int = 2, steered: bool = False) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.width, self.levels = width, levels
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "levels": levels, "steered": steered}
        self.down = Descent(shape, schedule, n_classes, width, levels)
        sizes, n_told = self.down.sizes[::-1], self.down.n_told
        self.middle = Block(sizes[0], sizes[0], n_told)
        self.up = nn.ModuleList(Block(a + b, b, n_told) for a, b in zip([sizes[0], *sizes], sizes, strict=False))
        self.head = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1))
        self.lead = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), zeroed(nn.Conv2d(width, shape[0], 3, padding=1))) if steered else None

    @property
    def map_sizes(self) -> list[int]:
        """Channels of each of `maps`."""
        sizes = self.down.sizes
        return [*sizes, sizes[-1], *sizes[::-1]]

    def maps(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """The feature maps: of each level on the way down, of the middle, of each level on the way up."""
        x, skips, told = self.down(x, t, y)
        maps = [*skips, self.middle(x, told)]
        for block, skip in zip(self.up, reversed(skips), strict=True):
            maps.append(block(cat([interpolate(maps[-1], size=skip.shape[2:]), skip], 1), told))
        return maps

    def features(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network knows of an image, (B, F): its lowest two maps, averaged over pixels."""
        x, levels, told = self.down(x, t, y)
        return cat([levels[-1].mean((2, 3)), self.middle(x, told).mean((2, 3))], 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, w: Tensor | None = None) -> Tensor:
        return self.read(x, t, y, w)[0]

    def read(self, x: Tensor, t: Tensor, y: Tensor | None = None, w: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The output, and the feature maps that it was made of."""
        maps = self.maps(x, t, y)
        out = self.head(maps[-1])
        out = out if self.lead is None or w is None else out + expand(w - 1, x) * self.lead(maps[-1])
        return out.contiguous(), maps


class Encoder(nn.Module):
    """The downward half with a pooled linear head: `n_out` numbers an image, for a log ratio. Other arguments as for `UNet`."""

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 32, levels: int = 2, n_out: int = 1) -> None:
        super().__init__()
        self.n_classes, self.n_out = n_classes, n_out
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "levels": levels, "n_out": n_out}
        self.down = Descent(shape, schedule, n_classes, width, levels)
        self.norm = nn.GroupNorm(8, self.down.sizes[-1])
        self.head = nn.Linear(self.down.sizes[-1], n_out)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(silu(self.norm(self.down(x, t, y)[0])).mean((2, 3)))
