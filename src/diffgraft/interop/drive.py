r"""Any scheduler of diffusers, driving any denoiser of this package.

A scheduler asks for a prediction of its own kind at the scale of the network's input. From D it is
$\epsilon = (x - \alpha D) / \sigma$, $v = (\alpha x - (\alpha^2 + \sigma^2) D) / \sigma$, $x_0 = D$, or
$\epsilon - x_0 = (x - (\alpha + \sigma) D) / \sigma$ of a flow: none divides by $\alpha$, so pure noise is no special case.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..denoise import Denoiser, Prediction, with_schedule
from ..errors import BadModel
from ..shapes import expand
from .schedulers import schedule_of


def prediction(model: Denoiser, predicts: Prediction, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """What a network of this kind would return where the denoiser returns D, of the shape of `x_t`."""
    alpha, sigma = (expand(level, x_t) for level in model.schedule(t))
    d = model(x_t, t, y)
    match predicts:
        case "x0":
            return d
        case "v":
            return (alpha * x_t - (alpha**2 + sigma**2) * d) / sigma
        case "flow":
            return (x_t - (alpha + sigma) * d) / sigma
    return (x_t - alpha * d) / sigma


@torch.no_grad()
def drive(
    scheduler: Any,
    model: Denoiser,
    n: int,
    *,
    y: Tensor | None = None,
    steps: int = 25,
    generator: torch.Generator | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Samples (n, *) of a model, in data units, by the steps of a diffusers scheduler.

    Args:
        scheduler: Its noise levels may be others than the model's; see `with_schedule`.
        model: Any denoiser with a known shape.
        n: How many.
        y: Labels (n,) or (n, K).
        steps: Passed to `set_timesteps`.
        generator: One seed is drawn from it.
        watch: Called as `watch(steps done, steps in all)`.

    Raises:
        BadModel: The shape of a sample is not known, or the scheduler is of a kind whose noise levels are not known.
    """
    shape = model.shape
    if shape is None:
        raise BadModel("the shape of a sample is not known; build the model with dg.Net(..., shape=(...))")
    schedule, predicts, scale = schedule_of(scheduler)
    model, seed = with_schedule(model, schedule), rng.seed_from(generator)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    scheduler.set_timesteps(steps)
    takes_noise = "generator" in signature(scheduler.step).parameters
    fresh = {"generator": torch.Generator(device).manual_seed(rng.split(seed, "steps"))} if takes_noise else {}
    x = rng.sample_noise(seed, -1, 0, n, shape, torch.zeros((), device=device)) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for k, step in enumerate(scheduler.timesteps, 1):
        told = scheduler.scale_model_input(x, step) if hasattr(scheduler, "scale_model_input") else x
        t = schedule.time_of(step.double()) if scale == 1.0 else step.double() / scale
        out = prediction(model, predicts, told, t.to(device), y).to(x)
        x = scheduler.step(out, step, x, **fresh, return_dict=False)[0]
        if watch:
            watch(k, len(scheduler.timesteps))
    return model.transform.inverse(x)
