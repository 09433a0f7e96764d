"""What methods and metrics are, in words, and how numbers are written: for pages and cards. Text only; they themselves live elsewhere."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MetricText:
    """What a reader needs to know of a metric.

    Args:
        title: A short name.
        best: "low", "high", or "ideal" where the floor's value is best; such a metric ranks nothing.
        says: What it measures.
        perfect: The score of equal distributions, where the floor is that much and an error.
        ratios: Whether a ratio of two scores says anything.
    """

    title: str
    best: str
    says: str
    perfect: float = 0.0
    ratios: bool = True


METRICS = {
    "energy": MetricText(
        "energy distance",
        "low",
        "Twice the mean distance between samples and held-out target points, less the mean distances within each cloud. Zero for equal "
        "distributions; for a small shift it grows with the square of the shift. It may fall slightly below zero by chance.",
    ),
    "sliced_w2": MetricText(
        "sliced Wasserstein",
        "low",
        "Both clouds are projected on random directions; the score is the root mean square gap between the sorted projections. It is a length, "
        "in units of the standardised data.",
    ),
    "kl_generated": MetricText(
        "KL of the samples",
        "low",
        "Kullback-Leibler divergence, in nats, of the samples' distribution from the exact target density. It punishes samples where the target "
        "has little mass. It needs a task whose density is known.",
    ),
    "kl_model": MetricText(
        "KL of the model",
        "low",
        "Kullback-Leibler divergence, in nats, of the exact target density from the model's own, at held-out points. It punishes a model that gives little "
        "density to parts of the target. It needs a task whose density is known.",
    ),
    "score_error": MetricText(
        "score error",
        "low",
        "Mean squared error of the model's score (the gradient of its log-density) against the exact one, over all noise levels, weighted by the "
        "noise variance. The exact model scores zero at the very same points, so the floor is zero.",
    ),
    "average_likelihood": MetricText(
        "average likelihood",
        "ideal",
        "Mean exact target density at the samples. Perfect samples score its floor; samples that crowd around the modes score more, so the page "
        "ranks no method by it.",
    ),
    "mmd": MetricText(
        "kernel distance",
        "low",
        "Maximum mean discrepancy, squared: how far the mean similarity of samples to held-out target points is from that within each cloud, at five "
        "scales around the median distance. Zero for equal distributions; it may fall slightly below zero by chance.",
    ),
    "frechet": MetricText(
        "Frechet distance",
        "low",
        "Squared distance between two normal distributions fitted to features of the samples and of held-out target data; without given features, to the "
        "data themselves. It sees means and covariances only. With few points it is far above zero even for equal distributions.",
    ),
    "kid": MetricText(
        "kernel distance of features",
        "low",
        "KID: maximum mean discrepancy, squared, of features of the samples and of held-out target data under a cubic kernel. Zero in the mean for equal "
        "distributions, however few the points, where the Frechet distance is far above it; it may fall slightly below zero by chance.",
    ),
    "feature_coverage": MetricText(
        "coverage of features",
        "high",
        "Share of held-out target points with a sample in their neighbourhood, which reaches to the fifth of them, both seen through their features. Real "
        "data score about .97.",
    ),
    "precision": MetricText(
        "precision",
        "high",
        "Share of samples that lie within the neighbourhood of a real point, which reaches to its third nearest real neighbour: are samples plausible?",
    ),
    "recall": MetricText(
        "recall", "high", "Share of real points that lie within the neighbourhood of a sample, which reaches to its third: is all of the target reached?"
    ),
    "density": MetricText(
        "density",
        "high",
        "How many neighbourhoods of real points a sample lies in, on average, over five, the neighbours that each reaches: a steadier precision. Equal "
        "distributions score one; samples that crowd where the target is dense score more.",
    ),
    "coverage": MetricText(
        "coverage",
        "high",
        "Share of real points with a sample in their neighbourhood, which reaches to its fifth real neighbour: a steadier recall. Real data score about .97.",
    ),
    "held_out_likelihood": MetricText(
        "held-out likelihood",
        "high",
        "Mean log-density, in nats, that the model gives to held-out target points, given their labels where it takes labels. Where the exact target density "
        "is known the floor is its mean at the same points, the best there is in the mean.",
        ratios=False,
    ),
    "memorisation": MetricText(
        "memorisation",
        "ideal",
        "How much closer samples lie to the training target points than to held-out ones: the median ratio of the two distances. Copies score "
        "zero; new points score its floor, about one, or less where fewer points are held out. The page ranks no method by it.",
    ),
    "memorisation_shifted": MetricText(
        "memorisation at any shift",
        "ideal",
        "Memorisation where a distance between signals is that at the best shift in time, up to half a window either way: a training record that begins at "
        "another beat is a copy, too. Copies score zero; new signals score its floor, about one. The page ranks no method by it.",
    ),
    "copied": MetricText(
        "share copied",
        "ideal",
        "Share of samples that lie three times as near to a training target point as to any held-out one; of signals, at the best shift in time. New points "
        "score its floor, close to zero but where points have few numbers and lie close anyway. The page ranks no method by it.",
    ),
    "two_sample": MetricText(
        "two-sample test",
        "low",
        "How well a classifier tells samples from held-out target data: the area under its ROC curve on points that it was not trained on. One half where it "
        "cannot tell them, one where it always can.",
        perfect=0.5,
    ),
    "downstream_auc": MetricText(
        "AUC of a classifier",
        "high",
        "What the samples are worth to a classifier that is trained on the target points and the samples: the area under its ROC curve on real test "
        "records, the mean over statements. The floor is the score with as many more real records in the samples' place.",
    ),
    "downstream_f2": MetricText(
        "F2 of a classifier",
        "high",
        "The same classifier's F score on real test records, which weighs a statement that is missed four times as much as one too many, the mean over "
        "statements. Thresholds are those with the best G2 on the records that it was trained on.",
    ),
    "downstream_g2": MetricText(
        "G2 of a classifier",
        "high",
        "The same classifier's G score on real test records: of all that has a statement or is said to have it, the share that is right, with what is "
        "missed counted twice, the mean over statements.",
    ),
    "synthetic_auc": MetricText(
        "AUC of samples alone",
        "high",
        "A classifier that is trained on the samples and on no real record, tested on real ones: the area under its ROC curve, the mean over statements. "
        "A report's table of classifiers holds beside it what the real training records alone are worth. The floor is the score of as many more real "
        "records alone, where there are any.",
    ),
    "heart_rate": MetricText(
        "heart rate",
        "low",
        "How far the heart rates of samples are from those of held-out records: the 1-Wasserstein distance of the two distributions, in beats a minute. Zero "
        "for equal distributions.",
    ),
    "rr_variability": MetricText(
        "RR variability",
        "low",
        "As for heart rates, of the standard deviation of RR intervals, from one beat to the next, over their mean; of records with four beats or more.",
    ),
    "qrs_duration": MetricText(
        "QRS duration", "low", "As for heart rates, of the duration of the QRS complex in ms, over all leads of the record's median beat."
    ),
    "pr_interval": MetricText(
        "PR interval",
        "low",
        "As for heart rates, of the time from the beginning of the P wave to that of the QRS complex in ms; records in which no P wave is found are left out.",
    ),
    "qt_interval": MetricText(
        "QT interval", "low", "As for heart rates, of the time from the beginning of the QRS complex to the end of the T wave in ms, not corrected for rate."
    ),
    "einthoven": MetricText(
        "Einthoven",
        "low",
        "How far samples keep the law that leads I and III add up to II, as real records do: the distance, as for heart rates, of the root mean square of what "
        "they differ by, in mV.",
    ),
}

ALONE, TUNED, MORE = "real records alone", "fine-tuned classifier", "more real records"
"""What a classifier that learns from samples too is compared with."""

UNKNOWN = MetricText("", "low", "This page knows no description of it; lower is taken as better.")

METHODS = {
    "source": "The source model as it is, sampled with the target's labels: what every method must beat.",
    "scratch": "A new model trained on the target points alone: what transfer must beat.",
    "finetune": "All weights of the source model trained further on the target points, stopped by held-out ones.",
    "lora": "The source model with low-rank additions to its weights; only these are trained.",
    "difffit": "The source model with only its biases, normalisations and added scales trained.",
    "tgdp": "Transfer Guided Diffusion Process: the frozen source model plus the gradient of a learned log ratio of target to source density.",
    "classifier_guidance": "The frozen source model guided by a classifier that tells target from source. A baseline, not exact.",
    "cep": "Contrastive Energy Prediction: the frozen source model plus the gradient of a log ratio learned by comparing points within a batch.",
    "domain_guidance": "A fine-tuned model, pushed away from what the source model would do.",
    "importance": "The source model trained further on its own points, drawn as often as a ratio of target to source density says.",
    "telescoping": "The frozen source model plus the gradient of a sum of log ratios, each between neighbours on the way from source to target.",
    "time_ratio_weighted": "The source model trained further on source points, weighed and corrected by a ratio that depends on the noise level.",
    "model_guidance": "Classifier-free guidance learned into one network while fine-tuning, so that sampling takes one pass.",
    "classifier_free": "A model pushed away from what it would do without the label.",
    "autoguidance": "A fine-tuned model, pushed away from an earlier, worse state of its own.",
    "dogfit": "Domain guidance learned into one network while fine-tuning, so that sampling needs no second one.",
    "auto": "The candidate that explains target points best that it has not seen, fitted on all of them.",
}

SOURCE_POINTS = {
    "source": False,
    "scratch": False,
    "finetune": False,
    "lora": False,
    "difffit": False,
    "tgdp": True,
    "classifier_guidance": True,
    "cep": True,
    "domain_guidance": False,
    "importance": True,
    "telescoping": True,
    "time_ratio_weighted": True,
    "model_guidance": False,
    "classifier_free": False,
    "autoguidance": False,
    "dogfit": False,
    "auto": True,
}
"""Whether a method learns from source points too, whatever its settings; without source data, samples of the source model stand in."""
NO_SOURCE, SOURCE = "none", "data or samples"
"""What a method needs of the source beside its model, for a table."""


def source_data(method: str, settings: Mapping[str, Any]) -> str:
    """What a method with these settings needs of the source beside its model; a dash for a method that this page doesn't know.

    >>> source_data("finetune", {"augment": "none"}), source_data("finetune", {"rehearsal": 0.2}), source_data("tgdp", {})
    ('none', 'data or samples', 'data or samples')
    """
    if method not in SOURCE_POINTS:
        return "–"
    smooths = settings.get("augment") == "pseudo-target" and settings.get("tune", "finetune") == "finetune"
    return SOURCE if SOURCE_POINTS[method] or smooths or settings.get("rehearsal") else NO_SOURCE


def metric_text(metric: str) -> MetricText:
    """The text of a metric; a plain stand-in for one that this page doesn't know."""
    return METRICS.get(metric, UNKNOWN)


def metric_title(metric: str) -> str:
    """The short name of a metric, or its id."""
    return metric_text(metric).title or metric


def best_way(metric: str) -> str:
    """Which way is better: "low", "high" or "ideal"."""
    return metric_text(metric).best


def ranks(metric: str) -> bool:
    """Whether methods are ranked by it."""
    return best_way(metric) != "ideal"


def has_ratios(metric: str) -> bool:
    """Whether a ratio of two scores says which is better."""
    return ranks(metric) and metric_text(metric).ratios


def direction(metric: str) -> str:
    """Which way is better, for a table's head."""
    return {"low": "lower is better", "high": "higher is better", "ideal": "the floor is ideal; not ranked"}[best_way(metric)]


def listed(names: list[str], most: int | None = None) -> str:
    """Names as a phrase: a, b and c; of many the first `most`, and how many more."""
    if most is not None and len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def count(n: int, thing: str) -> str:
    """A number of things: 1 seed, 2 seeds."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def number(value: float | None, digits: int = 3) -> str:
    """A number for a reader, with this many significant digits; a dash for none.

    >>> [number(v) for v in (0.16247, 3.074, 134.2, 2.866e-5, 0.0, None)]
    ['0.162', '3.07', '134', '2.87e-5', '0', '–']
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-3 <= abs(float(f"{value:.{digits - 1}e}")) < 10**digits:
        return f"{value:#.{digits}g}".rstrip(".")
    if 1 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return re.sub(r"e([+-])0*(\d)", lambda m: "e" + m[1].replace("+", "") + m[2], f"{value:.{digits - 1}e}")
