r"""Classifier two-sample test: can samples be told from real points?"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from .. import rng

FOLDS = 5
WAVES = 128
"""Random directions, each with a cosine and a sine, half of them at each of two bandwidths."""
PENALTY = 0.01
"""Inverse strength of the ridge penalty on standardised features, for hundreds of features and as few points."""
MEDIAN_OF = 500
MOST_DIMS = 256
"""Samples of more numbers are seen through this many random projections, which keep distances."""

Array = NDArray[np.float64]


def two_sample(x: Tensor, y: Tensor, seed: int = 0) -> float:
    r"""Area under the ROC curve of a classifier of samples against real points, held out; 1/2 where none can tell them.

    Logistic regression on $\phi(z) = (z, z^2, \cos w_k^T z, \sin w_k^T z)$ of standardised points. Means and variances alone
    would miss a mixture whose modes moved under equal variances; the random waves, at a half and a quarter of the median
    distance, see any smooth difference at that scale. The mean over five folds of the area within the fold; chance takes it
    to either side of 1/2. Points are put in a canonical order first, so their order does not matter. Above 256 dimensions the
    classifier sees 256 random projections.

    Args:
        x, y: Samples (n, *) and real points (m, *), two or more.
        seed: Of the folds and waves.

    Reference:
        Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017, arXiv 1610.06545, section 3; the features are those
        of Rahimi and Recht, Random Features for Large-Scale Kernel Machines, 2007, section 3.
    """
    with threadpool_limits(1):  # small systems: threads that wait for each other cost far more than they save
        return _area(x, y, seed)


def _area(x: Tensor, y: Tensor, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression  # not above: commands that score nothing start sooner
    from sklearn.metrics import roc_auc_score

    a, b = (_shuffled(z, rng.generator(seed, "folds", k)) for k, z in enumerate((x, y)))
    features = _features(np.concatenate([a, b]), rng.generator(seed, "waves"))
    is_sample = np.arange(len(features)) < len(a)
    areas = []
    for test in _folds(len(a), len(b)):
        fitted = LogisticRegression(C=PENALTY, max_iter=200).fit(features[~test], is_sample[~test])
        areas.append(roc_auc_score(is_sample[test], fitted.decision_function(features[test])))
    return float(np.mean(areas))


def _shuffled(x: Tensor, g: torch.Generator) -> Array:
    """The points in a random order that does not depend on the given one."""
    z = x.flatten(1).double().cpu().numpy()
    along = z @ torch.randn(z.shape[1], generator=g, dtype=torch.float64).numpy()
    return z[np.argsort(along)][torch.randperm(len(z), generator=g).numpy()]


def _folds(n: int, m: int) -> Iterator[NDArray[np.bool_]]:
    """Which points each fold holds out, alike of both clouds; every point once."""
    folds = min(FOLDS, n, m)
    fold = np.concatenate([np.arange(n) % folds, np.arange(m) % folds])
    return (fold == k for k in range(folds))


def _features(z: Array, g: torch.Generator) -> Array:
    """Standardised features (n, 2 D + 2 WAVES) of points (n, D)."""
    z = _standardised(z)
    if z.shape[1] > MOST_DIMS:
        z = z @ torch.randn(z.shape[1], MOST_DIMS, generator=g, dtype=torch.float64).numpy() / z.shape[1] ** 0.5
    some = torch.as_tensor(z)[torch.randperm(len(z), generator=g)[:MEDIAN_OF]]
    width = float(torch.pdist(some).median()) or 1.0
    w = torch.randn(z.shape[1], WAVES, generator=g, dtype=torch.float64).numpy() / width
    w[:, ::2] *= 2
    w[:, 1::2] *= 4
    return _standardised(np.concatenate([z, z**2, np.cos(z @ w), np.sin(z @ w)], 1))


def _standardised(z: Array) -> Array:
    std = z.std(0)
    return (z - z.mean(0)) / np.where(std > 1e-12, std, 1.0)
