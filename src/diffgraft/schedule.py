r"""Noise schedules: how much signal and how much noise a sample holds at time `t`.

A forward process is $x_t = \alpha_t x_0 + \sigma_t \epsilon$ with $t = 0$ data and $t = 1$ noise. All that
matters of it is the signal-to-noise ratio, $\lambda_t = \log(\alpha_t^2 / \sigma_t^2)$, which falls with `t`: two
processes with the same $\lambda$ differ by a rescaling of $x_t$ only. Each schedule gives $\alpha_t, \sigma_t$, the
log-SNR and its inverse, all without cancellation near $t = 0$.

| schedule | $\alpha_t$ | $\sigma_t$ |
|---|---|---|
| `vp` | $\exp(-\frac14 t^2 (\beta_1 - \beta_0) - \frac12 t \beta_0)$ | $\sqrt{1 - \alpha_t^2}$ |
| `cosine` | $\cos(\pi t / 2)$ | $\sin(\pi t / 2)$ |
| `rectified` | $1 - t$ | $t$ |
| `edm` | 1 | $(\sigma_{min}^{1/\rho} + t (\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho}))^\rho$ |
| `discrete` | $\sqrt{\bar\alpha_k}$ at $t = (k + 1) / T$ | $\sqrt{1 - \bar\alpha_k}$ |

Networks are trained and sampled on `[t_min, t_max]`: up to where $\alpha_t \ge 10^{-3}$, since pure noise says
nothing about $x_0$.
"""

import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .errors import BadModel

KNOWN = 1000
"""Times whose levels a schedule keeps."""
ALPHA_MIN = 1e-3
"""Below this signal level a sample is treated as pure noise."""
ALPHA_END = 1.001 * ALPHA_MIN
"""Where a grid starts: just above, so that rounding, in single precision too, does not put its first step below."""


@dataclass(frozen=True)
class Schedule:
    """A forward process: `t` in [0, 1] to `alpha_t, sigma_t`. Equal settings compare equal."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise level, `alpha_t` and `sigma_t`, each of the shape of `t`."""
        raise NotImplementedError

    def log_snr(self, t: Tensor) -> Tensor:
        r"""Log signal-to-noise ratio $\lambda_t = 2 \log(\alpha_t / \sigma_t)$, falling in `t`."""
        alpha_t, sigma_t = self(t)
        return 2 * (alpha_t.log() - sigma_t.log())

    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time with a given log-SNR, the inverse of `log_snr`."""
        raise NotImplementedError

    def module_time(self, t: Tensor) -> Tensor:
        """What a network of this schedule receives for `t`: `t` itself, or the step of a discrete one."""
        return t

    def time_of(self, step: Tensor) -> Tensor:
        """The inverse of `module_time`."""
        return step

    @property
    def t_min(self) -> float:
        """Where sampling ends and training begins: nearly clean."""
        return 1e-3

    @property
    def t_max(self) -> float:
        """Where sampling starts: t = 1, or the time with alpha_t just above 1e-3 where a schedule ends in pure noise."""
        return 1.0

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor] | tuple[float, float, float]:
        """`alpha_t`, `sigma_t` and `module_time`: as plain floats for one time () on the CPU, whose arithmetic costs next to nothing."""
        if t.ndim == 0 and t.is_cpu and not t.requires_grad:
            known, key = self.__dict__.setdefault("_known", {}), (float(t), t.dtype)  # every network of a guided model asks, at the same few times
            if key not in known:
                if len(known) >= KNOWN:
                    known.clear()
                known[key] = self._levels(t)
            return known[key]
        return *self(t), self.module_time(t)

    def _levels(self, t: Tensor) -> tuple[float, float, float]:
        alpha_t, sigma_t = self(t)
        return float(alpha_t), float(sigma_t), float(self.module_time(t))

    def config(self) -> dict[str, Any]:
        """Plain values from which `from_config` makes an equal schedule."""
        return {"name": type(self).__name__.lower(), **asdict(self)}


def from_config(config: dict[str, Any]) -> Schedule:
    """The schedule that `Schedule.config` described.

    Raises:
        BadModel: The name is not one of this version.
    """
    kinds = {kind.__name__.lower(): kind for kind in (VP, Cosine, Rectified, EDM, Discrete)}
    settings = dict(config)
    name = settings.pop("name", None)
    if name not in kinds:
        raise BadModel(f"unknown noise schedule {name!r}; this version knows {', '.join(kinds)}")
    if name == "discrete":
        settings["alphas_cumprod"] = tuple(settings["alphas_cumprod"])
    return kinds[name](**settings)


@dataclass(frozen=True)
class VP(Schedule):
    """Variance preserving with linear beta. See `vp`."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -t * (0.25 * (self.beta_max - self.beta_min) * t + 0.5 * self.beta_min)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = self._log_alpha(t)
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        log_alpha = self._log_alpha(t)
        return 2 * log_alpha - torch.log(-torch.expm1(2 * log_alpha))

    def time_at(self, log_snr: Tensor) -> Tensor:
        # alpha^2 = sigmoid(log_snr), so t solves (b1 - b0) t^2 / 2 + b0 t = softplus(-log_snr)
        c = softplus(-log_snr)
        return 2 * c / (self.beta_min + (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * c).sqrt())


@dataclass(frozen=True)
class Cosine(Schedule):
    """Variance preserving on a circle. See `cosine`."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # rounding makes the cosine of pi / 2 negative in float32
        return torch.cos(t * (math.pi / 2)).clamp(min=0), torch.sin(t * (math.pi / 2))

    def time_at(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2)) * (2 / math.pi)

    @property
    def t_max(self) -> float:
        return math.acos(ALPHA_END) * 2 / math.pi


@dataclass(frozen=True)
class Rectified(Schedule):
    """A straight line from data to noise. See `rectified`."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def time_at(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)

    @property
    def t_max(self) -> float:
        return 1 - ALPHA_END


@dataclass(frozen=True)
class EDM(Schedule):
    """Variance exploding. See `edm`."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma_t = (low + t * (high - low)).clamp(min=0) ** self.rho
        return torch.ones_like(sigma_t), sigma_t

    def time_at(self, log_snr: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (torch.exp(-log_snr / (2 * self.rho)) - low) / (high - low)

    @property
    def t_min(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Discrete(Schedule):
    """A table of steps, with log-SNR linear in between. See `discrete`."""

    alphas_cumprod: tuple[float, ...] = field(repr=False)

    @property
    def steps(self) -> int:
        """T, the number of steps in the table."""
        return len(self.alphas_cumprod)

    @property
    def t_min(self) -> float:
        return 1 / self.steps

    @property
    def t_max(self) -> float:
        floor = 2 * math.log(ALPHA_END)
        return 1.0 if self._table[-1] >= floor else float(self.time_at(torch.tensor(floor, dtype=torch.float64)))

    @cached_property
    def _table(self) -> Tensor:
        # clamped so that a schedule with zero terminal SNR keeps a finite last step (alpha_T = 2e-9)
        with torch.inference_mode(False):  # kept for later calls, which may need gradients
            return torch.logit(torch.tensor(self.alphas_cumprod, dtype=torch.float64)).clamp(-40, 40)

    @cached_property
    def _values(self) -> list[float]:
        return self._table.tolist()

    def step_at(self, t: Tensor) -> Tensor:
        """The step k as a float, t T - 1, snapped to an integer where rounding of `t` alone separates the two."""
        k = t.double() * self.steps - 1
        whole = k.round()
        return torch.where((k - whole).abs() < self._rounding(t), whole, k)

    def _rounding(self, t: Tensor) -> float:
        return 4 * torch.finfo(t.dtype).eps * self.steps

    def module_time(self, t: Tensor) -> Tensor:
        return self.step_at(t).clamp(min=0)

    def time_of(self, step: Tensor) -> Tensor:
        return (step + 1) / self.steps

    def log_snr(self, t: Tensor) -> Tensor:
        table, k = self._table.to(t.device), self.step_at(t)
        low = k.clamp(0, self.steps - 2).floor().long()
        inside = torch.lerp(table[low], table[low + 1], (k - low).clamp(max=1))
        # before the first step sigma / alpha falls linearly to 0 at t = 0
        clean = table[0] - 2 * (k + 1).clamp(min=0).log()
        return torch.where(k < 0, clean, inside).to(t.dtype)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = self.log_snr(t)
        return (logsigmoid(log_snr) / 2).exp(), (logsigmoid(-log_snr) / 2).exp()

    def _levels(self, t: Tensor) -> tuple[float, float, float]:
        # step_at, log_snr and the two levels once more, thirty times faster in floats
        k = float(t) * self.steps - 1
        k = float(round(k)) if abs(k - round(k)) < self._rounding(t) else k
        if k <= -1:
            return 1.0, 0.0, 0.0
        low = min(int(max(k, 0)), self.steps - 2)
        a, b = self._values[low : low + 2]
        log_snr = a - 2 * math.log(k + 1) if k < 0 else a + min(k - low, 1) * (b - a)
        return (1 + math.exp(-log_snr)) ** -0.5, (1 + math.exp(log_snr)) ** -0.5, max(k, 0.0)

    def time_at(self, log_snr: Tensor) -> Tensor:
        table, level = self._table.to(log_snr.device), log_snr.double().contiguous()
        # the table falls; bracket each level between steps low and low + 1
        low = (torch.searchsorted(-table, -level) - 1).clamp(0, self.steps - 2)
        k = low + ((table[low] - level) / (table[low] - table[low + 1])).clamp(0, 1)
        clean = ((table[0] - level) / 2).exp() - 1
        return ((torch.where(level > table[0], clean, k) + 1) / self.steps).to(log_snr.dtype)


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Variance preserving with beta(t) linear from `beta_min` to `beta_max`.

    Reference:
        Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021,
        arXiv 2011.13456, eq. 32.
    """
    return VP(float(beta_min), float(beta_max))


def cosine() -> Schedule:
    r"""Variance preserving with $\alpha_t = \cos(\pi t / 2)$; ends in pure noise.

    Reference:
        Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021, arXiv 2102.09672, eq. 17,
        without their offset s.
    """
    return Cosine()


def rectified() -> Schedule:
    r"""The straight line $x_t = (1 - t) x_0 + t \epsilon$ of rectified flow and flow matching; ends in pure noise.

    Reference:
        Liu, Gong, Liu, Flow Straight and Fast, 2023, arXiv 2209.03003, eq. 1.
    """
    return Rectified()


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Variance exploding, sigma from `sigma_min` to `sigma_max`, uniform in sigma^(1 / rho).

    Reference:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022, arXiv 2206.00364, eq. 5.
    """
    return EDM(float(sigma_min), float(sigma_max), float(rho))


def discrete(alphas_cumprod: Tensor | list[float]) -> Schedule:
    """A schedule given by its table of cumulative products, as diffusers' schedulers hold it.

    Step k of T is t = (k + 1) / T and t = 0 is clean. Between steps log-SNR is linear; before the first step
    sigma_t / alpha_t is linear. Zero terminal SNR is accepted.

    Args:
        alphas_cumprod: The products of (1 - beta), (T,), falling, in [0, 1).

    Raises:
        BadModel: The table does not fall or leaves [0, 1).
    """
    table = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu().reshape(-1)
    if len(table) < 2 or not bool((table.diff() < 0).all()) or not bool(((table >= 0) & (table < 1)).all()):
        raise BadModel("alphas_cumprod must be at least two numbers in [0, 1), each smaller than the one before; pass scheduler.alphas_cumprod")
    return Discrete(tuple(table.tolist()))
