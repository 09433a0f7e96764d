r"""How each kind of metric is applied, and what its floor is.

Distances: the reference is split in halves A and B; the samples are scored against each in batches of the halves' size, and
the floor is the score of A against B. Measured quantities: as distances, of one number a sample. Scores with the exact density:
the floor is that of perfect samples. Copies: real points in the samples' place. Likelihood: the exact density at the same points.
Downstream: as many more real records in the samples' place.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from .. import rng
from ..data import Points, hash_points
from ..errors import BadData
from ..terms import MORE
from .case import Case

SPLITS = 4
"""Random splits of the reference that a floor is averaged over."""
BATCHES = 16
"""Most batches of samples, each of a half's size, that a value is averaged over."""
AT_MOST = 5_000
"""Most samples, and most training points, of a metric of copies."""
FEWEST = 10
"""Fewest samples, and fewest held-out points, of which a quantity can be measured."""
PERFECT = 50_000
"""Perfect samples of each split, for an ideal that is itself a mean."""

Score = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """One metric and what is known of it.

    Args:
        compute: What it is computed of depends on its kind.
        kind: "distance": two clouds and a seed; "features": the same, of features where they are given; "samples": samples
            and the exact log-density; "truth": a model, its truth and a seed; "likelihood": log-densities of the model and
            exact ones; "copies": samples, training and held-out points; "downstream": by name, scores of a classifier; "measured": two
            clouds of a quantity and a seed.
        best: "low", "high", or "ideal" where the floor's value is best and both sides of it are worse.
        says: What it measures, in a few words.
        needs: What has to be given besides samples and reference: "truth", "model", "train", "features", "downstream", "measures".
        perfect: The score of equal laws, where it is known without data: the floor is then that much and the mean size of the
            error.
        at_most: Size of the largest clouds that it compares.
        quantity: What is measured, where something is.
        rank: Axes of the clouds that it is for, where not all will do: 3 of signals (n, channels, samples).
    """

    compute: Callable[..., float]
    kind: str
    best: str
    says: str
    needs: tuple[str, ...] = ()
    perfect: float | None = None
    at_most: int | None = None
    quantity: str = ""
    rank: int | None = None

    def floor(self, values: list[float]) -> float:
        """Floor by the values of real data against real data."""
        if self.perfect is None:
            return mean(values)
        return self.perfect + mean([abs(v - self.perfect) for v in values])


def distance(metric: Metric, case: Case) -> Score:
    """Value: mean of batches of the samples against both halves of the reference. Floor: mean size of half against half."""
    return _between(metric, *(case.featured if metric.kind == "features" else case.clouds), case.seed)


def measured(metric: Metric, case: Case) -> Score:
    """As a distance, between what could be measured of samples and of the reference; nan where that is too few."""
    x, real = case.measured[metric.quantity]
    if (few := min(len(x), len(real))) < FEWEST:
        return {"value": float("nan"), "floor": float("nan"), "n": few}
    return _between(metric, x, real, case.seed)


def _between(metric: Metric, x: Tensor, real: Tensor, seed: int) -> Score:
    n = min(len(x), len(real) // 2, metric.at_most or len(x))
    if n < 2:
        raise BadData(f"a distance needs at least 4 reference points and 2 samples, got {len(real)} and {len(x)}; give more held-out data")
    x = x[torch.randperm(len(x), generator=rng.generator(seed, "batches"))]  # samples may be sorted, by label for one
    batches = x[: len(x) // n * n].split(n)[:BATCHES]
    values = [metric.compute(batch, half, seed) for batch in batches for half in _halves(real, seed, 0, n)]
    return {"value": mean(values), "floor": _floor_of_distance(metric, _Known(hash_points(Points(real)), real), seed, n), "n": n}


def _halves(real: Tensor, seed: int, k: int, n: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(real), generator=rng.generator(seed, "halves", k))
    return real[order[:n]], real[order[n : 2 * n]]


@dataclass(frozen=True)
class _Known:
    """A cloud that is known by its numbers."""

    digest: str
    x: Tensor = field(compare=False)


@lru_cache(maxsize=32)
def _floor_of_distance(metric: Metric, real: _Known, seed: int, n: int) -> float:
    """Half against half; kept, since every method of a run is held against the same reference."""
    return metric.floor([metric.compute(*_halves(real.x, seed, k, n), seed) for k in range(SPLITS)])


def of_samples(metric: Metric, case: Case) -> Score:
    """Value: the samples under the exact density. Floor: perfect samples, as many, or 50,000 where the ideal is a mean; four draws."""
    n = case.cloud.n if metric.perfect is not None else PERFECT
    perfect = (case.truth.sample_target(n, rng.split(case.seed, "floor", k)).x for k in range(SPLITS))
    log_prob = case.truth.log_prob_target
    return {"value": metric.compute(case.cloud.x, log_prob), "floor": metric.floor([metric.compute(x, log_prob) for x in perfect]), "n": case.cloud.n}


def of_truth(metric: Metric, case: Case) -> Score:
    """Value: the model against the exact one. The floor is zero."""
    return {"value": metric.compute(case.model, case.truth, case.seed), "floor": 0.0, "n": 0}


def of_likelihood(metric: Metric, case: Case) -> Score:
    """Value: the model's density. Floor: the exact one's at the same points; nan where it is not known."""
    log_model, log_q = case.log_densities
    floor = float("nan") if log_q is None else metric.compute(log_q, log_q)
    return {"value": metric.compute(log_model, log_q), "floor": floor, "n": len(log_model)}


def of_copies(metric: Metric, case: Case) -> Score:
    """Value: the samples. Floor: held-out points, beside all training points and as many others that are held out, or half of them; both a mean over splits."""
    assert case.train is not None
    (x, real), train = case.clouds, case.transform.forward(case.train.x)
    most = metric.at_most or AT_MOST
    x = x[torch.randperm(len(x), generator=rng.generator(case.seed, "batches"))[:most]]
    size = min(len(train), len(real) // 2)
    values, floors = [], []
    for k in range(SPLITS):
        order = torch.randperm(len(real), generator=rng.generator(case.seed, "copies", k))
        held_out, others = real[order[:size]], real[order[size : size + most]]
        values.append(metric.compute(x, train, held_out))
        floors.append(metric.compute(others, train, held_out))
    return {"value": mean(values), "floor": metric.floor(floors), "n": len(x)}


def of_downstream(metric: Metric, case: Case) -> Score:
    """Value: a classifier that learns from the samples too, with its interval. Floor: more real records in their place; nan where there are none."""

    def pick(scores: dict[str, dict[str, float]], which: str) -> float:
        return metric.compute({name: score[which] for name, score in scores.items()})

    ceiling = case.downstream.references(case.cloud.n).get(MORE)
    floor = float("nan") if ceiling is None else pick(ceiling, "value")
    return {"value": pick(case.worth, "value"), "floor": floor, "n": case.cloud.n, "low": pick(case.worth, "low"), "high": pick(case.worth, "high")}


PROTOCOLS: dict[str, Callable[[Metric, Case], Score]] = {
    "distance": distance,
    "features": distance,
    "samples": of_samples,
    "truth": of_truth,
    "likelihood": of_likelihood,
    "copies": of_copies,
    "downstream": of_downstream,
    "measured": measured,
}


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
