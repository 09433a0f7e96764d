r"""Particle correction: samples of the density that guidance promises, not of the one that it ends at.

A guided score $s_p + w (s_q - s_p)$ is that of $p_t^{1-w} q_t^w$ at every noise level, but these densities are not noised versions of one
another, so following the score ends elsewhere. Particles that run the reverse SDE with weights

$d \log W = \frac{g_t^2}{2} w (w - 1)\, |s_q - s_p|^2 dt = \frac{w (w - 1)}{2} |\mathrm{shift}|^2\, d\,\mathrm{SNR}$

and are resampled by them follow the densities. For a log ratio $s_q - s_p$ is $\nabla \log h$, and at w = 1 there is nothing to correct.

Reference:
    Skreta et al., Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts, 2025, arXiv 2503.02819, prop. 3.1.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .guide import Guided
from .shapes import sum_features
from .weights import effective_sample_size, systematic

if TYPE_CHECKING:
    from .samplers import Grid, Noise

LEAST = 0.5
"""Groups whose effective share of particles falls below this are resampled."""


def corrected(
    model: Guided,
    x: Tensor,
    grid: "Grid",
    y: Tensor | None,
    noise: "Noise",
    *,
    size: int,
    uniform: Callable[[int, int], Tensor],
    trace: list[float] | None = None,
) -> Iterator[Tensor]:
    """Ancestral sampling with weights, in groups of `size` particles of one label that are resampled among themselves.

    Args:
        model: The guided model.
        x, grid, y, noise: As for a sampler; equal labels stand side by side.
        size: Particles of a group; the last one of a label may be smaller.
        uniform: Of a step and how many groups there are: a number in [0, 1) for each, (groups,).
        trace: Filled with the mean effective share of particles after each step, before resampling.
    """
    groups = grouped(y, len(x), size)
    snr = [(a / s) ** 2 for a, s in zip(grid.alpha, grid.sigma, strict=True)]
    log_w = torch.zeros(len(x), dtype=torch.float64)
    for i in range(grid.steps):
        w, d, shift = model.parts(x, grid.times[i], y)
        x = grid.ancestral(i, x, d + w * shift, noise(i, x))
        if float(w) != 1:
            log_w += (0.5 * w * (w - 1) * (snr[i + 1] - snr[i]) * sum_features(shift.double() ** 2)).cpu()
        last = i + 1 == grid.steps
        shares, kept = [], torch.arange(len(x))
        for group, u in zip(groups, uniform(i, len(groups)), strict=True):
            share = effective_share(log_w[group])
            shares.append(share)
            if share < LEAST or last:
                kept[group] = group[0] + systematic(log_w[group], float(u))
                log_w[group] = 0.0
        x = x[kept.to(x.device)]
        if trace is not None:
            trace.append(sum(shares) / len(shares))
        yield x


def grouped(y: Tensor | None, n: int, size: int) -> list[Tensor]:
    """Rows of each group: `size` neighbours of one label."""
    if y is None:
        return list(torch.arange(n).split(size))
    changes = (y[1:] != y[:-1]) if y.ndim == 1 else (y[1:] != y[:-1]).any(1)
    ends = [0, *(changes.nonzero()[:, 0] + 1).tolist(), n]
    return [part for lo, hi in pairwise(ends) for part in torch.arange(lo, hi).split(size)]


def effective_share(log_w: Tensor) -> float:
    r"""$(\sum W)^2 / (n \sum W^2)$."""
    return effective_sample_size(log_w) / len(log_w)
