"""Features of signals: the first layer of the head of a classifier trained on labelled signals that no test sees.

Each record's features are brought to mean 0 and deviation 1, as those of encoders that end in a layer norm are: what a classifier says of one
kind of record, such as premature beats, may be ten times as large as what it says of all others, and would decide a Fréchet distance alone.
"""

from collections.abc import Callable, Hashable

from torch import Tensor
from torch.nn.functional import layer_norm

from .. import rng
from ..data import Points
from .classifier import Features, trained_once
from .signal_classifier import Recipe, train

LEARNING = Recipe(batch=64, most_steps=150)
"""How the classifier learns."""

_trained: dict[tuple[Hashable, bool], Features] = {}


def signal_features(kept: Callable[[], Points], classes: int, world: Hashable, *, sigmoid: bool = False) -> Features:
    """Features (n, 128) of signals (n, leads, samples) in data units; trained at the first use in a process, once for each world.

    Args:
        kept: Gives labelled signals to train on, always the same ones for a world.
        classes: How many labels they have.
        world: Tells one classifier from another.
        sigmoid: Features through a sigmoid instead, as a published pipeline had them by an oversight; to compare with its Fréchet distances.

    Reference:
        Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701.
    """
    return trained_once(lambda: _learned(kept(), classes, sigmoid), _trained, (world, sigmoid))


def layer(sigmoid: bool = False) -> str:
    """Which features these are, in words."""
    return f"128 before the ReLU, {'through a sigmoid' if sigmoid else 'of each record with mean 0 and deviation 1'}"


def _learned(kept: Points, classes: int, sigmoid: bool) -> Features:
    classifier = train(kept, classes, rng.split(0, "signal features"), LEARNING)

    def features(x: Tensor) -> Tensor:
        seen = classifier.features(x, sigmoid)
        return seen if sigmoid else layer_norm(seen, seen.shape[1:])

    return features
