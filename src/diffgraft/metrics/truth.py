r"""Scores that need the exact target: the error of the score, and the divergence of samples."""

import math
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from .. import rng
from ..denoise import Denoiser, noised, with_schedule
from ..shapes import expand, sum_features

N_POINTS = 10_000
NEIGHBOURS = 5
BATCH = 10_000
"""Samples whose exact density is computed at once."""


@torch.no_grad()
def score_error(model: Denoiser, truth: Any, seed: int = 0) -> float:
    r"""$E_t E_{q_t} \sigma_t^2 |s(x_t, t, y) - s^*(x_t, t, y)|^2$ over t uniform on [t_min, t_max]; 0 is exact.

    Taken in the model's own space, so values of models with different transforms differ in scale.

    Args:
        model: The fitted model.
        truth: With `target`, its exact denoiser, `sample_target`, and `within` for the model's space.
        seed: Of the points and noise.
    """
    exact = with_schedule(truth.within(model.transform).target, model.schedule)
    x_0, y = truth.sample_target(N_POINTS, rng.split(seed, "points"))
    x_0 = model.transform.forward(x_0)
    g = rng.generator(seed, "score error")
    u = (torch.randperm(N_POINTS, generator=g) + torch.rand(N_POINTS, generator=g)) / N_POINTS
    t = model.schedule.t_min + (model.schedule.t_max - model.schedule.t_min) * u
    x_t = noised(model.schedule, x_0, t, torch.randn(x_0.shape, generator=g))
    y = y if model.n_classes else None
    alpha_t, sigma_t = (expand(a, x_t) for a in model.schedule(t))
    like = next(model.parameters(), x_t)
    guess = model(x_t.to(like.device), t.to(like.device), None if y is None else y.to(like.device)).to(x_t)
    error = alpha_t / sigma_t * (guess - exact(x_t, t, y))
    return float(sum_features(error.double() ** 2).mean())


def kl_generated(x: Tensor, log_prob: Any) -> float:
    r"""$KL(\text{generated} \| q) = -H - E[\log q]$, with the entropy H of the samples by five nearest neighbours.

    Args:
        x: Samples (n, D).
        log_prob: The exact log q, (n, D) to (n,).

    Reference:
        Kozachenko and Leonenko, Sample estimate of the entropy of a random vector, 1987.
    """
    return -entropy(x) - float(log_prob(x.double()).mean())


def average_likelihood(x: Tensor, log_prob: Any) -> float:
    r"""Mean exact density at the samples, $\frac{1}{n} \sum_i q(x_i)$.

    Perfect samples score $E_q[q] = \int q^2$, not the maximum: samples that crowd at the modes score more than that.

    Args:
        x: Samples (n, D).
        log_prob: The exact log q, (n, D) to (n,).

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, section 4.1, table 1.
    """
    return sum(float(log_prob(part.double()).exp().sum()) for part in x.split(BATCH)) / len(x)


def entropy(x: Tensor) -> float:
    """Differential entropy of the law of points (n, D) in nats, by five nearest neighbours."""
    n, d = x.shape
    radius = cKDTree(x.double().numpy()).query(x.double().numpy(), k=NEIGHBOURS + 1, workers=-1)[0][:, -1]
    log_ball = d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)
    return float(digamma(n) - digamma(NEIGHBOURS) + log_ball + d * np.log(np.maximum(radius, 1e-300)).mean())
