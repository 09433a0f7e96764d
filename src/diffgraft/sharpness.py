r"""Can a guided density be normalised? $q^w / p^{w-1}$ is a density only where q is not too wide beside p.

Of two Gaussians the precision along a direction is $w / v_q - (w - 1) / v_p$, which must be positive: the largest ratio
$v_q / v_p$ over all directions must stay below $w / (w - 1)$.
"""

import torch
from torch import Tensor

from . import rng
from .denoise import Denoiser
from .samplers import sample, sample_labels

SAMPLES, STEPS = 400, 15
"""Samples of each model that their spreads are judged by, and steps of each."""
DIRECTIONS = 16
"""Principal directions that are looked at, where there are more."""


def widest(source: Tensor, tuned: Tensor) -> float:
    """Largest ratio of the variance of `tuned` (m, *) to that of `source` (n, *) along the principal directions of both."""
    a, b = (x.flatten(1).double() - x.flatten(1).double().mean(0) for x in (source, tuned))
    axes = torch.cat([torch.linalg.svd(x / len(x) ** 0.5, full_matrices=False)[2][:DIRECTIONS] for x in (a, b)])
    # along axes of the whole, weighed by what it holds: a direction in which neither varies says nothing
    basis = torch.linalg.qr(axes.T)[0]
    p, q = (torch.atleast_2d(torch.cov((x @ basis).T)) for x in (a, b))
    floor = 1e-3 * (p.diagonal().mean() + q.diagonal().mean()) * torch.eye(len(p), dtype=p.dtype)
    lower = torch.linalg.cholesky(p + floor)
    inner = torch.linalg.solve_triangular(lower, torch.linalg.solve_triangular(lower, q, upper=False).T, upper=False)
    return float(torch.linalg.eigvalsh(inner)[-1])


def sharpness_warning(source: Denoiser, tuned: Denoiser, weight: float) -> dict[str, list[str]]:
    """Notes with a warning where the guided density of two models cannot be normalised at this weight."""
    if weight <= 1:
        return {}
    draws = []
    for model in (source, tuned):
        y = sample_labels(model, SAMPLES, 0) if model.n_classes else None
        x = sample(model, SAMPLES, y=y, steps=STEPS, generator=rng.generator(0, "sharpness"))
        draws.append(tuned.transform.forward(x))
    ratio, most = widest(*draws), weight / (weight - 1)
    if ratio < most:
        return {}
    return {
        "warnings": [
            f"along one direction the fine-tuned model is {ratio:.2g} times as wide (in variance) as the source, and a weight of {weight:g} has a density only "
            f"below {most:.2g}; use a weight below {ratio / (ratio - 1):.2g}, or of 1"
        ]
    }
