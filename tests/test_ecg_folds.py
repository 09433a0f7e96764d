"""Folds: equal shares of each label, patients on one side, and nothing but names and a seed decides."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from diffgraft.ecg.folds import hash_of, known, published, strata, stratify
from diffgraft.ecg.records import Facts
from diffgraft.errors import BadData
from diffgraft.tasks.recordings import _split

NAMES = [f"A{k:04}" for k in range(400)]


def random_labels(n, seed=0):
    """Labels of unequal frequency, none or several each."""
    hits = np.random.default_rng(seed).random((n, 5)) < [0.5, 0.2, 0.1, 0.05, 0.03]
    return [tuple(f"c{k}" for k in np.flatnonzero(row)) for row in hits]


def shares(split, names, labels, k):
    out = {}
    for name, own in zip(names, labels, strict=True):
        for label in own:
            out.setdefault(label, Counter())[split[name]] += 1
    return {label: [count[fold] for fold in range(1, k + 1)] for label, count in out.items()}


def worst(found):
    """The largest difference of a label's count in a fold from an equal share."""
    return max(abs(n - sum(counts) / len(counts)) for counts in found.values() for n in counts)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_one_label_each_is_dealt_out_exactly(k):
    labels = [("rare",) if n % 9 == 0 else ("common",) for n in range(400)]
    split = stratify(NAMES, labels, k)
    sizes = Counter(split.values())
    assert set(split) == set(NAMES) and set(sizes) == set(range(1, k + 1))
    for counts in (*shares(split, NAMES, labels, k).values(), list(sizes.values())):
        assert max(counts) - min(counts) <= 1


def test_many_labels_are_shared_more_equally_than_by_chance():
    labels = random_labels(400)
    found = worst(shares(stratify(NAMES, labels), NAMES, labels, 10))
    by_chance = []
    for seed in range(10):
        folds = np.random.default_rng(seed).permutation(400) % 10 + 1
        by_chance.append(worst(shares(dict(zip(NAMES, folds.tolist(), strict=True)), NAMES, labels, 10)))
    assert found <= 1.5 < min(by_chance)


def test_patients_are_never_in_two_folds():
    patients = [f"p{k // 3}" for k in range(400)]
    labels = random_labels(400)
    split = stratify(NAMES, labels, 5, 0, patients)
    where = {}
    for name, patient in zip(NAMES, patients, strict=True):
        where.setdefault(patient, set()).add(split[name])
    assert {len(folds) for folds in where.values()} == {1}
    assert max(Counter(split.values()).values()) <= 100 and worst(shares(split, NAMES, labels, 5)) <= 6


def test_patients_with_many_records_are_dealt_out_first():
    patients = [*["p"] * 60, *["q"] * 60, *(f"r{k}" for k in range(180))]
    for seed in range(5):
        assert Counter(stratify(NAMES[:300], [("c",)] * 300, 3, seed, patients).values()) == {1: 100, 2: 100, 3: 100}
    patients = [f"s{k // 40}" for k in range(200)] + [f"r{k}" for k in range(200)]
    sizes = Counter(stratify(NAMES, [("c",)] * 400, 5, 0, patients).values())
    assert set(sizes.values()) == {80}


def test_the_order_of_the_records_does_not_matter_and_the_seed_does():
    labels, order = random_labels(400), np.random.default_rng(1).permutation(400)
    split = stratify(NAMES, labels)
    assert stratify([NAMES[k] for k in order], [labels[k] for k in order]) == split
    assert stratify(NAMES, labels, seed=1) != split
    assert hash_of(split) == "efcdea5da2f7cec0"  # of this split, on every machine


def test_the_hash_is_that_of_the_split():
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 2, "b": 1})
    assert len(hash_of({})) == 16


def test_the_published_split_and_what_is_kept_in_equal_shares():
    facts = [Facts(str(k), Path(), "p", k, ("NORM",), age, sex) for k, (age, sex) in enumerate(zip((5, 20, 59.5, 300, None), "mfmf" + "m", strict=True), 7)]
    facts[-1] = facts[-1]._replace(fold=1, sex=None)
    assert published(facts) == {"7": "train", "8": "train", "9": "validation", "10": "test", "11": "train"}
    assert strata(facts) == [
        ("NORM", "m", "age from 0"),
        ("NORM", "f", "age from 20"),
        ("NORM", "m", "age from 40"),
        ("NORM", "f", "age from 80"),
        ("NORM",),
    ]


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda: stratify(["a", "b"], [()]), "expected a name, labels and a patient each recording, got 2, 1 and 2"),
        (lambda: stratify(["a", "a"], [(), ()], 2), "expected distinct names, got 1 twice"),
        (lambda: stratify(["a", "b", "c"], [(), (), ()], 3, patients=["p", "p", "q"]), "expected 2 to 2 folds"),
        (lambda: published([Facts("a", Path(), "p")]), "1 of 1 recordings have no fold from 1 to 10, such as a"),
    ],
)
def test_splits_that_cannot_be_made(do, says):
    with pytest.raises(BadData, match=says):
        do()


CPSC = [f"A{k:04}" for k in range(1, 6878)]


def test_cpsc2018_has_folds_of_its_own():
    split = known(CPSC)
    assert list(split) == CPSC and hash_of(split) == "4b7242723908a5db"
    sizes = Counter(split.values())
    assert sorted(sizes) == list(range(1, 11)) and max(sizes.values()) - min(sizes.values()) < 20
    assert known(CPSC[3000:]) == {name: split[name] for name in CPSC[3000:]}  # some are broken, or have no label
    assert known(CPSC[:3000]) is None and known([*CPSC, "Q0001"]) is None and known([]) is None


def test_the_layouts_of_cpsc2018_are_split_alike():
    """Some tell ages before their signals are read, some do not."""
    original = [Facts(name, Path(), name, statements=("NORM",)) for name in CPSC]
    headers = [Facts(name, Path(), name, statements=("NORM",), age=20.0 + k % 60, sex="female") for k, name in enumerate(CPSC)]
    assert _split(original) == _split(headers) == known(CPSC)
