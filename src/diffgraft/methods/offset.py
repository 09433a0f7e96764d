r"""Fine-tuning towards a guided aim: guidance learned into one network, so that sampling takes a single pass.

The aim of the network is $x_0 + s\,(D(x_t, y) - D_{guide}(x_t))$, the offset without gradient. The aim contains the network itself, so
the fixed point is $D_{guide} + (D^* - D_{guide}) / (1 - s)$: an offset of strength s acts like a weight $1 / (1 - s)$, and grows
without end from s = 1. `matched_strength` undoes this: $s = 1 - 1 / w$ ends at the weight w that was asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import Points
from ..denoise import Denoiser, Net, noised
from ..draw import Draw
from ..errors import BadPlan
from ..fit import Loss, Watch, follow, train
from ..guide import Guided, toward
from ..pretrain import LABEL_DROPOUT
from ..shapes import expand, sum_features
from .lead import limited
from .start import Start, short_training

ROWS = "rows"
"""Name of the draw of training points, the one that fine-tuning uses: so that without guidance both take the same steps."""

Guide = Callable[[Tensor, Tensor], Tensor]


def matched_strength(weight: float) -> float:
    """The strength whose fixed point is the weight."""
    if weight <= 0:
        raise BadPlan(f"weight must be above 0 where guidance is learned, got {weight}; 1 is plain fine-tuning")
    return 1 - 1 / weight


def own_strength(weight: float) -> float:
    """The strength as the papers write it, w - 1, which acts like a weight 1 / (2 - w)."""
    if not 0 < weight < 2:
        raise BadPlan(f"without compensation the offset acts like a weight 1 / (2 - w), so weight must lie in (0, 2), got {weight}; or keep matched=true")
    return weight - 1


def strength(weight: float, matched: bool) -> float:
    """The strength of an offset: the one that ends at the weight, or the papers' own."""
    return matched_strength(weight) if matched else own_strength(weight)


def offset_loss(model: Denoiser, guide: Guide, pool: Points, s: float, bounds: list[float] | None = None) -> Loss:
    """Denoising score matching towards the guided aim, (b,); at strength 0 the plain loss, number for number.

    Args:
        model: The network that is trained.
        guide: D of the guide, of x_t and t.
        pool: Points in model space.
        s: Strength, s above.
        bounds: In log-SNR; outside the aim is x_0 alone.
    """
    schedule = model.schedule

    def loss(draw: Draw) -> Tensor:
        x, y = draw.rows(pool, ROWS)
        t, eps, y = draw.times(schedule), draw.noise(x), draw.drop(y, LABEL_DROPOUT)
        x_t = noised(schedule, x, t, eps)
        guess = model(x_t, t, y)
        aim = x
        if s:
            with torch.no_grad():
                aim = x + expand(s * counts(bounds, schedule.log_snr(t), y), x) * (guess.detach() - guide(x_t, t))
        return model.loss_weight(t) * sum_features((guess - aim) ** 2) / x[0].numel()

    return loss


def fit_towards(
    settings: Any, start: Start, net: Net, guide: Denoiser, *, stage: str, late: float = 0.0, watch: Watch | None = None, folder: Path | None = None
) -> Denoiser:
    """Train a network towards its aim; held-out points judge what it amounts to without its guidance, $D_{guide} + (D - D_{guide}) / w$.

    Args:
        settings: The method's: weight, matched, interval, steps, batch_size, learning_rate.
        start: Where the method begins.
        net: Trained in place.
        guide: What leads it; may hold the network itself.
        stage: Name in logs and checkpoints.
        late: Share of the steps before the offset sets in.
    """
    plain = offset_loss(net, guide, start.train, 0.0)
    led = offset_loss(net, guide, start.train, strength(settings.weight, settings.matched), settings.interval)
    begins = round(late * settings.steps)
    training = short_training(start.train, settings.steps, settings.batch_size, settings.learning_rate)
    check = start.check(Guided(guide, toward(net), limited(1 / settings.weight, settings.interval)), ROWS)

    def loss(draw: Draw) -> Tensor:
        return led(draw) if draw.step >= begins else plain(draw)

    follow(train(net.module, loss, training, start.seed, held_out=check, stage=stage, folder=folder), watch, net)
    return start.finish(net.requires_grad_(False))


def counts(bounds: list[float] | None, log_snr: Tensor, y: Tensor | None) -> Tensor:
    """Where an offset counts, (b,) of ones and zeros: inside the bounds, and where the label was not dropped."""
    counted = torch.ones_like(log_snr)
    if bounds is not None:
        counted *= (log_snr >= bounds[0]) & (log_snr <= bounds[1])
    if y is not None:
        counted *= (y if y.ndim == 1 else y.amax(1)) >= 0
    return counted
