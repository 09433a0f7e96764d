r"""Guidance of any weight learned into one network, which takes the weight w as an input.

The aim at w is $x_0 + (w - 1)\,\mathrm{sg}(D(x_t, y, 1) - D_{guide}(x_t))$. The offset is that of w = 1, where the aim is $x_0$ alone, so
it does not contain itself: with $D^*$ the target's denoiser the fixed point is $D_{guide} + w (D^* - D_{guide})$ at every w. Compare
`offset`, where w is fixed by training and the offset grows with itself.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data import Points
from ..denoise import Denoiser, Net, noised
from ..draw import Draw
from ..errors import BadPlan
from ..fit import Loss, Watch, follow, train
from ..guide import Steered, check_learned
from ..nets.catalog import steered
from ..pretrain import LABEL_DROPOUT
from ..shapes import expand, sum_features
from .lead import limited
from .offset import ROWS, Guide, counts
from .start import Start, short_training

RATE = 3.0
"""Of the exponential law of w - 1 in training: 95 % of the weights above 1 lie in [1, 2]."""
PLAIN = 0.5
"""Share of the rows at w = 1, on which the aims of all others rest."""


def drawn_weights(draw: Draw) -> Tensor:
    """Weights (b,) to learn from: 1 with probability `PLAIN`, else 1 + Exp(`RATE`)."""
    tail = (1 - draw.uniform("weight")) / (1 - PLAIN)  # uniform on (0, 1) where it is below 1
    return 1 + (-tail.log() / RATE).clamp(min=0)


class Rows(NamedTuple):
    """What one draw asks of the network: clean and noised samples, times, labels, weights w, and w - 1 where the offset counts, else 0."""

    x: Tensor
    x_t: Tensor
    t: Tensor
    y: Tensor | None
    w: Tensor
    s: Tensor


def rows(model: Net, pool: Points, bounds: list[float] | None, draw: Draw) -> Rows:
    """The rows of a draw from a pool; apart from their weights those of fine-tuning."""
    x, y = draw.rows(pool, ROWS)
    t, eps, y = draw.times(model.schedule), draw.noise(x), draw.drop(y, LABEL_DROPOUT)
    w = drawn_weights(draw).to(x)
    return Rows(x, noised(model.schedule, x, t, eps), t, y, w, (w - 1) * counts(bounds, model.schedule.log_snr(t), y))


def control_loss(model: Net, guide: Guide, pool: Points, bounds: list[float] | None = None, begins: int = 0) -> Loss:
    """Denoising score matching towards the aim of each row's weight, (b,); at w = 1 the plain loss, number for number.

    Args:
        model: The network that is trained, called as `model(x_t, t, y, w)`; without `w` it is at w = 1.
        guide: D of the guide, of x_t and t.
        pool: Points in model space.
        bounds: In log-SNR; outside, and where the label was dropped, the aim is x_0 at every weight.
        begins: The step from which on there is an offset.
    """

    def loss(draw: Draw) -> Tensor:
        x, x_t, t, y, w, s = rows(model, pool, bounds, draw)
        guess, aim = model(x_t, t, y, w), x
        if draw.step >= begins:
            with torch.no_grad():
                aim = x + expand(s, x) * (model(x_t, t, y) - guide(x_t, t))
        return model.loss_weight(t) * sum_features((guess - aim) ** 2) / x[0].numel()

    return loss


def unguided_loss(model: Net, guide: Guide, pool: Points, bounds: list[float] | None = None) -> Loss:
    """Denoising score matching, (b,), of what the network amounts to without its guidance, $D_{guide} + (D(w) - D_{guide}) / w$.

    At w = 1 that is D itself. Judged at w = 1 alone, training on few points would stop before the guidance sets in. Arguments as for
    `control_loss`.
    """

    def loss(draw: Draw) -> Tensor:
        x, x_t, t, y, w, s = rows(model, pool, bounds, draw)
        led, base = model(x_t, t, y, w), guide(x_t, t)
        guess = torch.where(expand(s, x) > 0, base + (led - base) / expand(1 + s, x), led)
        return model.loss_weight(t) * sum_features((guess - x) ** 2) / x[0].numel()

    return loss


def check_control(weight: float, matched: bool) -> None:
    """Refuse settings that a network with its weight as an input cannot have.

    Raises:
        BadPlan: A weight below 1, or `matched` off.
    """
    check_learned(weight)
    if not matched:
        raise BadPlan("matched=false lets the offset compound, which that of control=true cannot; drop matched=false, or control=true")


def fit_control(settings: Any, start: Start, net: Net, guide: Denoiser, *, stage: str, watch: Watch | None = None, folder: Path | None = None) -> Denoiser:
    """Train a network for all weights from 1 on; held-out points judge it without its guidance, half of them at w = 1.

    Args:
        settings: The method's: weight, late, interval, steps, batch_size, learning_rate.
        start: Where the method begins.
        net: The source's network; it gets an input for the weight, and is trained in place.
        guide: What leads it.
        stage: Name in logs and checkpoints.

    Raises:
        BadModel: The network is none of this package's.
    """
    net.module = steered(net.module, net.schedule)
    net.requires_grad_(True)
    loss = control_loss(net, guide, start.train, settings.interval, round(settings.late * settings.steps))
    check = None if start.held_out is None else unguided_loss(net, guide, start.held_out, settings.interval)
    training = short_training(start.train, settings.steps, settings.batch_size, settings.learning_rate)
    follow(train(net.module, loss, training, start.seed, held_out=check, stage=stage, folder=folder), watch, net)
    return start.finish(Steered(net.requires_grad_(False), limited(settings.weight, settings.interval)))
