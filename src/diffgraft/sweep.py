"""A guided model at several weights: the same noise, the same held-out points, one row of scores a weight."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import rng
from .data import Points
from .denoise import Denoiser
from .guide import Interval, reweighted
from .metrics.catalog import evaluate
from .samplers import sample, sample_labels

METRICS = ("energy", "sliced_w2", "precision", "recall", "coverage", "two_sample")
FIRST = "energy"
"""The metric by which a weight is kept."""


def sweep(
    model: Denoiser,
    weights: list[float],
    reference: Points,
    *,
    train: Points | None = None,
    n: int = 2000,
    steps: int = 25,
    seed: int = 0,
    features: Callable[[Tensor], Tensor] | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores of a guided model at each weight.

    Args:
        model: Its own weight, where it is an `Interval`, gives the bounds of all.
        weights: Guidance weights.
        reference: Held-out target points, in data units.
        train: Training target points, for memorisation.
        n, steps, seed: Of the samples; every weight starts from the same noise and labels.
        features: For the Frechet distance; see `evaluate`.
        watch: Called with weights done and all.

    Returns:
        Rows `{"weight", "metrics"}`, the metrics as `evaluate` gives them, in the order of the weights.
    """
    names = [*METRICS, *(["memorisation"] if train else []), *(["frechet"] if features else [])]
    y = sample_labels(model, n, rng.split(seed, "sample")) if model.n_classes else None
    rows = []
    for k, weight in enumerate(weights):
        bounds = getattr(model, "weight", None)
        w = Interval(weight, bounds.lo, bounds.hi, bounds.outside) if isinstance(bounds, Interval) else weight
        x = sample(reweighted(model, w), n, y=y, steps=steps, generator=rng.generator(seed, "sample")).cpu()
        known = None if train is None else train.x
        scores = evaluate(x, tuple(reference), y=y, model=model, train=known, features=features, metrics=names, generator=rng.generator(seed, "evaluate"))
        rows.append({"weight": weight, "metrics": scores})
        if watch:
            watch(k + 1, len(weights))
    return rows


def best(rows: list[dict[str, Any]]) -> float:
    """The weight with the least energy distance."""
    return float(min(rows, key=lambda row: row["metrics"][FIRST]["value"])["weight"])
