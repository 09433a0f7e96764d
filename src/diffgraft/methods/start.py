"""What every method begins with: a frozen source, the pools in model space, a held-out part, one seed."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from .. import rng
from ..data import Data, Points, Prior, split
from ..denoise import Denoiser, Net
from ..errors import BadData, BadModel
from ..fit import Training, Watch
from ..samplers import sample, sample_labels

STAND_IN = 10_000
"""Samples of the source model that stand in where the source's data are absent."""


class Method(Protocol):
    """A transfer method: a frozen dataclass of its settings with one verb."""

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Adapt the source model to the target points; `source` and `data` stay as they are.

        Args:
            source: The source model.
            data: Source pool, if at hand, and target points, in data units.
            generator: One seed is drawn from it; everything after follows from that seed.
            watch: Called with each `Progress`.
            folder: For checkpoints; a fit that finds some goes on from them.
        """
        ...


@dataclass(frozen=True)
class Start:
    """Where a method begins. Everything is in model space.

    Args:
        source: A frozen copy of the source model.
        train, held_out: The target points, split.
        seed: Everything random follows from it.
        prior: The target's labels, to sample by.
    """

    source: Denoiser
    train: Points
    held_out: Points
    seed: int
    prior: Prior | None

    def finish(self, model: Denoiser) -> Denoiser:
        """The fitted model, with the source's transform and the target's label prior."""
        model.transform, model.prior = self.source.transform, self.prior
        return model.eval()


def begin(source: Denoiser, data: Data, generator: torch.Generator | None, held_out: float) -> Start:
    """Check that source and data fit together, copy and freeze the source, split the target.

    Raises:
        BadData: Samples of another shape than the source's, or labels that it does not know.
    """
    shape = tuple(data.target.x.shape[1:])
    if source.shape is not None and source.shape != shape:
        raise BadData(f"the source model takes samples of shape {source.shape}, the target data have {shape}; use data with the source's features in its order")
    y = data.target.y
    if y is not None and source.n_classes == 0:
        raise BadData("the target data have labels, but the source model takes none; drop the labels, or pretrain the source with labels")
    top = 0 if y is None else int(y.max()) + 1 if y.ndim == 1 else y.shape[1]
    if top > source.n_classes:
        raise BadData(f"the target's labels go up to {top - 1}, the source model knows 0 to {source.n_classes - 1}; map them to the source's")
    seed = rng.seed_from(generator)
    frozen = copy.deepcopy(source).requires_grad_(False).eval()
    train, kept = split(Points(source.transform.forward(data.target.x), y), held_out, rng.split(seed, "split"))
    return Start(frozen, train, kept, seed, Prior.fit(y))


def source_pool(start: Start, data: Data) -> Points:
    """Source points in model space: the data, or samples of the source model where there are none."""
    if data.source is not None:
        labelled = data.source.y if start.prior is not None else None
        return Points(start.source.transform.forward(data.source.x), labelled)
    y = sample_labels(start.source, STAND_IN, start.seed)
    x = sample(start.source, STAND_IN, y=y, generator=rng.generator(start.seed, "stand-in"))
    return Points(start.source.transform.forward(x), y if start.prior is not None else None)


def own_net(source: Denoiser, method: str) -> Net:
    """A trainable copy of the source network.

    Raises:
        BadModel: The source is guided, so there is no single network to train.
    """
    if not isinstance(source, Net):
        raise BadModel(f"{method} trains the source's own network, but this source is a {type(source).__name__}; give a model that pretrain or finetune wrote")
    return copy.deepcopy(source).requires_grad_(True)


def short_training(pool: Points, steps: int, batch_size: int | None, learning_rate: float) -> Training:
    """Training on few points: frequent held-out checks, a stop after long without a better one.

    Long is half of the steps for vectors and a quarter for images, whose steps are dear.
    """
    vectors = pool.x.ndim == 2
    check_every = max(1, min(50, steps // 20))
    return Training(
        steps=steps,
        batch_size=batch_size or (256 if vectors else 32),
        learning_rate=learning_rate,
        warmup=min(100, max(1, steps // 10)),
        check_every=check_every,
        patience=max(1, round((0.5 if vectors else 0.25) * steps / check_every)),
    )
