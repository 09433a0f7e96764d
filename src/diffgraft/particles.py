r"""Particle correction: samples of the density that guidance promises, not of the one that it ends at.

Particles take the steps of ancestral sampling, carry weights W, and are resampled by them within groups. Two corrections differ in W
alone. With $\Delta = \mathrm{SNR}_s - \mathrm{SNR}_t$ of a step from t to s:

`FeynmanKac`: a guided score $s_p + w (s_q - s_p)$ is that of $p_t^{1-w} q_t^w$ at every noise level, but these densities are not noised
versions of one another, so following the score ends elsewhere. Particles follow them with

$d \log W = \frac{g_t^2}{2} w (w - 1)\, |s_q - s_p|^2 dt = \frac{w (w - 1)}{2} |\mathrm{shift}|^2 \Delta$.

For a log ratio $s_q - s_p$ is $\nabla \log h$, and at w = 1 there is nothing to correct.

`Twisted`: a learned log h is not exact. With the guided step as proposal, $\psi_t = h^w$ and $\psi_0 = r^w$ for the clean ratio r, the weights

$W = \psi_T(x_T) \prod \frac{p(x_s | x_t)\, \psi_s(x_s)}{\mathrm{proposal}(x_s | x_t)\, \psi_t(x_t)}$

lead to $p(x_0) r(x_0)^w$ as the particles of a group grow in number, whatever h is; a good h keeps W even. Both steps are Gaussian with one
variance, and their means are $\sqrt\Delta\, w\, \mathrm{shift}$ standard deviations apart, so with $u = \sqrt\Delta\, w\, \mathrm{shift}$
and the step's noise $\epsilon$

$\log p(x_s | x_t) - \log \mathrm{proposal}(x_s | x_t) = -u^T \epsilon - \frac12 |u|^2$.

Reference:
    Skreta et al., Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts, 2025, arXiv 2503.02819, prop. 3.1.
    Wu, Trippe, Naesseth, Blei, Cunningham, Practical and Asymptotically Exact Conditional Sampling in Diffusion Models, 2023,
    arXiv 2306.17775, alg. 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .errors import BadModel
from .guide import Guided, Interval, LogH, RatioShift
from .shapes import sum_features
from .weights import effective_sample_size, systematic

if TYPE_CHECKING:
    from .samplers import Grid, Noise

LEAST = 0.5
"""Groups whose effective share of particles falls below this are resampled."""

LogR = Callable[[Tensor, Tensor | None], Tensor]


class Correction(Protocol):
    """What gives particles their weights: W is the potential of where they are, times what their steps add."""

    def potential(self, x: Tensor, t: Tensor | None, y: Tensor | None) -> Tensor:
        """Log potential (B,), float64 on the CPU, at noise level t, or of finished samples where t is None."""
        ...

    def step(self, w: float, delta: float, shift: Tensor, noise: Tensor) -> Tensor:
        """What a step adds to log W (B,), float64, from the weight, the gain in SNR, the shift and the step's noise."""
        ...


@dataclass(frozen=True)
class FeynmanKac:
    """Towards $p^{1-w} q^w$; no potential."""

    def potential(self, x: Tensor, t: Tensor | None, y: Tensor | None) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64)

    def step(self, w: float, delta: float, shift: Tensor, noise: Tensor) -> Tensor:
        return 0.5 * w * (w - 1) * delta * sum_features(shift.double() ** 2)


@dataclass(frozen=True)
class Twisted:
    """Towards $p r^w$; the potential is psi.

    Args:
        log_h: The model's log h(x_t, t, y).
        log_r: log r(x, y) (B,) of clean samples in data units.
        to_data: From model space to data units.
        weight: w.
    """

    log_h: LogH
    log_r: LogR
    to_data: Callable[[Tensor], Tensor]
    weight: float

    @classmethod
    def of(cls, model: Guided, log_r: LogR) -> "Twisted":
        """The correction of a model that a ratio guides; in an interval, w is the weight inside.

        Raises:
            BadModel: Something else than a ratio guides it.
        """
        if not isinstance(model.shift, RatioShift):
            raise BadModel("twist corrects guidance by a ratio, this model is guided by a second network; drop twist, or fit a method such as tgdp")
        w = model.weight.weight if isinstance(model.weight, Interval) else model.weight
        return cls(model.shift.log_h, log_r, model.transform.inverse, w)

    def potential(self, x: Tensor, t: Tensor | None, y: Tensor | None) -> Tensor:
        # The grid ends at t_min, where sigma > 0: even the last step is noisy, so its ratio of densities exists, and what it ends
        # at is the sample. psi_0 is therefore r of that sample: the base's samples, as the same grid draws them, times r^w.
        if self.weight == 0:
            return torch.zeros(len(x), dtype=torch.float64)
        what, value = ("log r", self.log_r(self.to_data(x), y)) if t is None else ("log h", self.log_h(x, t, y))
        if value.shape != (len(x),):
            raise BadModel(f"{what} must have one value a sample, ({len(x)},), got {tuple(value.shape)}")
        log_psi = self.weight * value.double().cpu()
        usable = log_psi < torch.inf if t is None else log_psi.isfinite()
        if not bool(usable.all()):
            raise BadModel(f"w {what} must be {'below infinity' if t is None else 'finite'}, got {float(log_psi[~usable][0])}; clip it")
        return log_psi

    def step(self, w: float, delta: float, shift: Tensor, noise: Tensor) -> Tensor:
        u = w * delta**0.5 * shift.double()
        return -sum_features(u * noise + 0.5 * u**2)


def corrected(
    model: Guided,
    x: Tensor,
    grid: "Grid",
    y: Tensor | None,
    noise: "Noise",
    *,
    correction: Correction,
    size: int,
    uniform: Callable[[int, int], Tensor],
    trace: list[float] | None = None,
) -> Iterator[Tensor]:
    """Ancestral sampling with weights, in groups of `size` particles of one label that are resampled among themselves.

    Args:
        model: The guided model.
        x, grid, y, noise: As for a sampler; equal labels stand side by side.
        correction: What weighs the particles.
        size: Particles of a group; the last one of a label may be smaller.
        uniform: Of a step and how many groups there are: a number in [0, 1) for each, (groups,).
        trace: Filled with the mean effective share of particles after each step, before resampling.
    """
    groups = grouped(y, len(x), size)
    snr = [(a / s) ** 2 for a, s in zip(grid.alpha, grid.sigma, strict=True)]
    psi = log_w = correction.potential(x, grid.times[0], y)
    for i in range(grid.steps):
        last = i + 1 == grid.steps
        w, d, shift = model.parts(x, grid.times[i], y)
        fresh = noise(i, x)
        x = grid.ancestral(i, x, d + w * shift, fresh)
        log_w = log_w - psi + correction.step(float(w), snr[i + 1] - snr[i], shift, fresh).cpu()
        psi = correction.potential(x, None if last else grid.times[i + 1], y)
        log_w, kept, shares = resampled(log_w + psi, groups, uniform(i, len(groups)), below=torch.inf if last else LEAST)
        x, psi = x[kept.to(x.device)], psi[kept]
        if trace is not None:
            trace.append(sum(shares) / len(shares))
        yield x


def resampled(log_w: Tensor, groups: list[Tensor], uniform: Tensor, below: float) -> tuple[Tensor, Tensor, list[float]]:
    """Resample each group whose effective share is below a bound; one without a positive weight keeps its particles.

    Returns:
        Log weights afterwards (B,), the row that each particle is now a copy of (B,), and the effective share of each group before.
    """
    log_w, kept, shares = log_w.clone(), torch.arange(len(log_w)), []
    for group, u in zip(groups, uniform, strict=True):
        share = effective_share(log_w[group])
        shares.append(share)
        if 0 < share < below:
            kept[group] = group[0] + systematic(log_w[group], float(u))
            log_w[group] = 0.0
    return log_w, kept, shares


def grouped(y: Tensor | None, n: int, size: int) -> list[Tensor]:
    """Rows of each group: `size` neighbours of one label."""
    if y is None:
        return list(torch.arange(n).split(size))
    changes = (y[1:] != y[:-1]) if y.ndim == 1 else (y[1:] != y[:-1]).any(1)
    ends = [0, *(changes.nonzero()[:, 0] + 1).tolist(), n]
    return [part for lo, hi in pairwise(ends) for part in torch.arange(lo, hi).split(size)]


def effective_share(log_w: Tensor) -> float:
    r"""$(\sum W)^2 / (n \sum W^2)$; 0 where no W is positive."""
    return effective_sample_size(log_w) / len(log_w) if bool((log_w > -torch.inf).any()) else 0.0
