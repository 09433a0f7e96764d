"""What a metric is computed of: samples and reference in the spaces where they are compared, and densities at held-out points."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points, Transform
from ..denoise import Denoiser
from ..errors import BadData
from .model import MANY, log_likelihoods, n_points

FEATURE_BATCH = 1_000
"""Samples that features are asked for at once."""
MEASURED = 500
"""Most samples, and most held-out points, that are measured."""


@dataclass(frozen=True, eq=False)
class Case:
    """What is to be scored, and all that metrics may need.

    Args:
        cloud, real: Samples and held-out target points, in data units.
        transform: Data units to the space in which distances are taken.
        seed: Of splits, directions and probes.
        model, train, truth, features, likelihoods, downstream, measures: As `evaluate` was given them; train are points in data units.
    """

    cloud: Points
    real: Points
    transform: Transform
    seed: int
    model: Denoiser | None = None
    train: Points | None = None
    truth: Any = None
    features: Any = None
    likelihoods: int | None = None
    downstream: Any = None
    measures: Any = None

    @property
    def dim(self) -> int:
        """Numbers in one sample."""
        return self.real.x[0].numel()

    @cached_property
    def clouds(self) -> tuple[Tensor, Tensor]:
        """Samples and reference in model space."""
        return self.transform.forward(self.cloud.x), self.transform.forward(self.real.x)

    @cached_property
    def featured(self) -> tuple[Tensor, Tensor]:
        """Features of samples and reference; both in model space where none are given."""
        return self.clouds if self.features is None else (features_of(self.features, self.cloud.x), features_of(self.features, self.real.x))

    @cached_property
    def worth(self) -> dict[str, dict[str, float]]:
        """Scores of a classifier that learns from the samples too, with their intervals."""
        return self.downstream.scores(self.cloud)

    @cached_property
    def measured(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What could be measured of samples and of the reference, (n, 1) and (m, 1), by the name of the quantity."""
        some = [pool.x[torch.randperm(pool.n, generator=rng.generator(self.seed, "measured"))[:MEASURED]] for pool in (self.cloud, self.real)]
        found, real = ({name: torch.as_tensor(a).double() for name, a in self.measures(x).items()} for x in some)
        return {name: (found[name][found[name].isfinite(), None], real[name][real[name].isfinite(), None]) for name in found}

    @property
    def lacks_labels(self) -> bool:
        """Whether the model takes labels and there are no labelled points of the target."""
        return self.model is not None and self.model.n_classes > 0 and self.real.y is None and self.truth is None

    @cached_property
    def held_out(self) -> Points:
        """Points for likelihoods: of the reference, or of the truth where a model takes labels that the reference lacks."""
        assert self.model is not None
        n = min(n_points(self.dim), self.likelihoods or MANY)
        if self.model.n_classes and self.real.y is None:
            return self.truth.sample_target(min(n, self.real.n), rng.split(self.seed, "held out"))
        part = self.real.take(torch.randperm(self.real.n, generator=rng.generator(self.seed, "held out"))[:n])
        return part if self.model.n_classes else Points(part.x)

    @cached_property
    def log_densities(self) -> tuple[Tensor, Tensor | None]:
        """log p of the model at these points, and the exact log q where there is a truth, each (n,)."""
        assert self.model is not None
        log_q = None if self.truth is None else self.truth.log_prob_target(self.held_out.x.double(), self.held_out.y).cpu()
        return log_likelihoods(self.model, self.held_out, self.seed), log_q


@torch.no_grad()
def features_of(features: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """Features (n, F) of samples (n, *), in batches.

    Raises:
        BadData: Not one row of finite numbers a sample.
    """
    return torch.cat([_features(features, part) for part in x.split(FEATURE_BATCH)])


def _features(features: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    out = torch.as_tensor(features(x))
    if out.ndim < 2 or len(out) != len(x):
        raise BadData(f"features must map samples (n, *) to (n, F), got {tuple(out.shape)} for {len(x)} samples; return one row a sample")
    if not bool(torch.isfinite(out).all()):
        raise BadData(f"features must be finite, got {out[~torch.isfinite(out)][0].item()}; check the scale of data that the features expect")
    return out.flatten(1).float()
