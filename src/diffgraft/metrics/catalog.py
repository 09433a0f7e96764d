"""Metrics by their id, with what each needs and which way is better; `evaluate` applies them.

Each value comes with a floor, the score of real data in the samples' place: see `protocol`. A value near its floor cannot
be told from perfect.
"""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points, Transform, points
from ..denoise import Denoiser
from ..errors import BadData, listed, one_of
from .case import Case
from .classifier import two_sample
from .kernel import kernel_inception_distance, mmd
from .model import held_out_likelihood, kl_model
from .neighbours import copied, coverage, density, memorisation, memorisation_shifted, precision, recall
from .protocol import PROTOCOLS, Metric
from .transport import energy_distance, frechet, sliced_w2, wasserstein_1
from .truth import average_likelihood, kl_generated, score_error

LOW_DIM = 64
"""Dimensions up to which raw data are their own features, and likelihoods are cheap enough to be computed unasked."""
WORDS = {
    "truth": "the exact truth",
    "model": "the model",
    "train": "the training target points",
    "features": "a map to features",
    "downstream": "records for a classifier",
    "measures": "a map to measured quantities",
}
"""What messages call the things that a metric may need."""


def _measured(quantity: str, says: str) -> Metric:
    return Metric(lambda x, y, seed: wasserstein_1(x, y), "measured", "low", f"Wasserstein distance of {says}", ("measures",), perfect=0.0, quantity=quantity)


METRICS: dict[str, Metric] = {
    "energy": Metric(lambda x, y, seed: energy_distance(x, y), "distance", "low", "energy distance to held-out target data", perfect=0.0),
    "sliced_w2": Metric(sliced_w2, "distance", "low", "sliced Wasserstein distance to held-out target data", perfect=0.0),
    "mmd": Metric(lambda x, y, seed: mmd(x, y), "distance", "low", "kernel distance to held-out target data, squared", perfect=0.0, at_most=2_500),
    "frechet": Metric(lambda x, y, seed: frechet(x, y), "features", "low", "Frechet distance of normals fitted to features", perfect=0.0),
    "kid": Metric(lambda x, y, seed: kernel_inception_distance(x, y), "features", "low", "kernel distance of features, squared", ("features",), perfect=0.0),
    "feature_coverage": Metric(
        lambda x, y, seed: coverage(x, y), "features", "high", "share of held-out points with a sample near, by features", ("features",), at_most=5_000
    ),
    "precision": Metric(lambda x, y, seed: precision(x, y), "distance", "high", "share of samples near a held-out point", at_most=5_000),
    "recall": Metric(lambda x, y, seed: recall(x, y), "distance", "high", "share of held-out points near a sample", at_most=5_000),
    "density": Metric(lambda x, y, seed: density(x, y), "distance", "high", "held-out points that a sample is near to, over k", at_most=5_000),
    "coverage": Metric(lambda x, y, seed: coverage(x, y), "distance", "high", "share of held-out points with a sample near", at_most=5_000),
    "two_sample": Metric(two_sample, "distance", "low", "AUC of a classifier of samples against held-out points", perfect=0.5, at_most=2_000),
    "memorisation": Metric(memorisation, "copies", "ideal", "distance to training points over that to held-out ones", ("train",)),
    "memorisation_shifted": Metric(
        memorisation_shifted,
        "copies",
        "ideal",
        "the same for signals, at the best shift in time",
        ("train",),
        at_most=200,
        rank=3,
    ),
    "copied": Metric(copied, "copies", "ideal", "share of samples far nearer to a training point than to held-out ones", ("train",), at_most=500),
    "held_out_likelihood": Metric(
        lambda log_model, log_q: held_out_likelihood(log_model),
        "likelihood",
        "high",
        "mean log-density of held-out points under the model, nats",
        ("model",),
    ),
    "kl_generated": Metric(kl_generated, "samples", "low", "KL divergence of the samples from the exact target, in nats", ("truth",), perfect=0.0),
    "kl_model": Metric(kl_model, "likelihood", "low", "KL divergence of the model from the exact target, in nats", ("truth", "model")),
    "average_likelihood": Metric(average_likelihood, "samples", "ideal", "mean exact density at the samples", ("truth",)),
    "score_error": Metric(score_error, "truth", "low", "squared error of the model's score against the exact one", ("truth", "model")),
    "downstream_auc": Metric(itemgetter("auc"), "downstream", "high", "macro AUC of a classifier that learns from the samples too", ("downstream",)),
    "downstream_f2": Metric(itemgetter("f2"), "downstream", "high", "macro F2 of the same classifier", ("downstream",)),
    "downstream_g2": Metric(itemgetter("g2"), "downstream", "high", "macro G2 of the same classifier", ("downstream",)),
    "synthetic_auc": Metric(
        lambda scores: scores.get("alone", scores["auc"]),
        "downstream",
        "high",
        "macro AUC of a classifier that learns from the samples alone",
        ("downstream",),
        quantity="alone",
    ),
    "heart_rate": _measured("heart_rate", "heart rates to real ones, beats a minute"),
    "rr_variability": _measured("rr_variability", "coefficients of variation of RR intervals to real ones"),
    "qrs_duration": _measured("qrs_duration", "QRS durations to real ones, ms"),
    "pr_interval": _measured("pr_interval", "PR intervals to real ones, ms"),
    "qt_interval": _measured("qt_interval", "QT intervals to real ones, ms"),
    "einthoven": _measured("einthoven", "what I + III and II differ by to real ones, mV"),
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
    likelihoods: int | None = None,
    downstream: Any = None,
    measures: Any = None,
) -> dict[str, dict[str, float]]:
    """Score samples against held-out target data.

    Distances are taken in model space where a model is given, else after standardising by the reference.

    Args:
        x: Samples (n, *), in data units.
        reference: Held-out target points (m, *), never the training target, or a pair with their labels.
        y: Labels of the samples, for a classifier that learns from them; or give a pair as x.
        model: The model, for metrics of the model itself. Where it takes labels, its likelihood is that of points given
            their labels: of a labelled reference, or of the truth's.
        train: Training target points, for metrics of memorisation.
        truth: The task's exact truth, where it exists.
        features: A map from samples (n, *) in data units to features (n, F), for `kid` and `frechet`, which without it
            takes the data themselves up to 64 dimensions.
        metrics: Ids; by default all that the given arguments allow, without likelihoods above 64 dimensions.
        generator: One seed is drawn from it for splits and directions; seed 0 without it.
        likelihoods: Most held-out points at which the model's density is computed, the dearest part; by default 2,000 up to
            4 dimensions, 500 up to 16 and 200 above.
        downstream: Labelled records to train and test a classifier on, as `Task.downstream`; minutes of one core.
        measures: A map from samples (n, *) in data units to `{name: (n,)}`, quantities of each with nan where one cannot be measured, for
            the metrics of these names; at most 500 samples and held-out points are measured.

    Returns:
        `{id: {"value", "floor", "n"}}`, n the size of each cloud, or how many points a mean is over; those of a classifier with the ends
        `low` and `high` of a 90 % interval over its test records.

    Raises:
        BadData: Shapes that differ, or a metric that needs something not given.
        BadPlan: No such metric.
    """
    cloud, real = points(x if isinstance(x, tuple) or y is None else (x, y), "sample"), points(reference, "reference")
    known = None if train is None else points(train, "training")
    _check_shape(cloud, real, "samples")
    if known is not None:
        _check_shape(known, real, "training points")
    transform = model.transform if model is not None else Transform.fit(real.x)
    seed = 0 if generator is None else rng.seed_from(generator)
    case = Case(cloud, real, transform, seed, model, known, truth, features, likelihoods, downstream, measures)
    for name in metrics or ():
        if hindrance := _hindrance(METRICS[one_of("metric", name, METRICS)], case):
            raise BadData(f"metric {name} needs {hindrance}, or drop it from metrics=[...]")
    chosen = metrics or [name for name, m in METRICS.items() if not _hindrance(m, case) and not _dear(m, case)]
    return {name: PROTOCOLS[METRICS[name].kind](METRICS[name], case) for name in chosen}


def _check_shape(given: Points, real: Points, what: str) -> None:
    if given.x.shape[1:] != real.x.shape[1:]:
        raise BadData(f"{what} and reference must have one shape, got {tuple(given.x.shape[1:])} and {tuple(real.x.shape[1:])}; give data of one task")


def _hindrance(metric: Metric, case: Case) -> str:
    """What a metric still needs and how to give it; nothing where it can be computed."""
    lacking = [need for need in metric.needs if getattr(case, need) is None]
    if lacking:
        return f"{' and '.join(WORDS[need] for need in metric.needs)}; pass {', '.join(f'{need}=...' for need in lacking)}"
    if metric.rank and case.real.x.ndim != metric.rank:
        return f"signals (n, channels, samples), got points of shape {tuple(case.real.x.shape[1:])}; pass signals"
    if metric.kind == "downstream" and case.cloud.y is None:
        return "labels of the samples, got none; pass y=..."
    if metric.kind == "downstream" and metric.quantity and not getattr(case.downstream, metric.quantity, False):
        return "a classifier of the samples alone; pass downstream=Downstream(..., alone=True)"
    if metric.kind == "likelihood" and case.lacks_labels:
        return "labels of the reference, since the model takes labels, but got none; pass reference=(x, y)"
    if metric.kind == "features" and case.features is None and case.dim > LOW_DIM:
        return f"features above {LOW_DIM} dimensions, got none for {case.dim}; pass features=..."
    if metric.kind == "measured" and metric.quantity not in case.measured:
        return f"measures of '{metric.quantity}', got {listed(case.measured)}; return it by that name"
    return ""


def _dear(metric: Metric, case: Case) -> bool:
    return metric.kind == "likelihood" and case.dim > LOW_DIM
