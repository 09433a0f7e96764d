"""Distances of all pairs of two point clouds, in blocks: memory does not grow with the number of pairs."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

MANY_FEATURES = 64
"""Features from which on distances come from a matrix product, in double precision."""
ROUNDING = 1e-13
"""Squared distances below this share of the points' squared sizes are 0 there."""
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


def nearest_other(x: Tensor) -> Tensor:
    """Distance of each point of x (n, *) to the nearest other one: (n,)."""
    x, done = x.flatten(1), 0
    out: list[Tensor] = []
    for block in blocks(x, x):
        block.diagonal(done).fill_(torch.inf)
        out.append(block.amin(1))
        done += len(block)
    return torch.cat(out)
