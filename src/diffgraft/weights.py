"""Weighted points: how many equally weighted ones they amount to, and drawing by weight."""

import torch
from torch import Tensor


def effective_sample_size(log_w: Tensor) -> float:
    r"""$(\sum_i w_i)^2 / \sum_i w_i^2$: how many equally weighted points w amounts to, from log w (m,)."""
    log_w = log_w.double()
    return float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())


def systematic(log_w: Tensor, u: float | Tensor, n: int | None = None) -> Tensor:
    """Systematic resampling: n rows (n,), by default as many as weights (m,), each drawn in proportion to its weight.

    Args:
        log_w: Log weights, up to a constant.
        u: The one random number in [0, 1) that it takes.
        n: How many rows.
    """
    n = len(log_w) if n is None else n
    places = (torch.arange(n, dtype=torch.float64) + u) / n
    return torch.searchsorted(log_w.double().softmax(0).cumsum(0), places).clamp(max=len(log_w) - 1)
