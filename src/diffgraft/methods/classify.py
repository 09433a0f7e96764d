"""Ratio networks that several methods train: new ones, and the time-dependent domain classifier."""

from pathlib import Path

import torch

from .. import rng
from ..data import Points, count_classes
from ..denoise import Denoiser, inner_net, noised
from ..fit import Draw, Training, Watch, follow, train
from ..nets.adapters import described
from ..nets.catalog import ratio_net, silenced
from ..nets.unet import Probe, UNet
from ..pretrain import LABEL_DROPOUT
from ..ratio import Link, LogRatio, logistic_loss
from ..schedule import Schedule

STANDARDISED_BY = 500
"""Noised target points whose features are standardised."""


def new_ratio(
    source: Denoiser, target: Points, seed: int, *, width: int | None = None, depth: int | None = None, bridges: int = 1, link: Link = "log_h"
) -> LogRatio:
    """An untrained ratio network for samples like the target's, 0 everywhere, on the source's device.

    Where the source is a U-Net and no size is asked for, it is a head on the source's frozen features.
    """
    like, inner = next(source.parameters(), target.x), inner_net(source)
    settings = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    several = {} if bridges == 1 else {"n_out": bridges}
    n_classes = max(source.n_classes, count_classes(target)) if target.y is not None else 0
    shape, teacher = tuple(target.x.shape[1:]), None if inner is None or settings else inner.module
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if type(teacher) is UNet and not described(teacher):
            return _probe(teacher, target, source.schedule, n_classes, seed, link, like.device, several)
        return LogRatio(ratio_net(shape, source.schedule, n_classes, **settings, **several).to(like.device), source.schedule, link)


def _probe(teacher: UNet, target: Points, schedule: Schedule, n_classes: int, seed: int, link: Link, device: torch.device, several: dict[str, int]) -> LogRatio:
    """A head on the U-Net's features, which are standardised by those of noised target points."""
    settings = {"width": teacher.width, "levels": teacher.levels, "known_classes": teacher.n_classes, **several}
    module = Probe(tuple(target.x.shape[1:]), schedule, n_classes, **settings).to(device)
    module.body.load_state_dict(teacher.state_dict())
    draw = Draw(rng.split(seed, "standardise"), 0, STANDARDISED_BY, device=device)
    x, t = draw.rows(target, "target").x, draw.times(schedule)
    log_h = LogRatio(silenced(module), schedule, link)
    with torch.no_grad():
        module.standardise(log_h.seen(noised(schedule, x, t, draw.noise(x)), t))
    return log_h


def noised_logits(log_h: LogRatio, schedule: Schedule, source: Points, target: Points, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    """log h at noised points of both domains, at the same times, (b,) and (b,)."""
    t = draw.times(schedule)
    out = []
    for name, part in (("source", source), ("target", target)):
        x, y = draw.rows(part, name)
        out.append(log_h(noised(schedule, x, t, draw.noise(x, f"{name} noise")), t, draw.drop(y, LABEL_DROPOUT)))
    return out[0], out[1]


def time_classifier(
    log_h: LogRatio,
    source: Points,
    target: Points,
    held_out: Points | None,
    training: Training,
    seed: int,
    *,
    watch: Watch | None = None,
    folder: Path | None = None,
) -> LogRatio:
    """Train `log_h` as the logit of a time-dependent domain classifier c(x_t, t, y); frozen at the end."""
    seed = rng.split(seed, "time classifier")

    def loss(draw: Draw, part: Points = target) -> torch.Tensor:
        return logistic_loss(*noised_logits(log_h, log_h.schedule, source, part, draw))

    check = None if held_out is None else lambda draw: loss(draw, held_out)
    follow(train(log_h, loss, training, seed, held_out=check, stage="time classifier", folder=folder), watch)
    return log_h.requires_grad_(False)
