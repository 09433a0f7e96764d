r"""Samplers: from noise to data along the reverse process.

Every sampler walks a grid of times and sees the model only through $D(x_t, t, y)$. With
$\ell = \frac12 \log\mathrm{SNR} = \log(\alpha / \sigma)$ and $h = \ell_s - \ell_t > 0$, the probability-flow ODE has the
exact solution

$$x_s = \frac{\sigma_s}{\sigma_t} x_t + \sigma_s \int_{\ell_t}^{\ell_s} e^{\ell} D(x_\ell, \ell) \, d\ell$$

and the samplers differ in how they extrapolate D over a step:

| sampler | order | passes a step | D over the step |
|---|---|---|---|
| `ddim` | 1 | 1 | constant |
| `ddpm` | 1, weak | 1 | constant, with fresh noise |
| `heun` | 2 | 2 | trapezoid in sigma / alpha |
| `dpmpp_2s` | 2 | 2 | its value at the middle in log-SNR |
| `dpmpp_2m` | 2 | 1 | linear through the step before |

The grid is uniform in log-SNR from t_max to t_min and ends there: a last jump to t = 0 narrows the samples. One sampler
is a generator that yields `x` after each step, so a caller can watch or stop it, and memory does not grow with steps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from . import rng
from .data import NULL, labels
from .denoise import Denoiser
from .errors import BadData, BadModel, BadPlan, one_of
from .guide import Guided, Interval, reweighted
from .particles import FeynmanKac, LogR, Twisted, corrected
from .schedule import Schedule

Noise = Callable[[int, Tensor], Tensor]
NUMBERS, NUMBERS_A_THREAD, MOST_A_PASS = 2_000_000, 40_000, 10_000
"""How many numbers the samples of one pass hold by default, on a CPU for each thread: what stays in its caches; and how many samples."""


@dataclass(frozen=True)
class Grid:
    """Times from noise to data with their coefficients, in float64 on the CPU, computed once.

    `times` holds 0-d tensors; the others are plain floats, so that a step costs nothing but its arithmetic.
    """

    schedule: Schedule
    times: list[Tensor]
    alpha: list[float]
    sigma: list[float]

    @classmethod
    def at(cls, schedule: Schedule, times: Tensor) -> "Grid":
        """The grid through the given falling times (N + 1,)."""
        times = times.double().cpu()
        alpha, sigma = schedule(times)
        return cls(schedule, list(times.unbind()), alpha.tolist(), sigma.tolist())

    @classmethod
    def log_snr(cls, schedule: Schedule, steps: int) -> "Grid":
        """`steps` intervals, uniform in log-SNR from t_max to t_min."""
        ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)
        lo, hi = schedule.log_snr(ends).tolist()
        times = schedule.time_at(torch.linspace(lo, hi, steps + 1, dtype=torch.float64))
        return cls.at(schedule, torch.cat([ends[:1], times[1:-1], ends[1:]]))

    @property
    def steps(self) -> int:
        """Number of intervals."""
        return len(self.times) - 1

    def exponential(self, i: int) -> tuple[float, float]:
        r"""Coefficients of x and D over interval i: $\sigma_s / \sigma_t$ and $\alpha_s - \alpha_t \sigma_s / \sigma_t$."""
        ratio = self.sigma[i + 1] / self.sigma[i]
        return ratio, self.alpha[i + 1] - self.alpha[i] * ratio

    def ancestral(self, i: int, x: Tensor, d: Tensor, noise: Tensor) -> Tensor:
        """x after interval i of the reverse SDE, with D constant over it."""
        ratio, alpha_ts = self.sigma[i + 1] / self.sigma[i], self.alpha[i] / self.alpha[i + 1]
        kept = 1 - (alpha_ts * ratio) ** 2  # the share of sigma_t^2 that the step from s to t added
        mean = torch.add(alpha_ts * ratio**2 * x, d, alpha=self.alpha[i + 1] * kept)
        return mean.add_(noise, alpha=self.sigma[i + 1] * kept**0.5)


class Sampler(Protocol):
    """What all samplers look like: yields `x` after each interval of the grid."""

    def __call__(self, model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]: ...


def ddim(model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]:
    """First order, one pass a step, deterministic.

    Reference:
        Song, Meng, Ermon, Denoising Diffusion Implicit Models, 2021, arXiv 2010.02502, eq. 12.
    """
    for i in range(grid.steps):
        a, b = grid.exponential(i)
        x = torch.add(a * x, model(x, grid.times[i], y), alpha=b)
        yield x


def ddpm(model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]:
    """Ancestral sampling: weak order one, one pass and fresh noise a step.

    Args:
        noise: `noise(i, x)` gives the standard normal noise of step i, shaped like x.

    Reference:
        Ho, Jain, Abbeel, Denoising Diffusion Probabilistic Models, 2020, arXiv 2006.11239, eq. 7.
    """
    noise = noise or (lambda i, x: torch.randn_like(x))
    for i in range(grid.steps):
        x = grid.ancestral(i, x, model(x, grid.times[i], y), noise(i, x))
        yield x


def heun(model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]:
    """Second order, two passes a step: Heun's rule for x / alpha as a function of sigma / alpha.

    Reference:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022, arXiv 2206.00364, alg. 1.
    """
    for i in range(grid.steps):
        u, v = grid.sigma[i] / grid.alpha[i], grid.sigma[i + 1] / grid.alpha[i + 1]
        z = x / grid.alpha[i]
        slope = (z - model(x, grid.times[i], y)) / u
        guess = z + (v - u) * slope
        slope = (slope + (guess - model(grid.alpha[i + 1] * guess, grid.times[i + 1], y)) / v) / 2
        x = grid.alpha[i + 1] * (z + (v - u) * slope)
        yield x


def dpmpp_2s(model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]:
    """Second order, two passes a step: DPM-Solver++(2S) with its second pass in the middle of log-SNR.

    Reference:
        Lu et al., DPM-Solver++, 2022, arXiv 2211.01095, alg. 1 with r = 1/2.
    """
    log_snr = grid.schedule.log_snr(torch.stack(grid.times))
    fine = Grid.at(grid.schedule, torch.stack([*grid.times, *grid.schedule.time_at((log_snr[1:] + log_snr[:-1]) / 2)]))
    n = grid.steps + 1
    for i in range(grid.steps):
        ratio = fine.sigma[n + i] / fine.sigma[i]
        middle = ratio * x + (fine.alpha[n + i] - fine.alpha[i] * ratio) * model(x, grid.times[i], y)
        a, b = grid.exponential(i)
        x = torch.add(a * x, model(middle, fine.times[n + i], y), alpha=b)
        yield x


def dpmpp_2m(model: Denoiser, x: Tensor, grid: Grid, y: Tensor | None = None, noise: Noise | None = None) -> Iterator[Tensor]:
    """Second order, one pass a step: DPM-Solver++(2M), D extrapolated from the step before. The default.

    Reference:
        Lu et al., DPM-Solver++, 2022, arXiv 2211.01095, alg. 2.
    """
    log_snr = grid.schedule.log_snr(torch.stack(grid.times))
    h = log_snr.diff().tolist()
    before = None
    for i in range(grid.steps):
        a, b = grid.exponential(i)
        d = model(x, grid.times[i], y)
        x = torch.add(a * x, d if before is None else torch.lerp(before, d, 1 + h[i] / (2 * h[i - 1])), alpha=b)
        before = d
        yield x


SAMPLERS: dict[str, Sampler] = {"dpmpp_2m": dpmpp_2m, "dpmpp_2s": dpmpp_2s, "heun": heun, "ddim": ddim, "ddpm": ddpm}


@torch.no_grad()
def sample(
    model: Denoiser,
    n: int | None = None,
    *,
    y: Tensor | None = None,
    steps: int = 25,
    sampler: str = "dpmpp_2m",
    weight: float | Interval | None = None,
    particles: int | None = None,
    twist: LogR | None = None,
    x_start: Tensor | None = None,
    batch_size: int | None = None,
    part: tuple[int, int] = (0, 1),
    generator: torch.Generator | None = None,
    watch: Callable[[int, int], None] | None = None,
    trace: list[float] | None = None,
) -> Tensor:
    """Samples of a model, in data units.

    The noise of sample i depends on the generator and i alone, not on the batch size.

    Args:
        model: Any denoiser with a known `shape`.
        n: How many; by default as many as `y` or `x_start` has.
        y: Labels (n,) or (n, K); by default drawn from the model's label prior, or none where it has none.
        steps: Intervals of the log-SNR grid.
        sampler: "dpmpp_2m", "dpmpp_2s", "heun", "ddim" or "ddpm".
        weight: Another guidance weight than the model's own.
        particles: Correct a guided model's samples in groups of this many that are resampled among themselves (see `particles`);
            for the sampler "ddpm" only. Samples of a group are not independent.
        twist: log r(x, y) -> (B,) of clean samples in data units, as `domain.kernel_ratio` and `net_ratio` estimate it, up to a
            constant; -inf where r is 0. Particles of a model guided by a ratio are then led to p r^w by r itself, instead of by
            its log h alone. A given `x_start` has to be the base's.
        x_start: Start (n, *) at t_max in model space; by default normal with scale sqrt(alpha^2 + sigma^2), which is the
            right one for data of unit variance.
        batch_size: Samples a pass; by default 20,000 numbers a thread on a CPU, so that they stay in its caches, else two million.
        part: Of so many equal parts of the samples draw one, (index, parts): for processes side by side. Not with particles.
        generator: One seed is drawn from it.
        watch: Called as `watch(passes done, passes in all)` after each step of each batch.
        trace: Filled with the effective share of particles after each step, the mean over groups.

    Returns:
        Samples (n, *), float32 or the dtype of `x_start`.

    Raises:
        BadData: Labels that the model does not know, or a shape that is not known.
        BadPlan: No such sampler, particles in parts, or with one that takes no fresh noise, or a twist without particles.
        BadModel: Particles with a model that is not guided, a twist with one that no ratio guides, or log ratios that are no numbers.
    """
    model = model if weight is None else reweighted(model, weight)
    walk: Any = SAMPLERS[one_of("sampler", sampler, SAMPLERS)]
    n, shape, like = _size(model, n, y, x_start)
    if steps < 1:
        raise BadData(f"steps must be at least 1, got {steps}")
    seed = rng.seed_from(generator)
    y = sample_labels(model, n, seed) if y is None else check_labels(model, labels(y, n))
    in_groups = _in_groups(model, particles, twist, sampler, part)
    order = None if in_groups is None else _side_by_side(y, n)
    if order is not None:
        y, x_start = (None if a is None else a[order.to(a.device)] for a in (y, x_start))
    grid = Grid.log_snr(model.schedule, steps)
    size = batch_size or _a_pass(shape, like.device)
    if particles is not None:
        size = max(1, size // particles) * particles
    if trace is not None:
        trace.clear()
    first, last = rows_of(n, part)
    out, scale, batches = [], (grid.alpha[0] ** 2 + grid.sigma[0] ** 2) ** 0.5, -(-(last - first) // size)
    for b in range(batches):
        lo, hi = first + b * size, min(last, first + (b + 1) * size)
        draw = _noise_of(seed, lo, hi, shape)
        x = scale * draw(-1, like) if x_start is None else x_start[lo:hi].to(like.device)
        y_b = None if y is None else y[lo:hi].to(like.device)
        shares: list[float] = []
        if in_groups is not None:
            walk = partial(in_groups, uniform=_uniform_of(seed, b), trace=shares)
        for i, step in enumerate(walk(model, x, grid, y_b, draw), 1):
            x = step
            if watch:
                watch(b * steps + i, batches * steps)
        out.append(model.transform.inverse(x))
        if trace is not None and shares:
            trace[:] = [a + share / batches for a, share in zip(trace or [0.0] * steps, shares, strict=True)]
    done = torch.cat(out) if out else model.transform.inverse(like.new_zeros(0, *shape))
    return done if order is None else done[order.argsort().to(done.device)]


def _a_pass(shape: tuple[int, ...], device: torch.device) -> int:
    """Samples a pass by default."""
    numbers = NUMBERS_A_THREAD * torch.get_num_threads() if device.type == "cpu" else NUMBERS
    return max(1, min(MOST_A_PASS, numbers // max(1, torch.Size(shape).numel())))


def rows_of(n: int, part: tuple[int, int]) -> tuple[int, int]:
    """The first and last row of one of several equal parts of n samples; the last parts may be shorter."""
    index, parts = part
    size = -(-n // parts)
    return min(n, index * size), min(n, (index + 1) * size)


def _in_groups(model: Denoiser, particles: int | None, twist: LogR | None, sampler: str, part: tuple[int, int]) -> Any:
    """`corrected` with its correction and size of groups, None without particles."""
    if particles is None:
        if twist is not None:
            raise BadPlan("a twist weighs particles, got none; pass particles=500 or so")
        return None
    if not isinstance(model, Guided):
        raise BadModel("particles correct a guided model, this one is a plain network; drop particles, or fit a guided method")
    if sampler != "ddpm":
        raise BadPlan(f"particles need fresh noise at every step, which {sampler} does not take; pass sampler='ddpm' (--sampler ddpm)")
    if part[1] > 1:
        raise BadPlan("particles meet one another, so they are drawn by one process; run without torchrun")
    if particles < 2:
        raise BadData(f"particles must be at least 2, got {particles}")
    return partial(corrected, correction=FeynmanKac() if twist is None else Twisted.of(model, twist), size=particles)


def _side_by_side(y: Tensor | None, n: int) -> Tensor:
    """An order of samples (n,) in which equal labels are neighbours."""
    if y is None:
        return torch.arange(n)
    return (y if y.ndim == 1 else y.unique(dim=0, return_inverse=True)[1]).argsort(stable=True)


def _uniform_of(seed: int, batch: int) -> Callable[[int, int], Tensor]:
    return lambda step, groups: torch.rand(groups, dtype=torch.float64, generator=rng.generator(seed, "resample", step, batch))


def _noise_of(seed: int, lo: int, hi: int, shape: tuple[int, ...]) -> Noise:
    return lambda step, like: rng.sample_noise(seed, step, lo, hi, shape, like)


def _size(model: Denoiser, n: int | None, y: Tensor | None, x_start: Tensor | None) -> tuple[int, tuple[int, ...], Tensor]:
    counts = {len(a) for a in (y, x_start) if a is not None} | ({n} if n is not None else set())
    if len(counts) != 1 or min(counts) < 1:
        raise BadData(f"how many samples? n, y and x_start must agree on one positive number, got {sorted(counts) or 'none of them'}")
    shape = tuple(x_start.shape[1:]) if x_start is not None else model.shape
    if shape is None:
        raise BadData("the shape of a sample is not known; build the model with dg.Net(..., shape=(...)) or pass x_start")
    like = next((p for p in model.parameters()), torch.zeros(()))
    like = like if x_start is None else x_start.to(like.device)
    return counts.pop(), shape, like


def sample_labels(model: Denoiser, n: int, seed: int) -> Tensor | None:
    """Labels from the model's prior, None where it has none."""
    return None if model.prior is None else model.prior.draw(n, seed)


def takes_rows(model: Denoiser) -> bool:
    """Whether a model learned rows of statements, several of which may be true at once."""
    return model.prior is not None and model.prior.values.ndim == 2


def check_labels(model: Denoiser, y: Tensor) -> Tensor:
    """`y` if the model knows these labels; the index of a statement becomes the row of this one where the model learned rows.

    Raises:
        BadData: The model takes no labels, fewer classes, or rows of another width.
    """
    if model.n_classes == 0:
        raise BadData("this model takes no labels; drop y (--label)")
    if y.ndim == 1 and int(y.max()) >= model.n_classes:
        raise BadData(f"labels must be below {model.n_classes}, the classes of this model, got {int(y.max())}")
    if y.ndim == 2 and y.shape[1] != model.n_classes:
        raise BadData(f"multi-hot labels must have {model.n_classes} columns, got {y.shape[1]}")
    if y.ndim == 1 and takes_rows(model):
        return torch.where(y[:, None] == NULL, float(NULL), one_hot(y.clamp(min=0), model.n_classes).float())
    return y
