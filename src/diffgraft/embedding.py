r"""A map of features in the plane, by t-SNE: what Figure 3 of arXiv 2405.16876 shows of electrocardiograms.

Held-out target data, source data and the samples of every method are laid out together, so that they share one map. Points that are near each
other in features are near on the map; how far apart two groups lie, and how wide a group is, says little.

Reference:
    van der Maaten, Hinton, Visualizing Data using t-SNE, 2008, Journal of Machine Learning Research 9.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .files import atomic_file

MOST, FEWEST = 1_500, 50
"""Most points on a map, of all clouds together, and fewest."""
PERPLEXITY = 30.0
"""Effective number of neighbours of a point, or a third of the points where that is fewer."""


@dataclass(frozen=True)
class Embedding:
    """Points (n, 2) on a map, the place in `names` of the cloud of each (n,), and how it was made."""

    points: np.ndarray
    cloud: np.ndarray
    names: tuple[str, ...]
    perplexity: float
    n_features: int
    features: str

    def write(self, path: Path) -> None:
        """Write it as an npz file."""
        path.parent.mkdir(exist_ok=True)
        arrays: dict[str, Any] = {name: np.array(value) for name, value in vars(self).items()}
        with atomic_file(path) as partial:
            np.savez_compressed(partial, **arrays)


def embed(clouds: Mapping[str, np.ndarray], features: str) -> Embedding | None:
    """A map of clouds of features, about as many points of each; None where there are too few points or features.

    Args:
        clouds: Features (n, F) by name, in random order.
        features: What the features are, in words.
    """
    most = MOST // len(clouds)
    shown = [z[:most] for z in clouds.values()]
    z = np.concatenate(shown).astype(np.float64)
    if len(z) < FEWEST or z.shape[1] < 2:
        return None
    from sklearn.manifold import TSNE  # not above: commands that score nothing start sooner

    perplexity = min(PERPLEXITY, (len(z) - 1) // 3)
    with threadpool_limits(1):  # one thread adds in one order: the same map each time
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(z)
    cloud = np.repeat(np.arange(len(shown)), [len(part) for part in shown])
    return Embedding(points.astype(np.float32), cloud, tuple(clouds), perplexity, z.shape[1], features)
