r"""Scores of a multi-label classifier of recordings, as the PTB-XL benchmark has them: macro AUC, F2 and G2 with their intervals.

With the weight $w_i = 1 / |y_i|$ of record i, one over the number of its statements, TP, FP and FN of a class are weighted counts, and

$F_\beta = \frac{(1 + \beta^2) TP}{(1 + \beta^2) TP + FP + \beta^2 FN}$,   $G_\beta = \frac{TP}{TP + FP + \beta FN}$,

each averaged over classes, $\beta = 2$: a statement that is missed weighs more than one too many. Labels and predictions are (n, K) rows.

References:
    Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701.
    Liu et al., An Open Access Database for Evaluating the Algorithms of Electrocardiogram Rhythm and Morphology Abnormality Detection,
    2018, Journal of Medical Imaging and Health Informatics 8(7) (CPSC2018).
"""

from collections.abc import Callable

import numpy as np

from ..errors import BadData

BETA = 2.0
GRID = np.linspace(0, 1, 100)
"""Thresholds that are tried."""
RESAMPLES, INTERVAL = 100, (0.05, 0.95)


def macro_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve, averaged over classes.

    Raises:
        BadData: A class that no record has, or all of them.
    """
    from sklearn.metrics import roc_auc_score

    _check(y, p)
    if one_sided := np.flatnonzero((y.sum(0) == 0) | (y.sum(0) == len(y))).tolist():
        raise BadData(f"a ROC curve needs records with and without each statement, got only one kind for columns {one_sided}; leave these classes out")
    return float(roc_auc_score(y, p, average="macro"))


def f_beta(y: np.ndarray, said: np.ndarray, beta: float = BETA) -> float:
    """Macro F of predictions `said`, 0 or 1."""
    tp, fp, fn = _counts(y, said, _weights(y))
    return _mean((1 + beta**2) * tp, (1 + beta**2) * tp + fp + beta**2 * fn)


def g_beta(y: np.ndarray, said: np.ndarray, beta: float = BETA) -> float:
    """Macro G of predictions `said`, 0 or 1."""
    tp, fp, fn = _counts(y, said, _weights(y))
    return _mean(tp, tp + fp + beta * fn)


def thresholds(y: np.ndarray, p: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Of each class the first threshold (K,) with the best unweighted G on these predictions, those of training, never of the test.

    Of a class that no training record has it is 1: nothing is said of it.
    """
    _check(y, p)
    best = np.ones(y.shape[1])
    for k in np.flatnonzero(y.sum(0) > 0):
        said = p[:, k, None] > GRID
        tp, fp, fn = _counts(y[:, k, None].repeat(len(GRID), 1), said, np.ones(len(y)))
        best[k] = GRID[np.argmax(np.divide(tp, tp + fp + beta * fn, out=np.zeros_like(tp), where=tp + fp + beta * fn > 0))]
    return best


def decide(p: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Statements, 0 or 1, where p exceeds its class's threshold; the likeliest one where none does."""
    said = p > at
    said[np.arange(len(p)), p.argmax(1)] |= ~said.any(1)
    return said.astype(int)


def interval(score: Callable[[np.ndarray, np.ndarray], float], y: np.ndarray, p: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 90 % bootstrap interval of a score over test records; every resample holds every class, thresholds stay.

    Raises:
        BadData: A class so rare that no resample of a thousand holds it.
    """
    rng, values = np.random.default_rng(seed), []
    for _ in range(10 * RESAMPLES):
        rows = rng.integers(len(y), size=len(y))
        if (y[rows].sum(0) > 0).all() and (y[rows].sum(0) < len(y)).all():
            values.append(score(y[rows], p[rows]))
        if len(values) == RESAMPLES:
            low, high = np.quantile(values, INTERVAL)
            return float(low), float(high)
    raise BadData(f"{len(y)} test records are too few for {y.shape[1]} classes: resamples lack some; test on more, or leave rare classes out")


def _weights(y: np.ndarray) -> np.ndarray:
    """One over the number of a record's statements; a record without any counts as one with one."""
    return 1 / np.maximum(y.sum(1), 1)


def _counts(y: np.ndarray, said: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted true positives, false positives and false negatives of each class, (K,)."""
    _check(y, said)
    true, positive, weight = y > 0, said > 0, weight[:, None]
    return (weight * (true & positive)).sum(0), (weight * (~true & positive)).sum(0), (weight * (true & ~positive)).sum(0)


def _mean(above: np.ndarray, below: np.ndarray) -> float:
    """Mean of quotients; a class that nobody has and nobody predicts is none."""
    known = below > 0
    if not known.any():
        raise BadData("no record has a statement and none is predicted; give labelled records")
    return float((above[known] / below[known]).mean())


def _check(y: np.ndarray, p: np.ndarray) -> None:
    if y.ndim != 2 or y.shape != p.shape:
        raise BadData(f"labels and predictions must have one shape (n, classes), got {y.shape} and {p.shape}; give both for the same records and classes")
