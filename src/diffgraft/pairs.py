"""Distances of all pairs of two point clouds, in blocks: memory does not grow with the number of pairs."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

MANY_FEATURES = 64
"""Features from which on distances come from a matrix product, in double precision."""
ROUNDING = 1e-13
"""Squared distances below this share of the points' squared sizes are 0 there."""
SHIFTED_ROUNDING = 1e-12
"""The same where signals are compared at all shifts, by Fourier transforms."""
SPECTRA = 16_000_000
"""Most numbers of signals whose transforms are held at once."""
CHUNK = 2_000_000
"""Largest block of pairwise distances held at once."""


def blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of x (n, D) to y (m, D), as blocks of rows (r, m) in the order of x."""
    for part in x.split(max(1, CHUNK // len(y))):
        yield _distances(part, y)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[1] < MANY_FEATURES:
        # direct differences: the faster matrix-product form loses the small distances
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    a, b = x.double(), y.double()
    sizes = a.square().sum(1)[:, None] + b.square().sum(1)
    square = torch.addmm(sizes, a, b.T, alpha=-2)
    return torch.where(square < ROUNDING * sizes, 0.0, square).sqrt().to(x.dtype)


def mean_between(x: Tensor, y: Tensor, f: Callable[[Tensor], Tensor]) -> float:
    """Mean of f(|x_i - y_j|) over all pairs of two clouds."""
    return sum(_sum(f(block)) for block in blocks(x, y)) / (len(x) * len(y))


def mean_within(x: Tensor, f: Callable[[Tensor], Tensor]) -> float:
    """Mean of f(|x_i - x_j|) over all pairs of distinct points of a cloud; each pair is computed once."""
    total, rows = 0.0, max(1, CHUNK // len(x))
    for lo in range(0, len(x), rows):
        block = f(_distances(x[lo : lo + rows], x[lo:]))
        square = block[:, : len(block)]
        total += 2 * _sum(block) - _sum(square) - _sum(square.diagonal())
    return total / (len(x) * (len(x) - 1))


def _sum(block: Tensor) -> float:
    return float(block.sum(dtype=torch.float64))


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each point of x (n, *) to the nearest one of y (m, *): (n,)."""
    return torch.cat([block.amin(1) for block in blocks(x.flatten(1), y.flatten(1))])


def nearest_shifted(x: Tensor, y: Tensor) -> Tensor:
    r"""Distance of each signal of x (n, channels, L) to the nearest one of y (m, channels, L) at any shift up to half of L: (n,).

    $d(x, y)^2 = \min_{|\tau| \le L / 2} \frac{L}{L - |\tau|} \sum_{t, t - \tau \in [0, L)} |x_t - y_{t - \tau}|^2$: what both hold, as if it were all.
    """
    length = x.shape[-1]
    n = 2 ** (length + length // 2).bit_length()  # room for each shift on either side
    shifts = torch.arange(-(length // 2), length // 2 + 1, device=x.device)
    best = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    for some in y.split(max(1, SPECTRA // (x.shape[1] * n))):
        spectra, energy = torch.fft.rfft(some.double(), n).conj().permute(2, 1, 0).contiguous(), _overlapping(some, -shifts)
        rows = max(1, CHUNK // (len(some) * x.shape[1] * n))
        best = best.minimum(torch.cat([_at_best_shift(part, spectra, energy, shifts, n) for part in x.split(rows)]))
    return best


def _at_best_shift(x: Tensor, spectra: Tensor, energy: Tensor, shifts: Tensor, n: int) -> Tensor:
    """Distance of each of some signals to the nearest one of those of these conjugate spectra (frequencies, channels, m) and energies."""
    products = (torch.fft.rfft(x.double(), n).permute(2, 0, 1) @ spectra).permute(1, 2, 0)
    sizes = _overlapping(x, shifts)[:, None] + energy
    square = sizes - 2 * torch.fft.irfft(products, n)[..., shifts]  # negative shifts are at the end
    square = torch.where(square < SHIFTED_ROUNDING * sizes.amax(-1, keepdim=True), 0.0, square)
    length = x.shape[-1]
    return (square * length / (length - shifts.abs())).amin((1, 2)).sqrt().to(x.dtype)


def _overlapping(x: Tensor, shifts: Tensor) -> Tensor:
    """Squared size of what of each signal lies within the window of one that is moved by each shift, (n, shifts)."""
    length = x.shape[-1]
    upto = torch.nn.functional.pad(x.double().square().sum(1).cumsum(-1), (1, 0))
    return upto[:, (length + shifts).clamp(max=length)] - upto[:, shifts.clamp(min=0)]


def nearest_other(x: Tensor) -> Tensor:
    """Distance of each point of x (n, *) to the nearest other one: (n,)."""
    x, done = x.flatten(1), 0
    out: list[Tensor] = []
    for block in blocks(x, x):
        block.diagonal(done).fill_(torch.inf)
        out.append(block.amin(1))
        done += len(block)
    return torch.cat(out)
