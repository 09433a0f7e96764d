"""What samples are worth to a classifier: trained on real and synthetic records, it is tested on real ones that no method has seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..data import Points, hash_points
from ..ecg.scores import INTERVAL, RESAMPLES, decide, f_beta, g_beta, interval, macro_auc, thresholds
from ..errors import BadData
from ..terms import ALONE, MORE, TUNED
from .signal_classifier import RECIPE, Classifier, Recipe, finetune, known, train

Scores = dict[str, dict[str, float]]
"""Of `auc`, `f2` and `g2`, and of the `alone` AUC, the `value` and the ends `low` and `high` of its 90 % interval."""

Score = Callable[[np.ndarray, np.ndarray], float]


class _Reference(NamedTuple):
    """Scores, from how many records in how many steps."""

    scores: Scores
    records: int
    steps: int


_kept: dict[tuple[str, str, int], _Reference] = {}


@dataclass(frozen=True, eq=False)
class Downstream:
    """Labelled signals (n, leads, L) to train a classifier on, and others to test it on.

    Every score is a mean over the statements that some test records have and others lack. Thresholds of F2 and G2 are the best on the
    training records. Records of unknown labels are left out.

    Args:
        real: The target records that methods see.
        test: Target records that no method sees.
        names: Of the statements, in the order of their indices.
        seed: Of every training, so that classifiers begin alike.
        source: Source records with labels of the same statements, for a classifier that is tuned on the real ones.
        more: Gives so many more real target records, that no method sees, or all that there are.
        recipe: Of every training.
        alone: Train a classifier on the samples alone, too, for its AUC on the real test records.

    Raises:
        BadData: Labels are missing or of other statements, or no statement can be tested.

    References:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, section 4.2, table 3.
        Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701
        (recipe and scores).
    """

    real: Points
    test: Points
    names: tuple[str, ...]
    seed: int = 0
    source: Points | None = None
    more: Callable[[int], Points] | None = None
    recipe: Recipe = RECIPE
    alone: bool = False

    def __post_init__(self) -> None:
        for part in ("real", "test"):
            object.__setattr__(self, part, known(getattr(self, part), len(self.names)))
        if not self.tested.any():
            raise BadData("a classifier is tested on statements that some test records have and others lack, got none; give more test records")

    @cached_property
    def tested(self) -> np.ndarray:
        """Which statements are tested, (K,)."""
        share = _labels(self.test).numpy().mean(0)
        return (share > 0) & (share < 1)

    def shorter(self, times: int) -> Self:
        """The same with so many times fewer steps."""
        return replace(self, recipe=replace(self.recipe, most_steps=max(1, self.recipe.most_steps // times)))

    def scores(self, samples: Points) -> Scores:
        """Scores of a classifier that is trained on the real records and these, and of one that is trained on these alone, where it is asked for."""
        records = self._with(samples)
        scores = self._examined(train(records, len(self.names), self.seed, self.recipe), records)
        if self.alone:
            made = known(samples, len(self.names))
            scores["alone"] = self._examined(train(made, len(self.names), self.seed, self.recipe), made)["auc"]
        return scores

    def references(self, n: int) -> dict[str, Scores]:
        """Scores without samples: of the real records alone; of a classifier that is trained on the source and tuned on them; and with `n` more
        real records in the samples' place, the ceiling. The last two are there where their records are. Each is trained once in a process.
        """
        return {name: found.scores for name, found in self._references(n).items()}

    def report(self, n: int) -> dict[str, Any]:
        """The protocol and the references of the scores of `n` samples, for records."""
        r, total = self.recipe, self.real.n + n
        protocol = {
            "real": self.real.n,
            "synthetic": n,
            "test": self.test.n,
            "steps": r.steps(total, r.epochs),
            "batch": min(total, r.batch),
            "crop": r.window(self.test.x.shape[-1]),
            "aggregate": r.aggregate,
            "standardised_by": "one mean and deviation of the training records",
            "thresholds": "best G2 on the training records, real and synthetic",
            "bootstrap": {"of": "test records", "resamples": RESAMPLES, "interval": list(INTERVAL)},
            "left_out": [name for name, tested in zip(self.names, self.tested, strict=True) if not tested],
            "trained": {name: {"records": found.records, "steps": found.steps} for name, found in self._references(n).items()},
        }
        return {"protocol": protocol, "references": self.references(n)}

    def _references(self, n: int) -> dict[str, _Reference]:
        found = {ALONE: self._once(ALONE, 0, self._alone)}
        if self.source is not None:
            found[TUNED] = self._once(TUNED, 0, partial(self._tuned, self.source))
        if self.more is not None:
            found[MORE] = self._once(MORE, n, partial(self._more, self.more, n))
        return found

    def _alone(self) -> _Reference:
        made = train(self.real, len(self.names), self.seed, self.recipe)
        return _Reference(self._examined(made, self.real), self.real.n, self.recipe.steps(self.real.n, self.recipe.epochs))

    def _tuned(self, source: Points) -> _Reference:
        r, first = self.recipe, train(source, len(self.names), self.seed, self.recipe)
        tuned = finetune(first, self.real, len(self.names), self.seed)
        steps = r.steps(known(source, len(self.names)).n, r.epochs) + 2 * r.steps(self.real.n, r.tuning)
        return _Reference(self._examined(tuned, self.real), source.n + self.real.n, steps)

    def _more(self, more: Callable[[int], Points], n: int) -> _Reference:
        held_out = more(n)
        total = self.real.n + held_out.n
        return _Reference(self.scores(held_out), total, self.recipe.steps(total, self.recipe.epochs))

    def _once(self, name: str, n: int, make: Callable[[], _Reference]) -> _Reference:
        """What `make` gives, kept for equal records and settings."""
        if (key := (self._digest, name, n)) not in _kept:
            _kept[key] = make()
        return _kept[key]

    @cached_property
    def _digest(self) -> str:
        pools = [hash_points(pool) for pool in (self.real, self.test, self.source) if pool is not None]
        return repr((pools, self.seed, self.names, self.recipe))

    def _with(self, samples: Points) -> Points:
        """The real records and samples."""
        more = known(samples, len(self.names))
        return Points(torch.cat([self.real.x, more.x]), torch.cat([_labels(self.real), _labels(more)]))

    def _examined(self, classifier: Classifier, records: Points) -> Scores:
        """Scores on the test records, with thresholds from the records of training."""
        (y_train, p_train), (y, p) = (self._said(classifier, pool) for pool in (records, self.test))
        at = thresholds(y_train, p_train)
        of: dict[str, Score] = {"auc": macro_auc, "f2": lambda y, p: f_beta(y, decide(p, at)), "g2": lambda y, p: g_beta(y, decide(p, at))}
        return {name: dict(zip(("value", "low", "high"), (score(y, p), *_interval(score, y, p)), strict=True)) for name, score in of.items()}

    def _said(self, classifier: Classifier, pool: Points) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities of the statements that are tested."""
        return _labels(pool).numpy()[:, self.tested], classifier.probabilities(pool.x).numpy()[:, self.tested]


def _labels(pool: Points) -> Tensor:
    assert pool.y is not None
    return pool.y


def _interval(score: Score, y: np.ndarray, p: np.ndarray) -> tuple[float, float]:
    """The bootstrap interval; unknown where statements are so rare that resamples lack some."""
    try:
        return interval(score, y, p)
    except BadData:
        return math.nan, math.nan
