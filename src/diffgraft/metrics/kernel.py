r"""Maximum mean discrepancy: under a sum of Gaussian kernels of the data, and under a cubic kernel of features."""

import torch
from torch import Tensor

from ..pairs import mean_between, mean_within

SCALES = 5
"""Kernels, each of twice the bandwidth of the one before; the middle one's is the median distance."""
PAIRS = 2_000_000
"""Pairs of points at once."""
MEDIAN_OF = 1_000
"""Most reference points that the median is taken over."""


def mmd(x: Tensor, y: Tensor) -> float:
    r"""Squared maximum mean discrepancy, unbiased: $E k(X, X') + E k(Y, Y') - 2 E k(X, Y)$ over distinct points.

    $k(a, b) = \frac{1}{5} \sum_{j=-2}^{2} \exp(-|a - b|^2 / 2 (2^j s)^2)$ with s the median distance between points of y.
    The kernel depends on the reference alone, so all methods are scored by the same one. Zero in the mean for equal laws,
    so a value may be slightly negative. Memory does not grow with the number of pairs.

    Args:
        x: Samples (n, *), two or more.
        y: Reference (m, *), two or more.

    Reference:
        Gretton et al., A Kernel Two-Sample Test, 2012, eq. 3; the median rule is in its section 8.
    """
    x, y = x.flatten(1), y.flatten(1)
    s = bandwidth(y)
    return mean_within(x, lambda d: _kernel(d, s)) + mean_within(y, lambda d: _kernel(d, s)) - 2 * mean_between(x, y, lambda d: _kernel(d, s))


def kernel_inception_distance(x: Tensor, y: Tensor) -> float:
    r"""KID: squared maximum mean discrepancy, unbiased, of features under $k(a, b) = (a^T b / F + 1)^3$.

    Unlike the Frechet distance it is zero in the mean for equal laws however few the points. Memory does not grow with the number of
    pairs.

    Args:
        x, y: Features (n, F) and (m, F), two points or more.

    Reference:
        Binkowski et al., Demystifying MMD GANs, 2018, arXiv 1801.01401, eq. 4.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    return _cubic_within(x) + _cubic_within(y) - 2 * _cubic(x, y) / (len(x) * len(y))


def _cubic(x: Tensor, y: Tensor) -> float:
    """Sum of the cubic kernel over all pairs."""
    return sum(float(((part @ y.T / x.shape[1] + 1) ** 3).sum()) for part in x.split(max(1, PAIRS // len(y))))


def _cubic_within(x: Tensor) -> float:
    """Mean over pairs of distinct points."""
    itself = float((((x**2).sum(1) / x.shape[1] + 1) ** 3).sum())
    return (_cubic(x, x) - itself) / (len(x) * (len(x) - 1))


def bandwidth(y: Tensor) -> float:
    """Median distance between points (m, D); their mean distance where most points coincide, 1 where all do."""
    distances = torch.pdist(y[:MEDIAN_OF].double())
    return float(distances.median()) or float(distances.mean()) or 1.0


def _kernel(distance: Tensor, s: float) -> Tensor:
    widest = s * 2 ** (SCALES // 2)
    k = torch.exp(distance**2 / (-2 * widest**2))
    total = k.clone()
    for _ in range(SCALES - 1):
        total += k.square_().square_()  # half the bandwidth is the fourth power
    return total / SCALES
