r"""Distances between two point clouds that need no density: energy distance and sliced Wasserstein distance."""

import torch
from torch import Tensor

from .. import rng

CHUNK = 2_000_000
"""Largest block of pairwise distances held at once."""
PROJECTIONS = 256


def energy_distance(x: Tensor, y: Tensor) -> float:
    r"""Energy distance, unbiased: $2 E|X - Y| - E|X - X'| - E|Y - Y'|$ over distinct points.

    Zero in the mean for equal laws, so a value may be slightly negative. Memory does not grow with the number of pairs.

    Args:
        x, y: Point clouds (n, *) and (m, *), two points or more.

    Reference:
        Szekely and Rizzo, Energy statistics: a class of statistics based on distances, 2013, eq. 5.
    """
    x, y = x.flatten(1), y.flatten(1)
    n, m = len(x), len(y)
    return 2 * _total_distance(x, y) / (n * m) - _total_distance(x, x) / (n * (n - 1)) - _total_distance(y, y) / (m * (m - 1))


def _total_distance(x: Tensor, y: Tensor) -> float:
    rows = max(1, CHUNK // len(y))
    # direct differences: the faster matrix-product form loses the small distances
    return sum(float(torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist").double().sum()) for part in x.split(rows))


def sliced_w2(x: Tensor, y: Tensor, seed: int = 0) -> float:
    r"""Sliced 2-Wasserstein distance: $\sqrt{E_\theta W_2^2(\theta^T X, \theta^T Y)}$ over random directions.

    Between clouds of unequal size the quantile functions are compared at the larger one's levels.

    Args:
        x, y: Point clouds (n, *) and (m, *).
        seed: Of the 256 directions.

    Reference:
        Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015, eq. 4.
    """
    x, y = x.flatten(1), y.flatten(1)
    theta = torch.randn(PROJECTIONS, x.shape[1], generator=rng.generator(seed, "directions")).to(x)
    theta = theta / theta.norm(dim=1, keepdim=True)
    n = max(len(x), len(y))
    levels = (torch.arange(n, device=x.device, dtype=torch.float64) + 0.5) / n
    total = 0.0
    for directions in theta.split(32):
        a, b = (_quantiles(z @ directions.T, levels) for z in (x, y))
        total += float(((a - b) ** 2).double().mean(0).sum())
    return (total / PROJECTIONS) ** 0.5


def _quantiles(z: Tensor, levels: Tensor) -> Tensor:
    ordered = z.sort(0).values
    return ordered[(levels * len(z)).long().clamp(max=len(z) - 1)]
