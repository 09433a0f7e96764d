r"""Gaussian mixtures: worlds in which everything is known exactly, at every noise level.

Noising a mixture $\sum_k w_k N(m_k, C_k)$ gives the mixture $\sum_k w_k N(\alpha_t m_k, \alpha_t^2 C_k + \sigma_t^2 I)$.
Its log-density, score, denoiser and, for two mixtures, $\log h = \log q_t - \log p_t$ are closed forms; each covariance
is taken apart once into its eigenvectors, so any time costs a projection. A label is a property of the component: given
`y`, only the components that carry it remain.

`shifted` is the simulation of section 4.1 of arXiv 2405.16876; `hard` draws a harder pair of worlds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data import NULL, Data, Points, Prior, Task, Transform
from ..denoise import Denoiser
from ..errors import BadData
from ..schedule import Schedule, vp
from ..shapes import expand

N_TEST = 20_000


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

    def components(self, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Joint log-density of point and component (B, K), and E[x_0 | x_t, k] (B, K, D).

        Args:
            x_t: Points (B, D).
            alpha_t, sigma_t: Noise level, () or (B,).
            y: Labels to condition on; components of other labels get log-density -inf.
        """
        var, axes = (a.to(x_t) for a in self._axes)
        means, log_w = self.means.to(x_t), self.weights.to(x_t).log()
        a, s = (expand(c, x_t[:, None]) for c in (alpha_t, sigma_t))
        z = torch.einsum("bkd,kde->bke", x_t[:, None] - a * means, axes)
        var_t = a**2 * var + s**2
        log_p = -0.5 * (z**2 / var_t + var_t.log() + np.log(2 * np.pi)).sum(-1)
        x_0 = means + torch.einsum("bke,kde->bkd", a * var / var_t * z, axes)
        return log_p + self._log_weights(log_w, y), x_0

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
        return self.components(x_t, alpha_t, sigma_t, y)[0].logsumexp(1)

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
        log_p, x_0 = self.mixture.components(x_t, *self.schedule(t), y)
        return (log_p.softmax(1)[..., None] * x_0).sum(1)


def _label_weights(mixture: Mixture) -> tuple[Tensor, Tensor]:
    assert mixture.labels is not None
    values, index = mixture.labels.unique(dim=0, return_inverse=True)
    return values, torch.zeros(len(values), dtype=torch.float64).index_add(0, index, mixture.weights).float()


@dataclass(frozen=True, eq=False)
class Truth:
    """Everything about a pair of mixtures, exactly, under one forward process.

    Args:
        p, q: Source and target.
        schedule: The forward process.
    """

    p: Mixture
    q: Mixture
    schedule: Schedule

    @cached_property
    def source(self) -> Denoiser:
        """The exact source denoiser."""
        return MixtureDenoiser(self.p, self.schedule)

    @cached_property
    def target(self) -> Denoiser:
        """The exact target denoiser."""
        return MixtureDenoiser(self.q, self.schedule)

    def log_h(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """log q_t(x_t | y) - log p_t(x_t | y), (B,)."""
        alpha_t, sigma_t = self.schedule(t)
        return self.q.log_prob(x_t, alpha_t, sigma_t, y) - self.p.log_prob(x_t, alpha_t, sigma_t, y)

    def log_prob_source(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x | y) of clean points, (B,)."""
        return self.p.log_prob(x, y=y)

    def log_prob_target(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log q(x | y) of clean points, (B,)."""
        return self.q.log_prob(x, y=y)

    def sample_target(self, n: int, seed: int) -> Points:
        """Perfect samples of the target."""
        return self.q.sample(n, seed)

    def under(self, schedule: Schedule) -> "Truth":
        """The same worlds under another forward process."""
        return Truth(self.p, self.q, schedule)

    def within(self, transform: Transform) -> "Truth":
        """The same worlds in the model space of a transform."""
        return Truth(self.p.transformed(transform), self.q.transformed(transform), self.schedule)


def shifted(n_target: int = 100, seed: int = 0, *, n_source: int = 10_000, schedule: Schedule | None = None) -> Task:
    """The simulation of section 4.1: two modes each, the target's turned by 90 degrees.

    p = 1/2 N(mu_S, 0.1 I) + 1/2 N(-mu_S, 0.1 I) with mu_S = (0.5, 0.5); q the same with mu_T = (0.5, -0.5). Here
    KL(q || p) = 3.1 nats and E_q[q] = 0.4006.

    Args:
        n_target: Target points.
        seed: Of the draw.
        n_source: Source points.
        schedule: The forward process of the truth; `vp()` by default.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, section 4.1.
    """
    p, q = (_two_modes(torch.tensor(mu, dtype=torch.float64)) for mu in ((0.5, 0.5), (0.5, -0.5)))
    return _task("mixtures", p, q, n_target, n_source, seed, schedule, {"world": "shifted"})


def _two_modes(mu: Tensor) -> Mixture:
    half = torch.full((2,), 0.5, dtype=torch.float64)
    return Mixture(half, torch.stack([mu, -mu]), 0.1 * torch.eye(len(mu), dtype=torch.float64).expand(2, -1, -1))


def hard(
    n_target: int = 100,
    seed: int = 0,
    *,
    dim: int = 8,
    n_components: int = 6,
    labels: str = "none",
    shift: float = 0.5,
    world_seed: int = 0,
    n_source: int = 10_000,
    schedule: Schedule | None = None,
) -> Task:
    """A harder pair: unequal weights, full covariances, any dimension; the target moves and reweights every component.

    Args:
        n_target, seed, n_source, schedule: As in `shifted`.
        dim: D, 1 to 32 in the tests.
        n_components: K.
        labels: "none", "classes" (each component a class, two components share one from K = 4 on), or "multi-hot" (each
            component a row of three statements).
        shift: How far the target's means move, in units of their spread, and how strongly weights are tilted.
        world_seed: Draws the world; `seed` draws the points.

    Raises:
        BadData: Unknown kind of labels.
    """
    if labels not in ("none", "classes", "multi-hot"):
        raise BadData(f"labels must be 'none', 'classes' or 'multi-hot', got '{labels}'")
    g = rng.generator(world_seed, "world", dim, n_components)
    means = torch.randn(n_components, dim, generator=g, dtype=torch.float64)
    covs = torch.stack([_random_covariance(dim, g) for _ in range(n_components)])
    weights = torch.softmax(0.5 * torch.randn(n_components, generator=g, dtype=torch.float64), 0)
    moved = means + shift * torch.randn(n_components, dim, generator=g, dtype=torch.float64) / dim**0.5
    tilted = torch.softmax(weights.log() + 2 * shift * torch.randn(n_components, generator=g, dtype=torch.float64), 0)
    marks = _component_labels(labels, n_components)
    p, q = Mixture(weights, means, covs, marks), Mixture(tilted, moved, covs, marks)
    config = {"world": "hard", "dim": dim, "n_components": n_components, "labels": labels, "shift": shift, "world_seed": world_seed}
    return _task("mixtures", p, q, n_target, n_source, seed, schedule, config)


def _random_covariance(dim: int, g: torch.Generator) -> Tensor:
    """A random orientation with variances spread over 0.05 to 0.5."""
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=g, dtype=torch.float64))[0]
    var = 0.05 * 10 ** torch.rand(dim, generator=g, dtype=torch.float64)
    return (axes * var) @ axes.T


def _component_labels(kind: str, n_components: int) -> Tensor | None:
    k = torch.arange(n_components)
    if kind == "classes":
        return k // 2 if n_components >= 4 else k
    return torch.stack([k // 2**j % 2 for j in range(3)], 1).float() if kind == "multi-hot" else None


def _task(name: str, p: Mixture, q: Mixture, n_target: int, n_source: int, seed: int, schedule: Schedule | None, config: dict) -> Task:
    truth = Truth(p, q, schedule or vp())
    data = Data(source=p.sample(n_source, rng.split(seed, "source")), target=q.sample(n_target, rng.split(seed, "target")))
    test = q.sample(N_TEST, rng.split(seed, "test"))
    return Task(name, data, test, Transform.identity(), truth, {**config, "n_target": n_target, "n_source": n_source, "seed": seed})
