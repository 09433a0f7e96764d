"""Ratio networks that several methods train: new ones, and the time-dependent domain classifier."""

from pathlib import Path
from typing import Any

import torch

from .. import rng
from ..data import Points, count_classes
from ..denoise import Denoiser, inner_net, noised
from ..draw import Draw
from ..fit import Training, Watch, follow, train
from ..nets.adapters import described
from ..nets.catalog import ratio_net, silenced
from ..nets.probe import Probe, can_be_read
from ..pretrain import LABEL_DROPOUT
from ..ratio import Link, LogRatio, logistic_loss
from ..schedule import Schedule

STANDARDISED_BY = 500
"""Noised target points whose features are standardised."""


def new_ratio(
    source: Denoiser, target: Points, seed: int, *, width: int | None = None, depth: int | None = None, bridges: int = 1, link: Link = "log_h"
) -> LogRatio:
    """An untrained ratio network for samples like the target's, 0 everywhere, on the source's device.

    Where the source's network shows its features and no size is asked for, it is a head on them.
    """
    like, inner = next(source.parameters(), target.x), inner_net(source)
    settings = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    several = {} if bridges == 1 else {"n_out": bridges}
    n_classes = max(source.n_classes, count_classes(target)) if target.y is not None else 0
    shape, teacher = tuple(target.x.shape[1:]), None if inner is None or settings else inner.module
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if can_be_read(teacher) and not described(teacher):
            probe = Probe(shape, source.schedule, n_classes, body=teacher, **several).to(like.device)
            return _standardised(LogRatio(silenced(probe), source.schedule, link), target, seed)
        return LogRatio(ratio_net(shape, source.schedule, n_classes, **settings, **several).to(like.device), source.schedule, link)


def _standardised(log_h: LogRatio, target: Points, seed: int) -> LogRatio:
    """A ratio with a head on a network's features, standardised by those of noised target points."""
    draw = Draw(rng.split(seed, "standardise"), 0, STANDARDISED_BY, device=next(log_h.parameters()).device)
    x, t = draw.rows(target, "target").x, draw.times(log_h.schedule)
    probe: Any = log_h.module
    with torch.no_grad():
        probe.standardise(log_h.seen(noised(log_h.schedule, x, t, draw.noise(x)), t))
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
