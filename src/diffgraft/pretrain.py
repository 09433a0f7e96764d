"""A diffusion model from scratch: the source model of a transfer, or the baseline that has no source."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data import Layout, Points, Prior, Transform, View, count_classes, split_rows
from .denoise import Net, Prediction, denoising_loss
from .draw import Draw
from .fit import Loss, Training, Watch, follow, train
from .nets.catalog import build, default_net
from .nets.embed import NoiseEmbedding, zeroed
from .schedule import Schedule, vp

LABEL_DROPOUT = 0.1
NEVER = 10**6
"""Patience of signals: their held-out loss stands still while steps are long, and falls when these become short at the end."""
PREDICTS: dict[str, Prediction] = {"sssd": "v"}
"""What networks return that should not return the noise: where there is little else an error in it counts 1 / alpha_t times."""


def default_training(shape: tuple[int, ...]) -> Training:
    """Settings that suit the default backbone for samples of this shape."""
    if len(shape) == 1:
        return Training(steps=3000, batch_size=512, learning_rate=2e-3)
    if len(shape) == 2:
        return Training(steps=3000, batch_size=32, learning_rate=3e-3, checked=256, patience=NEVER, balanced=True)
    return Training(steps=1500, batch_size=64, learning_rate=2e-3)


def pretrain(
    pool: Points,
    seed: int,
    *,
    net: str | None = None,
    settings: dict[str, Any] | None = None,
    predicts: Prediction | None = None,
    training: Training | None = None,
    schedule: Schedule | None = None,
    transform: Transform | None = None,
    layout: Layout | None = None,
    n_classes: int | None = None,
    held_out: float = 0.1,
    flip: bool = False,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
    folder: Path | None = None,
) -> Net:
    """Train a denoiser on a pool of samples.

    One label in ten is dropped in training, so that the model can also be run without labels.

    Args:
        pool: Samples in data units, with labels or without.
        seed: Of initialisation and training.
        net: Backbone, by default the one that suits the shape; `settings` are its own.
        predicts: What the network returns, see `Net`; by default what suits it.
        training: Length and speed; by default those that suit the shape.
        schedule: `vp()` by default.
        transform: The model space; fitted on the pool by default.
        layout: What the numbers of a sample are called.
        n_classes: By default one more than the largest label, or the width of multi-hot rows.
        held_out: Share of the pool that only early stopping sees; 0 trains on all of it for all steps.
        flip: Train on images mirrored left to right, too.
        watch: Called with each `Progress`.
        folder: For checkpoints.
    """
    shape, schedule = tuple(pool.x.shape[1:]), schedule or vp()
    name = net or default_net(shape)
    training = training or default_training(shape)
    transform = transform or Transform.fit(pool.x)
    n_classes = count_classes(pool) if n_classes is None else n_classes
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(name, shape, schedule, n_classes, **(settings or {}))
    model = Net(module.to(device), schedule, predicts or PREDICTS.get(name, "eps"), shape)
    model.transform, model.prior, model.layout = transform, Prior.fit(pool.y), layout or Layout()
    rows, kept_rows = split_rows(pool.n, held_out, seed) if held_out else (torch.arange(pool.n), None)
    train_part, kept = View(pool, rows, transform, flip), None if kept_rows is None else View(pool, kept_rows, transform)
    fit_denoiser(model, train_part, kept, training, seed, stage="pretrain", watch=watch, folder=folder)
    return model


def fit_denoiser(
    model: Net,
    pool: Points | View,
    kept: Points | View | None,
    training: Training,
    seed: int,
    *,
    stage: str,
    label_dropout: float = LABEL_DROPOUT,
    watch: Watch | None = None,
    folder: Path | None = None,
) -> None:
    """Train a network in place by denoising score matching on a pool in model space; points kept back, where there are some, stop it."""

    def loss(draw: Draw, part: Points | View = pool) -> Tensor:
        x, y = draw.rows(part, "rows")
        return denoising_loss(model, x, draw.times(model.schedule), draw.noise(x), draw.drop(y, label_dropout))

    check = None if kept is None else lambda draw: loss(draw, kept)
    with _balanced(model, loss) if training.balanced else nullcontext(loss) as learned:
        follow(train(model.module, learned, training, seed, held_out=check, stage=stage, folder=folder), watch, model)


class Levels(nn.Module):
    r"""The mean loss at each noise level, $e^{u(t)}$, learned beside a network: it minimises $L / e^u + u$.

    Args:
        schedule: Of the network.

    Reference:
        Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics, 2018, arXiv 1705.07115.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule, self.embed = schedule, NoiseEmbedding(schedule)
        self.log_mean = zeroed(nn.Linear(2 * self.embed.frequencies.numel(), 1))

    def forward(self, loss: Tensor, t: Tensor) -> Tensor:
        """The balanced loss (b,) of losses (b,) at times (b,)."""
        u = self.log_mean(self.embed(self.schedule.levels(t)[2]).to(loss.dtype))[:, 0]
        return loss * (-u).exp() + u


@contextmanager
def _balanced(model: Net, loss: Loss) -> Iterator[Loss]:
    """A loss with the gradient of the balanced one and the value of `loss`, for people who watch; `Levels` is a part of the network for the block, so
    that checkpoints hold both.
    """
    with torch.random.fork_rng():
        levels = Levels(model.schedule).to(next(model.parameters()).device)
    model.module.add_module("levels", levels)

    def balanced(draw: Draw) -> Tensor:
        plain = loss(draw)
        shared = levels(plain, draw.times(model.schedule))  # a draw gives the same times again
        return shared + (plain - shared).detach()

    try:
        yield balanced
    finally:
        del model.module.levels


def with_steps(training: Training, steps: int | None) -> Training:
    """The same training with another number of steps, if one is given."""
    return training if steps is None else replace(training, steps=steps, warmup=min(training.warmup, max(1, steps // 10)))
