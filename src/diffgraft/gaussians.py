r"""Gaussian mixtures: densities of which everything is known at every noise level.

Noising a mixture $\sum_k w_k N(m_k, C_k)$ gives the mixture $\sum_k w_k N(\alpha_t m_k, \alpha_t^2 C_k + \sigma_t^2 I)$.
Its log-density, score and denoiser are closed forms; each covariance is taken apart once into its eigenvectors, so any
time costs a projection. A label is a property of the component: given `y`, only the components that carry it remain.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from . import rng
from .data import NULL, Points, Prior, Transform
from .denoise import Denoiser
from .errors import BadData
from .schedule import Schedule
from .shapes import expand


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture, in float64.

    Args:
        weights: Component weights (K,), summing to 1.
        means: (K, D).
        covs: Covariances (K, D, D).
        labels: Label of each component: class index (K,), multi-hot row (K, L), or None.
    """

    weights: Tensor
    means: Tensor
    covs: Tensor
    labels: Tensor | None = None

    @property
    def dim(self) -> int:
        """D."""
        return self.means.shape[1]

    @property
    def n_classes(self) -> int:
        """How many classes or multi-hot columns; 0 without labels."""
        if self.labels is None:
            return 0
        return int(self.labels.max()) + 1 if self.labels.ndim == 1 else self.labels.shape[1]

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False):  # kept for later calls, which may need gradients
            return torch.linalg.eigh(self.covs)  # variances (K, D) along the columns of (K, D, D)

    def log_joint(self, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor, y: Tensor | None = None) -> Tensor:
        """Joint log-density of point and component, (B, K).

        Args:
            x_t: Points (B, D).
            alpha_t, sigma_t: Noise level, () or (B,).
            y: Labels to condition on; components of other labels get log-density -inf.
        """
        return self._log_joint(*self._along_axes(x_t, alpha_t, sigma_t), y)

    def denoised(self, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t, y], (B, D); arguments as for `log_joint`."""
        z, var_t = self._along_axes(x_t, alpha_t, sigma_t)
        share = self._log_joint(z, var_t, y).softmax(1)
        var, axes = (a.to(x_t) for a in self._axes)
        pulled = share[..., None] * expand(alpha_t, z) * var / var_t * z
        return share @ self.means.to(x_t) + pulled.flatten(1) @ axes.transpose(1, 2).flatten(0, 1)

    def _along_axes(self, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to each component's noised mean along its axes, and its noised variances there, (B, K, D): one matrix product."""
        var, axes = (a.to(x_t) for a in self._axes)
        a, s = (expand(c, x_t[:, None]) for c in (alpha_t, sigma_t))
        centres = torch.einsum("kd,kde->ke", self.means.to(x_t), axes)
        z = (x_t @ axes.transpose(0, 1).flatten(1)).unflatten(1, centres.shape) - a * centres
        return z, a**2 * var + s**2

    def _log_joint(self, z: Tensor, var_t: Tensor, y: Tensor | None) -> Tensor:
        log_p = -0.5 * (z**2 / var_t + var_t.log() + np.log(2 * np.pi)).sum(-1)
        return log_p + self._log_weights(self.weights.to(z).log(), y)

    def _log_weights(self, log_w: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            return log_w
        if self.labels is None:
            raise BadData("this mixture has no labels; drop y")
        if y.ndim == 1:
            match, null = y[:, None] == self.labels.to(y), y[:, None] == NULL
        else:
            match, null = (y[:, None] == self.labels.to(y)).all(-1), (y == NULL).all(1, keepdim=True)
        if not bool((match | null).any(1).all()):
            raise BadData("a label that no component of this mixture carries was asked for; use the labels of its components")
        return torch.log_softmax(torch.where(match | null, log_w, -torch.inf), 1)

    def log_prob(self, x_t: Tensor, alpha_t: Tensor | None = None, sigma_t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Log-density of noised points, (B,); of clean ones without `alpha_t` and `sigma_t`."""
        alpha_t = torch.ones(()) if alpha_t is None else alpha_t
        sigma_t = torch.zeros(()) if sigma_t is None else sigma_t
        return self.log_joint(x_t, alpha_t, sigma_t, y).logsumexp(1)

    def transformed(self, transform: Transform) -> "Mixture":
        """The law of `transform.forward(x)`."""
        scale = transform.scale.double().expand(self.dim)
        return Mixture(self.weights, transform.forward(self.means), self.covs / (scale[:, None] * scale), self.labels)

    def sample(self, n: int, seed: int) -> Points:
        """`n` independent points with their labels, float32."""
        g = rng.generator(seed, "mixture")
        k = torch.searchsorted(self.weights.cumsum(0), torch.rand(n, generator=g, dtype=torch.float64)).clamp(max=len(self.weights) - 1)
        var, axes = self._axes
        z = torch.randn(n, self.dim, generator=g, dtype=torch.float64) * var[k].sqrt()
        x = self.means[k] + torch.einsum("be,bde->bd", z, axes[k])
        return Points(x.float(), None if self.labels is None else self.labels[k])


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a mixture, E[x_0 | x_t, y]."""

    def __init__(self, mixture: Mixture, schedule: Schedule) -> None:
        super().__init__(schedule, (mixture.dim,), mixture.n_classes)
        self.mixture = mixture
        self.prior = Prior.fit(mixture.labels) and Prior(*_label_weights(mixture))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.mixture.denoised(x_t, *self.schedule(t), y)


def _label_weights(mixture: Mixture) -> tuple[Tensor, Tensor]:
    assert mixture.labels is not None
    values, index = mixture.labels.unique(dim=0, return_inverse=True)
    return values, torch.zeros(len(values), dtype=torch.float64).index_add(0, index, mixture.weights).float()
