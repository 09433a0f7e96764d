"""How close the samplers come to the target with the exact score: the simulation of section 4.1, 25 steps.

Each sampler walks from normal noise z. Perfect samples are made from the same z: it is shaped into an exact draw of q_t at t = 1,
a component's mean and spread, and carried to the data by a fine solve of the same ODE. Sample by sample the two differ
little, so the excess of a distance over that of perfect samples is known far better than the distance itself.

    python benchmarks/accuracy.py [samples] [steps]
"""

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ive
from torch import Tensor

import diffgraft as dg
from diffgraft.gaussians import Mixture
from diffgraft.metrics.truth import entropy
from diffgraft.rng import generator
from diffgraft.samplers import SAMPLERS, Grid

SAMPLES, STEPS = 200_000, 25
FINE = 400
"""Steps of the fine solve. What is left of its error, 3e-5 a sample, enters the distances squared."""
BLOCK = 2_000
"""Samples of one block; blocks are independent, so their spread gives the standard errors."""
CHUNK = 20_000


@dataclass(frozen=True)
class Excess:
    """How much farther from the target than perfect samples, with standard errors."""

    kl: float
    kl_error: float
    energy: float
    energy_error: float


@torch.no_grad()
def walk(sampler: str, model: dg.Denoiser, x: Tensor, grid: Grid) -> Tensor:
    """The end of a sampler's path, in chunks that stay in the cache."""
    g = generator(0, "accuracy", "noise")

    def last(part: Tensor) -> Tensor:
        for step in SAMPLERS[sampler](model, part, grid, noise=lambda i, x: torch.randn(x.shape, generator=g, dtype=x.dtype)):
            part = step
        return part

    return torch.cat([last(part) for part in x.split(CHUNK)])


def perfect(model: dg.Denoiser, z: Tensor) -> Tensor:
    """Exact samples of the target, each near the one that a sampler makes of the same z."""
    schedule, q = model.schedule, model.mixture
    ends = torch.tensor([1.0, 1e-6], dtype=torch.float64)
    log_snr = torch.linspace(*schedule.log_snr(ends).tolist(), FINE + 1, dtype=torch.float64)
    grid = Grid.at(schedule, torch.cat([ends[:1], schedule.time_at(log_snr[1:])]))
    k = torch.randint(len(q.weights), (len(z),), generator=generator(0, "accuracy", "component"))
    spread = (grid.alpha[0] ** 2 * 0.1 + grid.sigma[0] ** 2) ** 0.5
    return walk("dpmpp_2m", model, grid.alpha[0] * q.means[k] + spread * z, grid)


def mean_distance(x: Tensor, q: Mixture) -> Tensor:
    """E|x - Y| over Y of a mixture of round Gaussians in the plane, (n,): the mean of a Rice distribution."""
    var = float(q.covs[0, 0, 0])
    u = ((x[:, None] - q.means) ** 2).sum(-1).numpy() / (4 * var)
    rice = (np.pi * var / 2) ** 0.5 * ((1 + 2 * u) * ive(0, u) + 2 * u * ive(1, u))
    return torch.from_numpy(rice) @ q.weights


def energy(x: Tensor, q: Mixture) -> float:
    """Energy distance of a block to the exact target, without bias, up to a constant: 2 E|X - Y| - E|X - X'|."""
    return float(2 * mean_distance(x, q).mean() - torch.pdist(x).mean())


def kl(x: Tensor, q: Mixture) -> float:
    """KL of the samples to the exact target, by five nearest neighbours."""
    return -entropy(x) - float(q.log_prob(x).mean())


def excess(x: Tensor, reference: Tensor, q: Mixture) -> Excess:
    """Paired differences of both distances between samples and perfect samples."""
    blocks = list(zip(x.split(BLOCK), reference.split(BLOCK), strict=True))
    energies, kls = (np.array([distance(a, q) - distance(b, q) for a, b in blocks]) for distance in (energy, kl))
    errors = [float(d.std(ddof=1)) / len(blocks) ** 0.5 for d in (kls, energies)]
    return Excess(kl(x, q) - kl(reference, q), errors[0], float(energies.mean()), errors[1])


def target() -> dg.Denoiser:
    """The exact denoiser of the target of section 4.1."""
    return dg.tasks.mixtures.shifted(n_target=10, n_source=10).truth.target


def compare(samplers: list[str], n: int = SAMPLES, steps: int = STEPS) -> dict[str, Excess]:
    """The excess of each sampler, from the same noise."""
    model = target()
    z = torch.randn(n, 2, generator=generator(0, "accuracy", "start"), dtype=torch.float64)
    reference, grid = perfect(model, z), Grid.log_snr(model.schedule, steps)
    return {sampler: excess(walk(sampler, model, z, grid), reference, model.mixture) for sampler in samplers}


def main() -> None:
    """Print the table."""
    n, steps = (int(given) if given else default for given, default in zip((*sys.argv[1:3], "", "")[:2], (SAMPLES, STEPS), strict=True))
    torch.set_num_threads(1)  # small tensors; threads that wait for each other on a busy machine cost thirty times more
    began = time.monotonic()
    rows = compare(list(SAMPLERS), n, steps)
    print(f"section 4.1, exact score, {steps} steps, {n} samples, excess over perfect samples, in {time.monotonic() - began:.0f} s")
    print(f"{'sampler':<12}{'passes':>8}{'KL':>12}{'+-':>10}{'energy':>12}{'+-':>10}")
    for sampler, e in rows.items():
        passes = steps * (2 if sampler in ("heun", "dpmpp_2s") else 1)
        print(f"{sampler:<12}{passes:>8}{e.kl:>12.5f}{e.kl_error:>10.5f}{e.energy:>12.2e}{e.energy_error:>10.1e}")


if __name__ == "__main__":
    main()
