"""Metrics by their id, with what each needs and which way is better; `evaluate` applies them.

Each value comes with a floor, the score of real data against real data at the same sizes. The reference is split in
halves A and B; the samples are scored against each in batches of the halves' size, and the floor is the score of A against
B. A value near its floor cannot be told from perfect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points, Transform, points
from ..denoise import Denoiser
from ..errors import BadData, one_of
from .transport import energy_distance, sliced_w2
from .truth import kl_generated, score_error

SPLITS = 4
"""Random splits of the reference that a floor is averaged over."""
BATCHES = 16
"""Most batches of samples, each of a half's size, that a value is averaged over."""


@dataclass(frozen=True)
class Metric:
    """One metric and what is known of it.

    Args:
        compute: Of two clouds, (x, reference, seed), or of a model and its truth.
        kind: "distance" compares clouds, "density" samples with the exact density, "model" the model with its truth.
        best: Whether lower or higher is better.
        says: What it measures, in a few words.
    """

    compute: Callable[..., float]
    kind: str
    best: str
    says: str


METRICS: dict[str, Metric] = {
    "energy": Metric(lambda x, y, seed: energy_distance(x, y), "distance", "low", "energy distance to held-out target data"),
    "sliced_w2": Metric(sliced_w2, "distance", "low", "sliced Wasserstein distance to held-out target data"),
    "kl_generated": Metric(kl_generated, "density", "low", "KL divergence of the samples from the exact target, in nats"),
    "score_error": Metric(score_error, "model", "low", "squared error of the model's score against the exact one"),
}


def evaluate(
    x: "Tensor | tuple",
    reference: "Tensor | tuple",
    y: Tensor | None = None,
    model: Denoiser | None = None,
    train: "Tensor | tuple | None" = None,
    truth: Any = None,
    features: Any = None,
    metrics: list[str] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, dict[str, float]]:
    """Score samples against held-out target data.

    Distances are taken in model space where a model is given, else after standardising by the reference.

    Args:
        x: Samples (n, *), in data units.
        reference: Held-out target points (m, *), never the training target.
        y: Labels of the samples; kept for metrics by label.
        model: The model, for metrics of the model itself.
        train: Training target points, for metrics of memorisation.
        truth: The task's exact truth, where it exists.
        features: A map from samples to features, for metrics on features.
        metrics: Ids; by default all that the given arguments allow.
        generator: One seed is drawn from it for splits and directions; seed 0 without it.

    Returns:
        `{id: {"value", "floor", "n"}}`, n the size of each cloud.

    Raises:
        BadData: Shapes that differ, or a metric that needs something not given.
        BadPlan: No such metric.
    """
    cloud, real = points(x, "sample"), points(reference, "reference")
    if cloud.x.shape[1:] != real.x.shape[1:]:
        raise BadData(f"samples and reference must have one shape, got {tuple(cloud.x.shape[1:])} and {tuple(real.x.shape[1:])}")
    given = {"distance": True, "density": truth is not None, "model": truth is not None and model is not None}
    chosen = [one_of("metric", name, METRICS) for name in metrics] if metrics else [name for name, m in METRICS.items() if given[m.kind]]
    for name in chosen:
        if not given[METRICS[name].kind]:
            raise BadData(f"metric {name} needs the exact truth{' and the model' if METRICS[name].kind == 'model' else ''}; drop it from metrics=[...]")
    seed = 0 if generator is None else rng.seed_from(generator)
    transform = model.transform if model is not None else Transform.fit(real.x)
    scores = {}
    for name in chosen:
        match METRICS[name].kind:
            case "distance":
                scores[name] = _distance(METRICS[name], transform.forward(cloud.x), transform.forward(real.x), seed)
            case "density":
                scores[name] = _density(METRICS[name], cloud, truth, seed)
            case _:
                scores[name] = {"value": METRICS[name].compute(model, truth, seed), "floor": 0.0, "n": 0}
    return scores


def _distance(metric: Metric, x: Tensor, real: Tensor, seed: int) -> dict[str, float]:
    """Value: mean of batches of the samples against both halves of the reference. Floor: mean size of half against half."""
    n = min(len(x), len(real) // 2)
    if n < 2:
        raise BadData(f"a distance needs at least 4 reference points and 2 samples, got {len(real)} and {len(x)}; give more held-out data")
    halves = []
    for k in range(SPLITS):
        order = torch.randperm(len(real), generator=rng.generator(seed, "halves", k))
        halves.append((real[order[:n]], real[order[n : 2 * n]]))
    batches = x[: len(x) // n * n].split(n)[:BATCHES]
    values = [metric.compute(batch, half, seed) for batch in batches for half in halves[0]]
    floors = [abs(metric.compute(a, b, seed)) for a, b in halves]
    return {"value": sum(values) / len(values), "floor": sum(floors) / len(floors), "n": n}


def _density(metric: Metric, cloud: Points, truth: Any, seed: int) -> dict[str, float]:
    perfect = truth.sample_target(cloud.n, rng.split(seed, "floor"))
    return {
        "value": metric.compute(cloud.x, truth.log_prob_target),
        "floor": abs(metric.compute(perfect.x, truth.log_prob_target)),
        "n": cloud.n,
    }
