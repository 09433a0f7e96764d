r"""Log-density of a model, through its probability-flow ODE.

In the variables $z = x_t / \alpha_t$ and $\tau = \log(\sigma_t / \alpha_t)$ the flow is $dz / d\tau = z - D$, for every
schedule, and along it $d \log p(z) / d\tau = -(d - \mathrm{tr}\, \partial D / \partial z)$. Following a point from data to
noise, where the density is a known Gaussian, gives

$$\log p(x_0) = \log N(z_1; 0, (1 + \sigma_1^2 / \alpha_1^2) I) + \int (d - \mathrm{tr}\, \partial D / \partial z) \, d\tau .$$

The trace is exact up to `EXACT_UP_TO` dimensions, one backward pass each, and Hutchinson's estimate above, with one set
of random signs for the whole path.

Reference:
    Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021, arXiv 2011.13456,
    eq. 39 and 40.
"""

import math

import torch
from torch import Tensor

from . import rng
from .denoise import Denoiser
from .shapes import expand, outside_inference, sum_features

EXACT_UP_TO = 64


def log_prob(
    model: Denoiser,
    x: Tensor,
    y: Tensor | None = None,
    *,
    steps: int = 100,
    exact: bool | None = None,
    probes: int = 1,
    batch_size: int = 10_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Log-density of a model at `x`, in nats, in data units.

    Args:
        model: Any denoiser, guided ones too.
        x: Points (n, *), in data units.
        y: Labels of the points, for log p(x | y).
        steps: Intervals of the fourth-order Runge-Kutta grid, uniform in log-SNR; four passes each.
        exact: Exact divergence; by default up to 64 dimensions, Hutchinson's estimate above.
        probes: Random vectors of that estimate.
        generator: One seed for the random vectors is drawn from it.

    Returns:
        log p(x | y), (n,).
    """
    exact = x[0].numel() <= EXACT_UP_TO if exact is None else exact
    seed = 0 if exact else rng.seed_from(generator)
    out = []
    with torch.inference_mode(False), torch.no_grad():  # the trace needs gradients, whatever mode the caller is in
        x, y = outside_inference(x), None if y is None else outside_inference(y)
        for lo in range(0, len(x), batch_size):
            z = model.transform.forward(x[lo : lo + batch_size])
            signs = [] if exact else [rng.sample_noise(seed, k, lo, lo + len(z), tuple(z.shape[1:]), z).sign() for k in range(probes)]
            out.append(_log_prob(model, z, None if y is None else y[lo : lo + batch_size], steps, signs))
        return torch.cat(out) - model.transform.log_scale(tuple(x.shape[1:]))


def _log_prob(model: Denoiser, z: Tensor, y: Tensor | None, steps: int, signs: list[Tensor]) -> Tensor:
    schedule = model.schedule
    ends = schedule.log_snr(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    taus = torch.linspace(float(-ends[0] / 2), float(-ends[1] / 2), steps + 1, dtype=torch.float64)
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for tau, h in zip(taus[:-1], taus.diff().tolist(), strict=True):
        k1, l1 = _flow(model, z, tau, y, signs)
        k2, l2 = _flow(model, z + h / 2 * k1, tau + h / 2, y, signs)
        k3, l3 = _flow(model, z + h / 2 * k2, tau + h / 2, y, signs)
        k4, l4 = _flow(model, z + h * k3, tau + h, y, signs)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total = total + h / 6 * (l1 + 2 * l2 + 2 * l3 + l4)
    d, var = z[0].numel(), 1 + math.exp(2 * float(taus[-1]))
    return total - sum_features(z**2) / (2 * var) - d / 2 * math.log(2 * math.pi * var)


def _flow(model: Denoiser, z: Tensor, tau: Tensor, y: Tensor | None, signs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """dz / dtau and d - tr dD/dz at one point of the path."""
    t = model.schedule.time_at(-2 * tau)
    alpha_t = expand(model.schedule(t)[0], z)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        d = model(alpha_t * z, t, y)
        trace = _trace(d, z, signs)
    return (z - d).detach(), (z[0].numel() - trace).detach()


def _trace(d: Tensor, z: Tensor, signs: list[Tensor]) -> Tensor:
    """Trace of dD/dz, per sample: exact without `signs`, else the mean of v^T (dD/dz) v."""
    flat = d.flatten(1)
    if signs:
        grads = (torch.autograd.grad(d, z, v, retain_graph=True)[0] * v for v in signs)
        return sum_features(torch.stack(list(grads)).mean(0))
    rows = (torch.autograd.grad(flat[:, k].sum(), z, retain_graph=True)[0].flatten(1)[:, k] for k in range(flat.shape[1]))
    return torch.stack(list(rows)).sum(0)
