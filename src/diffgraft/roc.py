r"""Area under the ROC curve, $A = P(s_{target} > s_{source}) + P(s_{target} = s_{source}) / 2$, with an interval.

The interval holds each A that the estimate does not reject, so it stays within [0, 1] and keeps its width where two
samples are told apart without error. The variance is that of Hanley and McNeil,
$v(A) = A (1 - A) (1 + N (\frac{1 - A}{2 - A} + \frac{A}{1 + A})) / (m n)$ with N = (m + n) / 2 - 1, exact at A = 1/2.

Scores by K-fold cross-validation come from classifiers that share most of their training points, and the areas of the
folds with them: for two samples of one law the spread was measured at 1.3 to 1.5 times that of independent scores. The
correction multiplies the variance by 1 + K / (K - 1).

References:
    Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, 1982, Radiology 143, eq. 1 and 2 (variance).
    Newcombe, Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic, part 2, 2006,
    Statistics in Medicine 25, method 5 (the interval).
    Nadeau and Bengio, Inference for the Generalization Error, 2003, Machine Learning 52, section 3 (the correction).
"""

import math

from numpy.typing import NDArray

Z = 1.959964
"""Half the width of a 95 % interval, in standard errors."""


def area(is_target: NDArray, score: NDArray) -> float:
    """Area under the ROC curve of scores (n,), high where `is_target` (n,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_target, score))


def interval(auc: float, sizes: list[tuple[int, int]], folds: int = 1) -> tuple[float, float]:
    """A 95 % interval of an area.

    Args:
        auc: The area, or the mean over strata of theirs, weighed by the second of their sizes.
        sizes: How many samples of either kind, of each stratum.
        folds: Of the cross-validation that the scores come from; 1 where the classifier saw none of the samples.
    """
    from scipy.optimize import brentq

    correction = 1 if folds == 1 else 1 + folds / (folds - 1)
    total = sum(n for _, n in sizes)

    def beyond(a: float) -> float:
        variance = correction * sum((n / total) ** 2 * _variance(a, m, n) for m, n in sizes)
        return abs(auc - a) - Z * math.sqrt(variance)

    inside = min(max(auc, 1e-9), 1 - 1e-9)
    return (brentq(beyond, 0, inside) if auc > 1e-9 else 0.0), (brentq(beyond, inside, 1) if auc < 1 - 1e-9 else 1.0)


def _variance(a: float, m: int, n: int) -> float:
    return a * (1 - a) / (m * n) * (1 + ((m + n) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a)))
