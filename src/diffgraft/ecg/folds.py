"""Splits of recordings that keep a patient on one side and each label's share equal, and a hash that names a split."""

import csv
import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from .. import rng
from ..errors import BadData
from .records import Facts

Part = Literal["train", "validation", "test"]
AGES = (20, 40, 60, 80)
"""Where age groups begin, in years."""
CPSC2018 = Path(__file__).with_name("cpsc2018_folds.csv")
"""Ten folds of CPSC2018's 6,877 training records, `stratify` of their classes; `tools/cpsc2018_folds.py` makes them from its table of labels."""


def published(facts: Sequence[Facts]) -> dict[str, Part]:
    """PTB-XL's own split by its folds: 1 to 8 train, 9 validation, 10 test; no patient is in two.

    Raises:
        BadData: A recording without such a fold.
    """
    if bare := [one.id for one in facts if one.fold not in range(1, 11)]:
        raise BadData(f"{len(bare):,} of {len(facts):,} recordings have no fold from 1 to 10, such as {bare[0]}; split them by folds.stratify")
    parts: dict[int | None, Part] = {9: "validation", 10: "test"}
    return {one.id: parts.get(one.fold, "train") for one in facts}


def known(names: Collection[str]) -> dict[str, int] | None:
    """The folds that belong to recordings of these names: those of CPSC2018 where most of its training records are there, and no others."""
    folds = _cpsc2018()
    return {name: folds[name] for name in sorted(names)} if len(names) > len(folds) // 2 and folds.keys() >= set(names) else None


@cache
def _cpsc2018() -> dict[str, int]:
    with CPSC2018.open(newline="") as file:
        return {row["record"]: int(row["fold"]) for row in csv.DictReader(file)}


def strata(facts: Sequence[Facts]) -> list[tuple[str, ...]]:
    """What is kept in equal shares: statements, sex, and age in groups of 20 years."""
    return [tuple(name for name in (*(one.statements or ()), one.sex, _age_group(one.age)) if name) for one in facts]


def stratify(names: Sequence[str], labels: Sequence[Collection[str]], k: int = 10, seed: int = 0, patients: Sequence[str] | None = None) -> dict[str, int]:
    """Folds 1 to k with equal shares of each label, and of about equal size, by iterative stratification.

    The rarest label that is left is dealt out first: each recording with it goes to the fold that lacks most of this label, of
    equal ones to that which lacks most recordings, of equal ones by chance. All recordings of a patient stay together. The result
    depends on names, labels, patients and seed alone, not on the order of the recordings.

    Args:
        names: One a recording, each once.
        labels: Of each recording.
        k: How many folds.
        seed: Of the chance that breaks ties.
        patients: Whose each recording is; by default each has its own.

    Reference:
        Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", 2011.

    Raises:
        BadData: Lengths differ, a name is there twice, or there are fewer patients than folds.
    """
    patients = names if patients is None else patients
    _check(names, labels, patients, k)
    units = sorted(set(patients), key=lambda patient: rng.split(seed, "order", patient))
    n, counts = _counts(units, labels, patients)
    need, room = np.outer(np.full(k, 1 / k), counts.sum(0)), np.full(k, n.sum() / k)
    place: dict[str, int] = {}
    while len(place) < len(units):
        left = np.array([unit not in place for unit in units])
        label = _rarest(counts[left])
        wanted = left if label is None else left & (counts[:, label] > 0)
        for u in sorted(np.flatnonzero(wanted), key=lambda u: -n[u]):
            fold = _choose(room if label is None else need[:, label], room, rng.split(seed, "fold", units[u]))
            place[units[u]] = fold + 1
            need[fold] -= counts[u]
            room[fold] -= n[u]
    return {name: place[patient] for name, patient in sorted(zip(names, patients, strict=True))}


def hash_of(split: Mapping[str, int | str]) -> str:
    """A hash of which recording is in which part, whatever their order: 16 characters."""
    text = "".join(f"{name}\t{split[name]}\n" for name in sorted(split))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(names: Sequence[str], labels: Sequence[Collection[str]], patients: Sequence[str], k: int) -> None:
    if not len(names) == len(labels) == len(patients):
        raise BadData(f"expected a name, labels and a patient each recording, got {len(names)}, {len(labels)} and {len(patients)}; give as many of each")
    if len(set(names)) < len(names):
        raise BadData(f"expected distinct names, got {len(names) - len(set(names))} twice; name each recording once")
    if not 2 <= k <= len(set(patients)):
        raise BadData(f"expected 2 to {len(set(patients))} folds, one patient each at least, got {k}; take fewer")


def _counts(units: Sequence[str], labels: Sequence[Collection[str]], patients: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """How many recordings each patient has (m,), and how many with each label (m, K)."""
    row = {unit: u for u, unit in enumerate(units)}
    column = {name: c for c, name in enumerate(sorted({name for own in labels for name in own}))}
    n, counts = np.zeros(len(units)), np.zeros((len(units), len(column)))
    for own, patient in zip(labels, patients, strict=True):
        n[row[patient]] += 1
        counts[row[patient], [column[name] for name in set(own)]] += 1
    return n, counts


def _rarest(counts: np.ndarray) -> int | None:
    """The label that the fewest recordings have, of those that some have."""
    totals = counts.sum(0)
    return int(np.where(totals > 0, totals, np.inf).argmin()) if totals.any() else None


def _choose(need: np.ndarray, room: np.ndarray, chance: int) -> int:
    """The fold that lacks most, of equal ones that with most room, of equal ones by chance."""
    need, room = need.round(9), room.round(9)  # shares of counts are equal but for rounding
    best = np.flatnonzero(need == need.max())
    best = best[room[best] == room[best].max()]
    return int(best[chance % len(best)])


def _age_group(age: float | None) -> str | None:
    return None if age is None else f"age from {max((0, *AGES), key=lambda least: least if age >= least else -1)}"
