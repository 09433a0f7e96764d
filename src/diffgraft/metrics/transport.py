r"""Distances between two point clouds that need no density: energy, sliced and one-dimensional Wasserstein and Frechet distance."""

import torch
from torch import Tensor

from .. import rng
from ..pairs import mean_between, mean_within

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
    return 2 * mean_between(x, y, _same) - mean_within(x, _same) - mean_within(y, _same)


def _same(distance: Tensor) -> Tensor:
    return distance


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


def wasserstein_1(x: Tensor, y: Tensor) -> float:
    r"""1-Wasserstein distance of numbers, $\int_0^1 |F_x^{-1}(u) - F_y^{-1}(u)| du$, in their unit.

    Between clouds of unequal size the quantile functions are compared at the larger one's levels.

    Args:
        x, y: Numbers (n, 1) and (m, 1).

    Reference:
        Vallender, Calculation of the Wasserstein Distance Between Probability Distributions on the Line, 1974.
    """
    n = max(len(x), len(y))
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return float((_quantiles(x, levels) - _quantiles(y, levels)).abs().mean())


def _quantiles(z: Tensor, levels: Tensor) -> Tensor:
    ordered = z.sort(0).values
    return ordered[(levels * len(z)).long().clamp(max=len(z) - 1)]


def frechet(x: Tensor, y: Tensor) -> float:
    r"""Squared Frechet distance of the normals fitted to both: $|\mu_x - \mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^{1/2})$.

    The trace of the root is the sum of the singular values of $C_x^{1/2} C_y^{1/2}$, which holds for singular covariances too:
    fewer points than features are allowed, though the value is then far above zero even for equal laws. Compare it with its
    floor.

    Args:
        x, y: Features (n, F) and (m, F), two points or more; flattened where they have more axes.

    Reference:
        Dowson and Landau, The Frechet Distance between Multivariate Normal Distributions, 1982, eq. 4; on features, Heusel et
        al., GANs Trained by a Two Time-Scale Update Rule, 2017, arXiv 1706.08500, eq. 6.
    """
    (mean_x, cov_x), (mean_y, cov_y) = (_moments(z.flatten(1).double()) for z in (x, y))
    shared = torch.linalg.matrix_norm(_root(cov_x) @ _root(cov_y), ord="nuc")
    return max(0.0, float(((mean_x - mean_y) ** 2).sum() + cov_x.trace() + cov_y.trace() - 2 * shared))


def _moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and unbiased covariance (F, F)."""
    mean = z.mean(0)
    return mean, (z - mean).T @ (z - mean) / (len(z) - 1)


def _root(cov: Tensor) -> Tensor:
    """The symmetric square root of a covariance, its rounding errors below zero cut off."""
    values, axes = torch.linalg.eigh(cov)
    return axes * values.clamp(min=0).sqrt() @ axes.T
