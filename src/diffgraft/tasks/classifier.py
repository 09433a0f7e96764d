"""Features of a classifier that a task trains for its metrics, once in a process."""

from collections.abc import Callable, Hashable, MutableMapping
from typing import Any

from torch import Tensor

Features = Callable[[Tensor], Tensor]


def trained_once(train: Callable[[], Features], known: MutableMapping[Any, Features], key: Hashable) -> Features:
    """Features that are trained at their first use, and kept in `known` under `key`, which tells one classifier from another."""

    def features(x: Tensor) -> Tensor:
        if key not in known:
            known[key] = train()
        return known[key](x)

    return features
