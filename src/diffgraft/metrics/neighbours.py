r"""Scores by nearest neighbours: are samples plausible, is all of the target reached, are training points copied?

The ball of a point reaches to its k-th nearest neighbour in its own cloud, $B(y_j) = \{z : |z - y_j| \le r_k(y_j)\}$.
Distances come in blocks, so memory does not grow with the number of pairs.
"""

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..pairs import blocks, nearest, nearest_shifted

K_MANIFOLD = 3
"""Neighbours of precision and recall, as in their paper."""
K_COVERAGE = 5
"""Neighbours of density and coverage, as in their paper."""
COPY = 1 / 3
"""Ratio of distances below which a sample is a copy."""
TREE_UP_TO = 8
"""Dimensions up to which a tree finds neighbours faster than all distances do."""


def precision(x: Tensor, y: Tensor, k: int = K_MANIFOLD) -> float:
    r"""Share of samples in the ball of some real point: $\frac{1}{n} \sum_i 1[x_i \in \cup_j B(y_j)]$.

    Args:
        x: Samples (n, *).
        y: Real points (m, *), two or more.
        k: Neighbours that a ball reaches; all others where there are fewer.

    Reference:
        Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019, arXiv 1904.06991,
        eq. 2.
    """
    x, y = _cloud(x), _cloud(y)
    r = radii(y, k)
    return _share([(block <= r).any(1) for block in blocks(x, y)])


def recall(x: Tensor, y: Tensor, k: int = K_MANIFOLD) -> float:
    r"""Share of real points in the ball of some sample: precision with the clouds exchanged.

    Args:
        x: Samples (n, *), two or more.
        y: Real points (m, *).
        k: As in `precision`.

    Reference:
        Kynkaanniemi et al., 2019, arXiv 1904.06991, eq. 3.
    """
    return precision(y, x, k)


def density(x: Tensor, y: Tensor, k: int = K_COVERAGE) -> float:
    r"""Balls of real points that a sample lies in, over k: $\frac{1}{k n} \sum_i \sum_j 1[x_i \in B(y_j)]$.

    Exactly 1 in the mean for equal laws, whatever the law and the sizes; more where samples crowd where real points do.

    Args:
        x: Samples (n, *).
        y: Real points (m, *), two or more.
        k: As in `precision`.

    Reference:
        Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020, arXiv 2002.09797, eq. 3.
    """
    x, y = _cloud(x), _cloud(y)
    r, k = radii(y, k), min(k, len(y) - 1)
    return sum(int((block <= r).sum()) for block in blocks(x, y)) / (k * len(x))


def coverage(x: Tensor, y: Tensor, k: int = K_COVERAGE) -> float:
    r"""Share of real points with a sample in their ball: $\frac{1}{m} \sum_j 1[\exists i: x_i \in B(y_j)]$.

    For equal laws and n = m its mean is $1 - \prod_{i=1}^{k} (m - i) / (2 m - i)$, about $1 - 2^{-k}$.

    Args:
        x: Samples (n, *).
        y: Real points (m, *), two or more.
        k: As in `precision`.

    Reference:
        Naeem et al., 2020, arXiv 2002.09797, eq. 4; its mean is in their appendix.
    """
    x, y = _cloud(x), _cloud(y)
    return _share([nearest(y, x) <= radii(y, k)])


def memorisation(x: Tensor, train: Tensor, held_out: Tensor) -> float:
    r"""How much closer samples are to training points than to held-out ones: $median_i \, d(x_i, T) / d(x_i, H)$.

    $d(x, S) = \min_{s \in S} |x - s|$. Copies score 0; new points of the target about 1, more or less as the few training points T happen to
    lie, and less where there are fewer held-out points H than T. A sample on both sets counts as 1. The median does not see copies
    that are fewer than half: see `copied`.

    Args:
        x: Samples (n, *).
        train: All training target points (s, *).
        held_out: Held-out target points (r, *).

    Reference:
        After Meehan, Chaudhuri and Dasgupta, A Non-Parametric Test to Detect Data-Copying in Generative Models, 2020, arXiv
        2004.05675, section 3, which compares the same distances of samples and of held-out points.
    """
    return _median(_ratios(nearest(x, train), nearest(x, held_out)))


def memorisation_shifted(x: Tensor, train: Tensor, held_out: Tensor) -> float:
    r"""The same of signals (n, channels, L) where d takes each training or held-out signal at its best shift, up to half of L either way.

    A copy that begins at another beat scores 0, which `memorisation` takes for a new signal. See `pairs.nearest_shifted`.
    """
    return _median(_ratios(nearest_shifted(x, train), nearest_shifted(x, held_out)))


def copied(x: Tensor, train: Tensor, held_out: Tensor) -> float:
    r"""Share of samples that lie three times as near to a training point as to any held-out one: $\frac{1}{n} \sum_i 1[d(x_i, T) < d(x_i, H) / 3]$.

    Distances of signals (n, channels, L) are those of `memorisation_shifted`. A single copy counts; of new points hardly any does, but where there
    are so few numbers that points happen to lie close: the floor says how many.

    Args:
        x, train, held_out: As in `memorisation`.

    Reference:
        The factor is that of Yoon, Choi, Kwon and Ryu, Diffusion Probabilistic Models Generalize when They Fail to Memorize, 2023, ICML workshop
        SPIGM, who compare with the second nearest training point.
    """
    near = nearest_shifted if x.ndim == 3 else nearest
    return float((_ratios(near(x, train), near(x, held_out)) < COPY).double().mean())


def _ratios(to_train: Tensor, to_held_out: Tensor) -> Tensor:
    return torch.where((to_train == 0) & (to_held_out == 0), 1.0, to_train / to_held_out)


def _median(values: Tensor) -> float:
    return float(np.median(values.cpu().numpy()))


def radii(y: Tensor, k: int) -> Tensor:
    """Distance of each point of a cloud (m, D) to its k-th nearest other point, (m,)."""
    k = min(k, len(y) - 1)
    if y.shape[1] > TREE_UP_TO:
        return torch.cat([block.kthvalue(k + 1, dim=1).values for block in blocks(y, y)])
    index = cKDTree(y.cpu().numpy()).query(y.cpu().numpy(), k=[k + 1])[1][:, 0]
    other = y[torch.as_tensor(index, device=y.device)]
    # the same arithmetic as in `blocks`, so that a ball's edge is on the ball to the last bit
    return torch.cdist(y[:, None], other[:, None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0, 0]


def _cloud(x: Tensor) -> Tensor:
    """Points (n, D), exact enough for the tree where it is used."""
    x = x.flatten(1)
    return x.double() if x.shape[1] <= TREE_UP_TO else x


def _share(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).double().mean())
