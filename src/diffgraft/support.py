"""Does the target lie where the source has points? By density where it can be estimated, by nearest neighbours anywhere."""

from typing import Any

from torch import Tensor

from . import rng
from .data import Points
from .density import fit_mixture, share_outside, smooths
from .pairs import nearest, nearest_other

USUAL = 0.999
"""A point is outside where its nearest source neighbour is farther than this share of source points have theirs."""


def outside(source: Points, target: Points, seed: int) -> float | None:
    """Share of target points at which the source's density is below almost all of its own; None for images and wide tables."""
    if not smooths(target):
        return None
    return share_outside(target.x, fit_mixture(source.x, rng.split(seed, "support")), seed)


def neighbour_distances(source: Tensor, target: Tensor) -> Tensor:
    """How far each target point (m, F) is from its nearest source neighbour, (m,), in units of what is usual in the source (n, F).

    The unit is the 99.9 % quantile of the distances from source points to their nearest other one, so points beyond 1 are
    outside of the source's support.
    """
    usual = nearest_other(source).quantile(USUAL)
    distance = nearest(target, source)
    return distance / usual.clamp(min=1e-12)


def extremes(target: Tensor, distances: Tensor, rows: Tensor, name: Any, most: int = 5) -> list[dict[str, Any]]:
    """The target points outside of the source's support that lie farthest out.

    Args:
        target: Standardised by the source, (m, *).
        distances: From `neighbour_distances`, (m,).
        rows: Which rows of the data they are, (m,).
        name: From a feature's place in a flattened sample to its name.
        most: How many at most.

    Returns:
        For each its `row`, `distance`, and the `feature` with the largest |z|, with that `z`.
    """
    found = []
    for k in distances.argsort(descending=True)[:most].tolist():
        if distances[k] > 1:
            z = target[k].flatten()
            place = int(z.abs().argmax())
            found.append({"row": int(rows[k]), "distance": round(float(distances[k]), 2), "feature": name(place), "z": round(float(z[place]), 2)})
    return found
