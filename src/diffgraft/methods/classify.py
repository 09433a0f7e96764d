"""Ratio networks that several methods train: new ones, and the time-dependent domain classifier."""

from pathlib import Path

import torch

from .. import rng
from ..data import Points, count_classes
from ..denoise import Denoiser, inner_net, noised
from ..fit import Draw, Training, Watch, train
from ..nets.catalog import ratio_net, silenced
from ..nets.unet import UNet
from ..pretrain import LABEL_DROPOUT
from ..ratio import Link, LogRatio, logistic_loss
from ..schedule import Schedule


def new_ratio(source: Denoiser, target: Points, seed: int, *, width: int | None = None, depth: int | None = None, link: Link = "log_h") -> LogRatio:
    """An untrained ratio network for samples like the target's, 0 everywhere, on the source's device.

    Where the source is a U-Net and no size is asked for, it has the source's size and begins with the source's weights, but
    for those of its last layer and of labels that the source does not know.
    """
    like, inner = next(source.parameters(), target.x), inner_net(source)
    settings = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    teacher = inner.module if inner is not None and type(inner.module) is UNet and not settings else None
    if teacher is not None:
        settings = {"width": teacher.width, "levels": teacher.levels}
    n_classes = max(source.n_classes, count_classes(target)) if target.y is not None else 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = ratio_net(tuple(target.x.shape[1:]), source.schedule, n_classes, **settings)
    if teacher is not None:
        own = module.state_dict()
        known = {key: a for key, a in teacher.state_dict().items() if key in own and own[key].shape == a.shape}
        module.load_state_dict(own | known)
        silenced(module)
    return LogRatio(module.to(like.device), source.schedule, link)


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
    for progress in train(log_h, loss, training, seed, held_out=check, stage="time classifier", folder=folder):
        if watch:
            watch(progress)
    return log_h.requires_grad_(False)
