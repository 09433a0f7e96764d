"""Backbones for signals (C, L), such as electrocardiograms: a state-space network to denoise, an encoder to compare domains."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import avg_pool1d, conv1d, pad, relu, silu

from ..errors import one_of
from ..schedule import Discrete, Schedule
from ..shapes import shared
from .embed import LabelEmbedding, NoiseEmbedding, zeroed
from .s4 import Basis, Kind, S4Layer
from .unet import Told

SMALL: dict[str, Any] = {"width": 128, "depth": 3, "patch": 4, "bands": 6}
"""Settings for a laptop, the defaults: 1,225,166 parameters with 8 leads and no labels."""
PAPER: dict[str, Any] = {
    "width": 256,
    "depth": 36,
    "patch": 1,
    "groups": 512,
    "told": "steps",
    "n_told": 512,
    "spare": True,
    "shortcut": False,
    "bands": 0,
}
"""Settings of the published network for 8 leads of 1000 samples and 71 statements: 50,202,504 parameters, and 128 of no label."""
STEPS = 200
"""How many steps a process in continuous time is cut into where a network is told steps."""
SINES = 128


class StepEmbedding(nn.Module):
    """Sines and cosines of the step, a number from 0 to T - 1 or, of a process in continuous time, to 200.

    Args:
        schedule: What the network receives as `t`.
        width: Number of features.

    Reference:
        Vaswani et al., Attention Is All You Need, 2017, arXiv 1706.03762, section 3.5.
    """

    frequencies: Tensor

    def __init__(self, schedule: Schedule, width: int = SINES) -> None:
        super().__init__()
        self.scale = 1.0 if isinstance(schedule, Discrete) else float(STEPS)
        half = width // 2
        self.register_buffer("frequencies", torch.exp(-math.log(1e4) * torch.arange(half) / (half - 1)), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        phase = self.scale * t[:, None] * self.frequencies
        return cat([phase.sin(), phase.cos()], 1)


class NormedConv(nn.Module):
    r"""A convolution of signals whose filters are $g v / |v|$, at the start as torch draws them.

    Reference:
        Salimans and Kingma, Weight Normalization: A Simple Reparameterization to Accelerate Training, 2016, arXiv 1602.07868, eq. 2.
    """

    def __init__(self, n_in: int, n_out: int, size: int = 1) -> None:
        super().__init__()
        plain = nn.Conv1d(n_in, n_out, size)
        self.direction, self.bias = plain.weight, plain.bias
        self.length = nn.Parameter(self._norm().detach().clone())

    def _norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.direction, dim=(1, 2), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return conv1d(x, self.direction * (self.length / self._norm()), self.bias, padding="same")


class Equaliser(nn.Module):
    r"""A linear filter of each channel, whose gains follow from the noise level and from how loud this one signal is in K bands.

    Of a stationary signal of power $S_k$ in band k, the best guess from $x_t = \alpha_t x_0 + \sigma_t \epsilon$ scales the band by
    $\alpha_t S_k / (\alpha_t^2 S_k + \sigma_t^2)$ (Wiener). Recordings differ in $S_k$, some are noisier than others, and a network of a few
    layers learns that late or never. Here the gains are a small network's, told the log power of each band and channel of the input.
    The mean over time is a band, too. At the start the answer is 0.

    Args:
        channels: C.
        n_told: Width of the noise level's embedding.
        bands: K, learned filters, the same for all channels; 0 makes the gains follow from the noise level alone.
        size: Their length in samples.
        hidden: Width of the network.

    Reference:
        Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, 1949, chapter 3.
    """

    def __init__(self, channels: int, n_told: int, bands: int, size: int = 17, hidden: int = 128) -> None:
        super().__init__()
        self.plain = zeroed(nn.Linear(n_told, channels))
        self.bank = nn.Parameter(torch.randn(bands, 1, size) * size**-0.5) if bands else None
        n_seen = channels * (bands + 2)  # the signal as it is and its mean beside the bands
        self.gains = nn.Sequential(nn.Linear(n_told + n_seen, hidden), nn.SiLU(), zeroed(nn.Linear(hidden, n_seen))) if bands else None

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """What to add to a network's answer, (B, C, L)."""
        out = self.plain(told)[..., None] * x
        if self.bank is None or self.gains is None:
            return out
        bands = self._bands(x, self.bank)
        power = (bands.square().mean(3) + 1e-6).log().flatten(1)
        gains = self.gains(cat([told.expand(len(x), -1), power], 1)).unflatten(1, (x.shape[1], 1, -1))
        return out + (gains @ bands).squeeze(2)

    def _bands(self, x: Tensor, bank: Tensor) -> Tensor:
        """Each channel, what the filters leave of it, and its mean, (B, C, K + 2, L)."""
        filtered = conv1d(x.flatten(0, 1)[:, None], bank, padding="same").unflatten(0, x.shape[:2])
        return cat([x[:, :, None], filtered, x.mean(2)[:, :, None, None].expand(-1, -1, -1, x.shape[2])], 2)


class SSSDBlock(nn.Module):
    """One residual block: a short convolution and two state-space layers, the label in between, and a gate.

    Args:
        residual: R, channels between blocks.
        n_told: Width of the noise level's embedding.
        n_label: Width of the label's; 0 for none.
        passes: Whether a later block reads its residual.
        layers: The state-space layers of 2 R features.
    """

    def __init__(self, residual: int, n_told: int, n_label: int, passes: bool, layers: list[S4Layer]) -> None:
        super().__init__()
        self.told = nn.Linear(n_told, residual)
        self.label = nn.Linear(n_label, 2 * residual) if n_label else None
        self.conv = NormedConv(residual, 2 * residual, 3)
        self.first, self.second = layers
        self.out = NormedConv(residual, 2 * residual if passes else residual)

    def forward(self, x: Tensor, told: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the next block reads and what skips it, (B, R, L) each."""
        h = self.first(self.conv(x + self.told(told)[..., None]))
        if self.label is not None and label is not None:
            h = h + self.label(label)[..., None]
        a, b = self.second(h).chunk(2, 1)
        skip, *rest = self.out(a.tanh() * b.sigmoid()).split(x.shape[1], 1)
        return (x + rest[0]) * 0.5**0.5 if rest else x, skip


class SSSD(nn.Module):
    """Residual blocks of state-space layers; each sees all of the signal, and a sum of what they say is the answer.

    Beside the published network it knows two things that make it small. Blocks see `patch` samples as one, since beats need width more than
    resolution; and an `Equaliser` adds the input, filtered as loudly as noise level and signal ask for, which the blocks would learn late
    (`benchmarks/sssd_parts.py` measures both).

    Args:
        shape: Shape of one signal, (C, L); shorter ones may be given too.
        schedule: The forward process, for the noise level.
        n_classes: How many labels; 0 for none.
        width: R, channels between blocks; the layers have 2 R features.
        depth: Number of blocks.
        states: Modes of a state-space kernel.
        kind: Of the state-space layers, "fixed" or "s4d".
        groups: How many steps the features of a "fixed" layer share.
        told: The noise level as its log-SNR ("noise") or as the number of a step ("steps"), as the paper has it.
        n_told: Width of its embedding.
        n_label: Width of the label's.
        spare: Keep the residual of the last block, which nothing reads, as the paper's network does.
        patch: How many samples the blocks see as one; signals of other lengths are filled up with zeros.
        shortcut: Add the input through an `Equaliser`, which the paper's network does not.
        bands: Of the equaliser; 0 leaves a factor that the noise level decides.

    Reference:
        Alcaraz and Strodthoff, Diffusion-based Conditional ECG Generation with Structured State Space Models, 2023, arXiv 2301.08227.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: Schedule,
        n_classes: int = 0,
        *,
        width: int = 128,
        depth: int = 3,
        patch: int = 4,
        states: int = 64,
        kind: Kind = "fixed",
        groups: int = 16,
        told: Literal["noise", "steps"] = "noise",
        n_told: int = 256,
        n_label: int = 128,
        spare: bool = False,
        shortcut: bool = True,
        bands: int = 6,
    ) -> None:
        super().__init__()
        self.n_classes, self.width, self.patch = n_classes, width, patch
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "depth": depth, "states": states, "kind": kind}
        self.config |= {"groups": groups, "told": told, "n_told": n_told, "n_label": n_label, "spare": spare, "shortcut": shortcut}
        self.config |= {"patch": patch, "bands": bands}
        steps = one_of("way to tell the noise level", told, ("noise", "steps")) == "steps"
        self.noise = StepEmbedding(schedule) if steps else NoiseEmbedding(schedule)
        self.told = nn.Sequential(nn.Linear(2 * self.noise.frequencies.numel(), n_told), nn.SiLU(), nn.Linear(n_told, n_told), nn.SiLU())
        self.label = LabelEmbedding(n_classes, n_label) if n_classes else None
        length = -(-shape[1] // patch)
        self.stem = NormedConv(shape[0] * patch, width)
        basis = Basis(groups, states, length) if kind == "fixed" else None  # one for all layers
        pairs = [[S4Layer(2 * width, length, states, kind=kind, basis=basis) for _ in range(2)] for _ in range(depth)]
        self.blocks = nn.ModuleList(SSSDBlock(width, n_told, n_label if n_classes else 0, spare or k < depth - 1, layers) for k, layers in enumerate(pairs))
        self.head = nn.Sequential(NormedConv(width, width), nn.ReLU(), zeroed(nn.Conv1d(width, shape[0] * patch, 1)))
        self.shortcut = Equaliser(shape[0], n_told, bands) if shortcut else None

    @property
    def map_sizes(self) -> list[int]:
        """Channels of each of `maps`."""
        return [self.width, self.width]

    def maps(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """What half of the blocks say, summed, and what all do, (B, R, L / patch) each."""
        return self._ends(x, self._told(t, x), y)

    def _ends(self, x: Tensor, told: Tensor, y: Tensor | None) -> list[Tensor]:
        """The maps, of the noise level's embedding."""
        label = None if self.label is None else self.label(y, len(x))
        ends: list[int] = [max(len(self.blocks) // 2, 1), len(self.blocks)]
        maps: list[Tensor] = []
        x, total = relu(self.stem(self._patches(x))), torch.zeros((), dtype=x.dtype, device=x.device)
        for k, block in enumerate(self.blocks, 1):
            x, skip = block(x, told, label)
            total = total + skip
            maps += [total * k**-0.5] * ends.count(k)
        return maps

    def _told(self, t: Tensor, x: Tensor) -> Tensor:
        """The noise level's embedding."""
        return self.told(self.noise(shared(t.reshape(-1))).to(x.dtype))

    def features(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network knows of a signal, (B, F): its maps averaged over time."""
        return cat([a.mean(2) for a in self.maps(x, t, y)], 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.read(x, t, y)[0]

    def read(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The output, and the feature maps that it was made of."""
        told = self._told(t, x)
        maps = self._ends(x, told, y)
        out = self.head(maps[-1]).unflatten(1, (-1, self.patch)).transpose(2, 3).flatten(2)[..., : x.shape[2]]
        return (out if self.shortcut is None else out + self.shortcut(x, told)), maps

    def _patches(self, x: Tensor) -> Tensor:
        """Samples side by side, (B, C * patch, L / patch)."""
        x = pad(x, (0, -x.shape[2] % self.patch))
        return x.unflatten(2, (-1, self.patch)).transpose(2, 3).flatten(1, 2)


class SignalBlock(nn.Module):
    """A residual block, two convolutions over time, scaled and shifted by the conditioning in between."""

    def __init__(self, n_in: int, n_out: int, n_told: int, size: int = 5) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, n_in), nn.GroupNorm(8, n_out)
        self.conv1, self.conv2 = nn.Conv1d(n_in, n_out, size, padding=size // 2), nn.Conv1d(n_out, n_out, size, padding=size // 2)
        self.told = nn.Linear(n_told, 2 * n_out)
        self.skip = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[..., None].chunk(2, 1)
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class SignalEncoder(nn.Module):
    """Convolutions over time that halve it, with a pooled linear head: `n_out` numbers a signal, for a log ratio.

    Args:
        shape: Shape of one signal, (C, L); any length is taken.
        schedule: The forward process, for the noise level.
        n_classes: How many labels; 0 for none.
        width: Channels of the first level, a multiple of 8; each level doubles them, up to four times as many.
        levels: Number of resolutions.
        n_out: How many numbers.
    """

    def __init__(self, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 32, levels: int = 4, n_out: int = 1) -> None:
        super().__init__()
        self.n_classes, self.n_out = n_classes, n_out
        self.config = {"shape": list(shape), "n_classes": n_classes, "width": width, "levels": levels, "n_out": n_out}
        sizes, n_told = [width * min(2**k, 4) for k in range(levels)], 4 * width
        self.told = Told(schedule, n_classes, n_told)
        self.stem = nn.Conv1d(shape[0], width, 7, padding=3)
        self.blocks = nn.ModuleList(SignalBlock(a, b, n_told) for a, b in zip([width, *sizes], sizes, strict=False))
        self.norm = nn.GroupNorm(8, sizes[-1])
        self.head = nn.Linear(sizes[-1], n_out)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        told, x = self.told(x, t.reshape(-1), y), self.stem(x)
        for block in self.blocks:
            x = avg_pool1d(block(x, told), 2, ceil_mode=True)
        return self.head(silu(self.norm(x)).mean(2))
