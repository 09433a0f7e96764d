r"""Scores of a model's own density at held-out points, by its probability-flow ODE.

The same log-densities serve both metrics: held-out likelihood is their mean, and the divergence compares them with the
exact ones. At most 2,000 points up to 4 dimensions, 500 up to 16 and 200 above, 50 Runge-Kutta steps; the divergence of the flow
is exact up to 32 dimensions, a pass for each, and one random probe a point above. All methods meet the same points.
"""

import torch
from torch import Tensor

from .. import likelihood, rng
from ..data import Points
from ..denoise import Denoiser

STEPS = 50
MANY = 2_000
"""Most points, ..."""
FEWER = {4: 500, 16: 200}
"""... and beyond so many dimensions, where each costs more."""
EXACT_UP_TO = 32
"""Dimensions up to which the trace is exact; above, it would cost a pass for each dimension."""


def n_points(dim: int) -> int:
    """Most points that log-densities are computed at."""
    return min([MANY, *(n for most, n in FEWER.items() if dim > most)])


def log_likelihoods(model: Denoiser, points: Points, seed: int) -> Tensor:
    """log p(x_i) of the model, or log p(x_i | y_i) where it takes labels, (n,) in float64, in nats and data units."""
    like = next(model.parameters(), torch.empty(0))
    x, y = (None if a is None else a.to(like.device) for a in points)
    assert x is not None
    exact = x[0].numel() <= EXACT_UP_TO
    return likelihood.log_prob(model, x, y if model.n_classes else None, steps=STEPS, exact=exact, generator=rng.generator(seed, "probes")).double().cpu()


def held_out_likelihood(log_model: Tensor) -> float:
    r"""Mean log-density of held-out points under the model, $\frac{1}{n} \sum_i \log p(x_i)$, in nats.

    Its mean is $E_q[\log q] - KL(q \| p)$, so the exact model scores the negative entropy of the target, the highest there is.

    Args:
        log_model: log p(x_i), or log p(x_i | y_i), (n,).

    Reference:
        Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021, arXiv 2011.13456,
        eq. 39.
    """
    return float(log_model.mean())


def kl_model(log_model: Tensor, log_q: Tensor) -> float:
    r"""$KL(q \| p) \approx \frac{1}{n} \sum_i \log q(x_i) - \log p(x_i)$ at points of q, in nats; given labels, both are.

    Zero for the exact model at every single point, so there its error is that of the ODE solver alone.

    Args:
        log_model: log p(x_i) of the model, (n,).
        log_q: Exact log-density of the target at the same points, (n,).

    Reference:
        Kullback and Leibler, On Information and Sufficiency, 1951, eq. 2.4; the log-density by arXiv 2011.13456, eq. 39.
    """
    return float((log_q - log_model).mean())
