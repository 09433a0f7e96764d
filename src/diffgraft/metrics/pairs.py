"""Distances of all pairs of two point clouds, in blocks: memory does not grow with the number of pairs."""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 2_000_000
"""Largest block of pairwise distances held at once."""


def blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of x (n, D) to y (m, D), as blocks of rows (r, m) in the order of x."""
    for part in x.split(max(1, CHUNK // len(y))):
        # direct differences: the faster matrix-product form loses the small distances
        yield torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """Distance of each point of x (n, *) to the nearest one of y (m, *): (n,), float64."""
    return torch.cat([block.amin(1) for block in blocks(x.flatten(1).double(), y.flatten(1).double())])
