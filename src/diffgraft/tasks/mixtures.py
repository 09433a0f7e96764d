r"""Gaussian mixtures: worlds in which everything is known exactly, at every noise level.

Two mixtures under one forward process have closed-form scores, denoisers and $\log h = \log q_t - \log p_t$ at every
time (see `gaussians`).

`shifted` is the simulation of section 4.1 of arXiv 2405.16876; `hard` draws a harder pair of worlds.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points, Task, Transform
from ..denoise import Denoiser
from ..errors import BadData
from ..gaussians import Mixture, MixtureDenoiser
from ..schedule import Schedule, vp

N_TEST = 20_000


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
    config = {**config, "n_target": n_target, "n_source": n_source, "seed": seed}
    return Task(name, data, test, Transform.identity(), truth, config=config)
