r"""The consistency loss (eq. 14 of arXiv 2405.16876) of a head on frozen features, and the weight that guidance needs.

Denoising score matching of the guided model on the target, $w(t) |x_0 - D - G|^2$ with $G = (\sigma_t^2 / \alpha_t) J^T g$, where J is the
Jacobian of the features in $x_t$ and $g$ the gradient of log h in the features. Only g depends on the head, so the loss has the same
gradient in the head's parameters as $c^T g$ with $c = -2 w(t) (\sigma_t^2 / \alpha_t) J (x_0 - D - G)$ held fixed: one pass back through the
large network for G, one pass of forward differentiation for c, and no second derivative of it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points
from ..denoise import Denoiser, noised
from ..draw import Draw
from ..fit import Loss, Watch, follow, train
from ..guide import Guided, RatioShift
from ..nets.probe import Probe
from ..nets.sssd import SSSD
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio
from ..samplers import sample
from ..shapes import expand, sum_features
from .pseudo import PseudoTarget
from .start import Start, short_training

SHARE = 0.48
"""Steps of this loss, beside those that learn log h from the clean ratio."""
DRAWN, LOOKED_AT, STEPS = 200, 2000, 25
"""Samples that a weight is calibrated by, most points of the pseudo-target beside them, and the samples' steps."""
LOG_SNR = 0.0
"""Where samples are looked at: log h is well learned there still, and what is wrong with single numbers of a sample is lost in the noise."""
LEAST, MOST = 0.5, 2.5
"""Bounds of a calibrated weight."""


def has_frozen_features(log_h: LogRatio) -> bool:
    """Whether log h is a head on features that can be differentiated forward: those of SSSD."""
    return isinstance(log_h.module, Probe) and isinstance(log_h.module.body, SSSD)


def teach_gradient(
    guided: Guided,
    log_h: LogRatio,
    pseudo: PseudoTarget,
    start: Start,
    steps: int,
    learning_rate: float,
    watch: Watch | None = None,
    folder: Path | None = None,
) -> None:
    """Train a head that knows log h, on its share of a method's steps, so that its gradient takes the source to the pseudo-target."""
    training = short_training(pseudo.pool, max(1, round(SHARE * steps)), None, learning_rate)
    loss, check = consistency_loss(start.source, log_h, pseudo.pool), start.check(guided) if pseudo.copies else None
    follow(train(log_h, loss, training, start.seed, held_out=check, stage="consistency", folder=folder), watch, guided)


def consistency_loss(base: Denoiser, log_h: LogRatio, pool: Points) -> Loss:
    """The loss of a head on frozen features, (b,), on a pool in model space; its value is the loss, its gradient that of the head alone."""

    shift = RatioShift(log_h, log_h.schedule)

    def loss(draw: Draw) -> Tensor:
        some, t = draw.rows(pool, "target"), draw.times(log_h.schedule)
        x_t, y = noised(log_h.schedule, some.x, t, draw.noise(some.x)), draw.drop(some.y, LABEL_DROPOUT)
        factor = shift.factor(x_t, t)
        factor = 0.0 if factor is None else factor
        with torch.no_grad():
            error = some.x - base(x_t, t, y)
        with torch.enable_grad():
            x = x_t.clone().requires_grad_()
            seen = log_h.seen(x, t)
            judged = seen.detach().requires_grad_()
            g = torch.autograd.grad(log_h.judge(judged, t, y).sum(), judged, create_graph=True)[0]
            error = error - factor * torch.autograd.grad(seen, x, g.detach())[0]
            weight = base.loss_weight(t) / x[0].numel()
        with torch.no_grad():
            c = torch.func.jvp(lambda x: log_h.seen(x, t), (x_t,), (-2 * expand(weight, x_t) * factor * error,))[1]
        towards = sum_features(c * g)
        return weight * sum_features(error**2) + towards - towards.detach()

    return loss


def calibrated_weight(model: Guided, log_h: LogRatio, pool: Points, seed: int) -> tuple[float, dict[str, Any]]:
    r"""The weight at which samples have, on average, the log h of the target's points, and notes for the record.

    A learned log h knows less than all at high noise, where much is decided, so that samples stop short of the target at weight 1. Mean log h,
    at log-SNR 0, is taken of the pseudo-target and of samples at weights 0, 1 and where the line through these reaches the
    pseudo-target's; the line from weight 0 through the last gives the weight.

    Args:
        model: Guided by `log_h`.
        pool: The pseudo-target, in model space.
    """
    rows = torch.randperm(pool.n, generator=rng.generator(seed, "calibrate"))
    some, few = pool.take(rows[:LOOKED_AT]), pool.take(rows[:DRAWN])
    aim = _mean_log_h(log_h, some, seed)

    def reached(w: float) -> float:
        x = sample(model, few.n, y=few.y, steps=STEPS, weight=w, generator=rng.generator(seed, "calibration samples"))
        return _mean_log_h(log_h, Points(model.transform.of_data(x), few.y), seed)

    none, w, tried = reached(0.0), 1.0, {}
    for _ in range(2):
        tried[round(w, 3)] = got = reached(w)
        if min(aim, got) <= none:
            return 1.0, {"calibrated": {"aim": aim, "none": none, "tried": tried, "failed": True}}
        w = min(max(w * (aim - none) / (got - none), LEAST), MOST)
    w = round(w, 2)
    return w, {"calibrated": {"weight": w, "aim": aim, "none": none, "tried": tried}}


@torch.no_grad()
def _mean_log_h(log_h: LogRatio, points: Points, seed: int) -> float:
    """Mean of log h of points that are noised to `LOG_SNR`."""
    device = next(log_h.parameters()).device
    x = points.x.to(device)
    t = log_h.schedule.time_at(torch.tensor(LOG_SNR, dtype=torch.float64)).to(x).expand(len(x))
    noise = torch.randn(x.shape, generator=rng.generator(seed, "calibration noise")).to(x)
    x_t, y = noised(log_h.schedule, x, t, noise), None if points.y is None else points.y.to(device)
    parts = torch.arange(len(x)).split(DRAWN)
    return float(torch.cat([log_h(x_t[at], t[at], None if y is None else y[at]) for at in parts]).mean())
