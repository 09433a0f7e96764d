"""Handwritten digits, bundled with scikit-learn: a strong label shift and few target images.

The source pool has all digits alike; in the target digit k is 0.7 times as frequent as digit k - 1, so three in ten are
zeros and one in eighty is a nine. Images are 8 x 8, grey levels 0 to 16. What changes between the
domains is how often each digit occurs, not how it looks, so p(x | y) is worth keeping: a method that only imitates the
target images loses what the source knew.
"""

from functools import lru_cache

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points, Task

SHARE_SOURCE = 0.5
"""Share of the 1,797 images that the source pool is drawn from; the rest is the target's, none is in both."""


def label_shift(n_target: int = 50, seed: int = 0, *, decay: float = 0.7, conditional: bool = True) -> Task:
    """Digits under a geometric label shift.

    Args:
        n_target: Target images.
        seed: Of the split and the draw.
        decay: Frequency of each digit relative to the one before.
        conditional: Give the labels to the methods, or keep them back.
    """
    x, y = _images()
    order = torch.randperm(len(x), generator=rng.generator(seed, "digits"))
    cut = round(SHARE_SOURCE * len(x))
    source, rest = order[:cut], order[cut:]
    wanted = decay ** torch.arange(10, dtype=torch.float64)
    chosen = _draw(y[rest], wanted / wanted.sum(), rng.split(seed, "target"))
    target, test = rest[chosen[:n_target]], rest[chosen[n_target:]]
    parts = [Points(x[rows], y[rows] if conditional else None) for rows in (source, target, test)]
    config = {"world": "label_shift", "n_target": n_target, "seed": seed, "decay": decay, "conditional": conditional}
    return Task("digits", Data(source=parts[0], target=parts[1]), parts[2], config=config)


@lru_cache(1)
def _images() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # not above: every command loads the tasks' names

    digits = load_digits()
    return torch.tensor(digits.images, dtype=torch.float32)[:, None], torch.tensor(digits.target)


def _draw(y: Tensor, prior: Tensor, seed: int) -> Tensor:
    """Indices without replacement, in an order such that every prefix has about the prior's frequencies.

    Labels are drawn from the prior; a label whose images are used up ends the draw.
    """
    g = rng.generator(seed, "labels")
    left = {k: (y == k).nonzero()[:, 0][torch.randperm(int((y == k).sum()), generator=g)].tolist() for k in range(len(prior))}
    rows = []
    for k in torch.multinomial(prior, len(y), replacement=True, generator=g).tolist():
        if not left[k]:
            break
        rows.append(left[k].pop())
    return torch.tensor(rows)
