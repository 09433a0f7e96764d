r"""SYNTHETIC electrocardiograms: a heart as a dipole that turns, seen by eight leads, with everything that made a record known.

A record is $x = f(u) + noise$. The latents u that the two domains weigh differently are its statements, heart rate, electrical axis, gain
and noise level, the last four normal in the logarithm or in angle; so the density ratio of target to source is known in closed form,

$\log r(u) = \log \frac{q(y)}{p(y)} + \sum_k \frac{(u_k - m_k)^2 - (u_k - m'_k)^2}{2 s_k^2}$.

Each beat is a sum of Gaussian bumps in time along dipole vectors (X to the left, Y down, Z to the back), and a lead is a fixed combination
of the three; limb leads that are derived from these eight obey Einthoven's law exactly. Statements change what they change in people:
the PR interval, P waves and rhythm, the width and end of the QRS complex, early beats, the ST segment. They do so to a degree, and hearts
without them differ in the same quantities, so a record does not always show what it is of.

References:
    McSharry, Clifford, Tarassenko, Smith, A Dynamical Model for Generating Synthetic Electrocardiogram Signals, 2003, IEEE Transactions
    on Biomedical Engineering 50(3) (waves as Gaussian bumps).
    Dower, Machado, Osborne, On Deriving the Electrocardiogram from Vectorcardiographic Leads, 1980, Clinical Cardiology 3 (leads of a dipole).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import rng

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
DOWER = torch.tensor(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
"""What each lead sees of the dipole's three directions."""
STATEMENTS = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")
KINDS = ("heart rate", "axis", "gain", "noise")
"""The latents beside the statements: log beats a minute, radians in the frontal plane, log gain, log millivolts."""
WAVES = ("P", "Q", "R", "S", "T", "extra")
TIMES = (-0.16, -0.025, 0.0, 0.028, 0.25, 0.12)
"""Seconds from the R wave; that of T is at a heart rate of 60 and goes with the root of the beat's length."""
WIDTHS = (0.022, 0.009, 0.014, 0.011, 0.05, 0.055)
VECTORS = (
    (0.08, 0.11, -0.02),
    (-0.15, -0.05, -0.15),
    (1.0, 0.9, 0.35),
    (-0.15, -0.25, 0.35),
    (0.25, 0.22, -0.12),
    (0.0, 0.0, 0.0),
)
"""Millivolts; `extra` is the level of the ST segment, or what a statement adds."""
SIZES = (0.35, 0.2, 0.12, 0.2, 0.25, 0.0)
"""Standard deviation of the logarithm of each wave's size among records."""
DEGREES = (0.25, 1.0)
"""Between which a record shows its statement: 1 is the textbook's picture, 0 would be a normal one."""
CONDUCTED, LEVEL = 0.012, 0.03
"""Standard deviations among all records: of the P wave's time in seconds, and of the ST segment along each direction in millivolts."""
CHUNK = 64
"""Records that are rendered at once."""
VARIED, UNLIKE, AGITATED = 0.03, 0.5, 0.22
"""Coefficient of variation of beat lengths, the standard deviation of its logarithm among records, and that in full atrial fibrillation."""
MOST_BEATS = 5.0
"""Beats a second that are drawn, more than any heart's."""
EARLY = 0.62
"""Where a fully early beat comes, as a share of the beat before."""


@dataclass(frozen=True)
class Domain:
    """How records of one domain are drawn.

    Args:
        statements: How often each statement occurs, in the order of `STATEMENTS`; normalised.
        means: Means of `KINDS`.
    """

    statements: tuple[float, ...]
    means: tuple[float, ...]


SPREADS = (0.18, 0.25, 0.2, 0.3)
"""Standard deviations of `KINDS`, the same in every domain."""
SOURCE = Domain((30, 8, 6, 5, 6, 6, 7, 7, 5), (4.3175, 0.0, 0.0, -3.5))
TARGET = Domain((14, 14, 9, 5, 10, 7, 7, 9, 5), (4.4075, 0.12, 0.1, -3.38))
"""Louder than the source: networks lose amplitude, and a softer target would be nearer to their samples than to the records they learned from."""
APART = replace(TARGET, means=(4.95, 0.8, -0.6, -2.6))
"""A target that a ratio cannot reach: another rate, axis, gain and noise, each three spreads and more away."""


class Latents(NamedTuple):
    """What made records: a statement each, int64 (n,), and the numbers of `KINDS`, (n, 4)."""

    statement: Tensor
    numbers: Tensor


def draw(domain: Domain, n: int, seed: int) -> Latents:
    """Latents of `n` records."""
    g = rng.generator(seed, "latents")
    statement = torch.multinomial(torch.tensor(domain.statements, dtype=torch.float64), n, replacement=True, generator=g)
    numbers = torch.tensor(domain.means) + torch.tensor(SPREADS) * torch.randn(n, len(KINDS), generator=g)
    return Latents(statement, numbers)


def log_ratio(u: Latents, source: Domain = SOURCE, target: Domain = TARGET) -> Tensor:
    """log q(u) / p(u), (n,) in float64, of records with latents `u`."""
    q, p = (torch.tensor(d.statements, dtype=torch.float64) / sum(d.statements) for d in (target, source))
    spread, z = torch.tensor(SPREADS, dtype=torch.float64), u.numbers.double()
    far = [((z - torch.tensor(d.means, dtype=torch.float64)) / spread) ** 2 for d in (source, target)]
    return (q / p).log()[u.statement] + (far[0] - far[1]).sum(1) / 2


def render(u: Latents, seed: int, *, samples: int = 256, rate: float = 100.0) -> Tensor:
    """Records (n, 8, samples) in millivolts, of `LEADS`.

    Args:
        u: What they are made of.
        seed: Of all that both domains have alike: phase, the lengths of beats, the size of waves, degrees, wander and noise.
        samples: Of each record.
        rate: Samples a second.
    """
    parts = [Latents(*(a[k : k + CHUNK] for a in u)) for k in range(0, len(u.statement), CHUNK)]
    return torch.cat([_record(part, rng.split(seed, "record", k), samples, rate) for k, part in enumerate(parts)])


def _record(u: Latents, seed: int, samples: int, rate: float) -> Tensor:
    """A chunk of records."""
    n, time = len(u.statement), torch.arange(samples) / rate
    beats = _Beats.drawn(u, seed, samples / rate)
    at = time - (beats.start[..., None] + beats.times)[..., None]
    bumps = torch.exp(-0.5 * (at / beats.widths[..., None]) ** 2)
    dipole = torch.einsum("nkwl,nkwc->ncl", bumps, beats.vectors)
    dipole += beats.degree[..., None] * _fibrillation(u, seed, time)
    turn, level = u.numbers[:, 1], u.numbers[:, 3].exp()
    cos, sin, one, none = turn.cos(), turn.sin(), torch.ones(n), torch.zeros(n)
    rotation = torch.stack([cos, -sin, none, sin, cos, none, none, none, one], 1).view(n, 3, 3)
    clean = u.numbers[:, 2].exp()[:, None, None] * (DOWER @ (rotation @ dipole))
    return clean + level[:, None, None] * _noise(n, samples, seed) + _wander(n, time, seed)


@dataclass
class _Beats:
    """The beats of a chunk of records: when each starts (n, K), and time, width and dipole vector of each of its waves (n, K, W, ...).

    `degree` (n, 1) is how far each record shows its statement.
    """

    degree: Tensor
    start: Tensor
    times: Tensor
    widths: Tensor
    vectors: Tensor

    @classmethod
    def drawn(cls, u: Latents, seed: int, seconds: float) -> "_Beats":
        g, n = rng.generator(seed, "beats"), len(u.statement)
        length = 60 / u.numbers[:, 0].exp()
        count = 4 + int(MOST_BEATS * seconds)
        degree = DEGREES[0] + (DEGREES[1] - DEGREES[0]) * torch.rand(n, 1, generator=g)
        lengths = length[:, None] * _lengths(u, degree, (n, count), g)
        first = -length * torch.rand(n, generator=g)
        start = first[:, None] + torch.cat([torch.zeros(n, 1), lengths.cumsum(1)[:, :-1]], 1)
        whole = (n, count, len(WAVES))
        times = torch.tensor(TIMES).expand(whole).clone()
        times[..., WAVES.index("T")] = TIMES[4] * lengths.clamp(0.4, 1.4).sqrt()
        times[..., WAVES.index("P")] += CONDUCTED * torch.randn(n, 1, generator=g)
        sizes = (torch.tensor(SIZES) * torch.randn(n, 1, len(WAVES), generator=g)).exp()
        vectors = torch.tensor(VECTORS).expand(*whole, 3) * sizes[..., None]
        vectors[..., WAVES.index("extra"), :] = LEVEL * torch.randn(n, 1, 3, generator=g)
        beats = cls(degree, start, times, torch.tensor(WIDTHS).expand(whole).clone(), vectors)
        beats._state(u, lengths, seconds, g)
        return beats

    def _wave(self, name: str, rows: Tensor, *, time: float | None = None, width: float | None = None, vector: tuple[float, ...] | None = None) -> None:
        """Moves a wave of some records or beats, a mask (n,) or (n, K), towards what is given, as far as their degree says."""
        w, mask = WAVES.index(name), rows[:, None].expand(self.start.shape) if rows.ndim == 1 else rows
        share = mask * self.degree
        if time is not None:
            self.times[..., w].lerp_(torch.tensor(time), share)
        if width is not None:
            self.widths[..., w].lerp_(torch.tensor(width), share)
        if vector is not None:
            self.vectors[..., w, :].lerp_(torch.tensor(vector), share[..., None])

    def _drop(self, name: str, rows: Tensor) -> None:
        """Takes a wave from some records, a mask (n,)."""
        self.vectors[rows, :, WAVES.index(name)] = 0.0

    def _state(self, u: Latents, lengths: Tensor, seconds: float, g: torch.Generator) -> None:
        """What each statement changes."""
        has = {name: u.statement == k for k, name in enumerate(STATEMENTS)}
        self._drop("P", has["AFIB"])
        self._wave("P", has["1AVB"], time=TIMES[0] - 0.11)
        self._wave("R", has["CLBBB"], width=0.038, vector=(1.0, 0.3, 0.9))
        for name in ("Q", "S"):
            self._wave(name, has["CLBBB"], vector=(0.0, 0.0, 0.0))
        self._wave("T", has["CLBBB"], vector=(-0.32, -0.1, -0.3))
        self.times[has["CRBBB"], :, WAVES.index("extra")], self.widths[has["CRBBB"], :, WAVES.index("extra")] = 0.062, 0.022
        self._wave("extra", has["CRBBB"], vector=(-0.6, -0.1, -0.7))
        self._wave("extra", has["STD_"], vector=(-0.2, -0.13, 0.08))
        self._wave("extra", has["STE_"], vector=(0.06, 0.06, -0.26))
        self._early(has["PAC"], has["PVC"], lengths, seconds, g)

    def _early(self, atrial: Tensor, ventricular: Tensor, lengths: Tensor, seconds: float, g: torch.Generator) -> None:
        """One beat within the record comes early; a ventricular one is wide, has no P wave, and a pause follows it."""
        inside = (self.start > 0.15 * seconds) & (self.start < 0.9 * seconds)
        chosen = (inside * torch.rand(inside.shape, generator=g)).argmax(1, keepdim=True)
        hit = torch.zeros_like(inside).scatter(1, chosen, True)
        moved = self.degree * (1 - EARLY) * lengths.gather(1, (chosen - 1).clamp(min=0))
        after = torch.arange(self.start.shape[1]) >= chosen
        self.start = self.start - torch.where(atrial[:, None] & after, moved, 0.0) - torch.where(ventricular[:, None] & hit, moved, 0.0)
        self._wave("P", hit & atrial[:, None], vector=(0.06, -0.1, 0.04))
        wide = hit & ventricular[:, None]
        for name in ("P", "Q", "S"):
            self._wave(name, wide, vector=(0.0, 0.0, 0.0))
        self._wave("R", wide, width=0.045, vector=(-1.0, 1.1, -0.7))
        self._wave("T", wide, vector=(0.5, -0.5, 0.35))


def _lengths(u: Latents, degree: Tensor, shape: tuple[int, int], g: torch.Generator) -> Tensor:
    """Lengths of beats over the mean one: nearly even, or in atrial fibrillation gamma distributed without memory."""
    varied = VARIED * (UNLIKE * torch.randn(shape[0], 1, generator=g)).exp()
    even = 1 + varied * torch.randn(shape, generator=g)
    uneven = -torch.rand(round(1 / AGITATED**2), *shape, generator=g).clamp(min=1e-9).log().mean(0)
    agitated = (u.statement == STATEMENTS.index("AFIB"))[:, None]
    return torch.lerp(even, uneven, degree * agitated).clamp(0.45, 1.8)


def _fibrillation(u: Latents, seed: int, time: Tensor) -> Tensor:
    """Waves of fibrillating atria, 5 to 8 a second, (n, 3, L); zero elsewhere."""
    g, n = rng.generator(seed, "fibrillation"), len(u.statement)
    speed, phase = 5 + 3 * torch.rand(n, 1, generator=g), 6.2832 * torch.rand(n, 2, generator=g)
    wave = torch.sin(6.2832 * speed * time + phase[:, :1] + 0.8 * torch.sin(6.2832 * 0.7 * time + phase[:, 1:]))
    size = 0.06 * (u.statement == STATEMENTS.index("AFIB"))[:, None, None]
    return size * wave[:, None] * torch.tensor([0.5, 0.8, -1.0])[:, None]


def _noise(n: int, samples: int, seed: int) -> Tensor:
    """Noise of each lead, (n, 8, L), of unit variance: half of it white, half with a memory of some samples."""
    g = rng.generator(seed, "noise")
    white, fresh = (torch.randn(n, len(LEADS), samples, generator=g) for _ in range(2))
    slow = torch.zeros_like(fresh)
    slow[..., 0] = fresh[..., 0]
    for k in range(1, samples):
        slow[..., k] = 0.9 * slow[..., k - 1] + (1 - 0.9**2) ** 0.5 * fresh[..., k]
    return (white + slow) / 2**0.5


def _wander(n: int, time: Tensor, seed: int) -> Tensor:
    """The base line of each lead, that breathes."""
    g = rng.generator(seed, "wander")
    size, speed, phase = (
        0.03 * torch.randn(n, len(LEADS), 1, generator=g),
        0.15 + 0.25 * torch.rand(n, 1, 1, generator=g),
        torch.rand(n, len(LEADS), 1, generator=g),
    )
    return size * torch.sin(6.2832 * (speed * time + phase))
