"""Electrocardiograms of people: two folders of recordings, and PTB-XL to Brugada-HUCA.

References:
    Wagner et al., PTB-XL, a Large Publicly Available Electrocardiography Dataset, 2020, Scientific Data 7.
    Liu et al., An Open Access Database for Evaluating the Algorithms of Electrocardiogram Rhythm and Morphology Abnormality Detection,
    2018, Journal of Medical Imaging and Health Informatics 8(7) (CPSC2018, the set of the ICBEB2018 challenge).
    Costa Cortez, Garcia Iglesias, Brugada-HUCA: 12-Lead ECG Recordings for the Study of Brugada Syndrome, 2026, PhysioNet.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data import Data, Layout, Points, Task
from ..ecg.cache import prepared
from ..ecg.folders import read_folder
from ..ecg.folds import hash_of, published, strata, stratify
from ..ecg.leads import EIGHT, EIGHT_OF_LIMBS, TWELVE, canonical
from ..ecg.records import Facts, Preparation, Recordings
from ..ecg.signals import Resampler, Short, fit_scaler, windows
from ..ecg.statements import NINE, STATEMENTS, multi_hot, statement
from ..errors import BadData, BadPlan, listed
from .downstream import Downstream
from .files import LEAST_TEST
from .measures import measures
from .places import place
from .signal_classifier import RECIPE
from .signal_features import signal_features

FOLDS = 10
BAND = (0.5, 40.0)
"""In Hz: what the filtered excerpt of PTB-XL holds."""
FILTERED = "ptbxl_filtered_1785.npz"
WINDOW, RATE = 256, 100.0
"""Samples of a window of `brugada`, and its rate in Hz."""
FREQUENT = 20
"""Records that a statement needs for a classifier to learn it."""


class Set(NamedTuple):
    """Windows (n, leads, samples) of recordings, what is known of each, and lines on what was left out."""

    x: Tensor
    facts: tuple[Facts, ...]
    notes: tuple[str, ...]

    def take(self, ids: Sequence[str] | set[str]) -> "Set":
        """Those with these names."""
        rows = [k for k, one in enumerate(self.facts) if one.id in ids]
        return Set(self.x[rows], tuple(self.facts[k] for k in rows), self.notes)


def folders(
    n_target: int = 50,
    seed: int = 0,
    *,
    source: str,
    target: str,
    seconds: float = 10.0,
    rate: float = 100.0,
    leads: list[str] | None = None,
    classes: Literal["nine", "all"] = "nine",
    leave_out: list[str] | None = None,
    band: list[float] | None = None,
    scale: Literal["lead", "all"] = "lead",
    short: Short = "drop",
    resampler: Resampler = "poly",
    fold: int = 1,
    whole: bool = False,
    swapped: bool = False,
    sigmoid: bool = False,
    conditional: bool = True,
    classifier_steps: int = RECIPE.most_steps,
    skip_broken: bool = False,
    cache: str | None = None,
) -> Task:
    """Two folders of recordings with SCP statements, such as PTB-XL and CPSC2018 (ICBEB2018).

    Of the source, the training part of its published split is used, where it has one. The target is cut into ten folds with equal shares
    of statements, ages and sexes, no patient in two: methods see records of one, the next is left for validation, the others are the test.

    Args:
        n_target: Records of that fold that methods see.
        seed: Of the choice of these; the folds are the same at every seed.
        source, target: Folders of recordings.
        seconds: Length of the windows, the first of each recording.
        rate: In Hz.
        leads: Which, in which order; by default I, V1 to V6 and aVF, from which the others follow.
        classes: Labels: the nine classes of CPSC2018, or all 71 statements of PTB-XL.
        leave_out: Statements that are no classes here; recordings with no other are left out.
        band: Lowest and highest frequency in Hz to keep; by default signals are not filtered.
        scale: Standardise each lead by itself, or all by one mean and deviation, fitted on the source.
        short: Recordings shorter than the window are left out, "drop", or mirrored at both ends, "pad".
        resampler: See `signals.resample`; "zoom" emulates published pipelines.
        fold: The target's fold that methods see, 1 to 10; the next one is left for validation.
        whole: Methods see all of that fold, a tenth of the records, whatever `n_target` says.
        swapped: As the published code has it: methods see fold 10, 9 is left for validation.
        sigmoid: Features of the Fréchet distance pass through a sigmoid, as in the published code.
        conditional: Give the statements to the methods as labels, or keep them back.
        classifier_steps: At most so many steps for each classifier; 10,000 leave 17,000 records the published 50 epochs.
        skip_broken: Leave out recordings that cannot be read.
        cache: A folder to keep the windows in.

    Raises:
        BadData: Folders that cannot be used, or too few records.
        BadPlan: Options that do not fit.
    """
    if not 1 <= fold <= FOLDS:
        raise BadPlan(f"fold is one of the target's {FOLDS}, 1 to {FOLDS}, got {fold}")
    if band is not None and len(band) != 2:
        raise BadPlan(f"band is the lowest and the highest frequency in Hz, such as [0.5, 40.0], got {band}")
    names = tuple(canonical(name) for name in leads or EIGHT)
    kept = _classes(classes, leave_out or [])
    how = Preparation(rate, seconds, names, short, resampler, None if band is None else (band[0], band[1]), skip_broken)
    a, b = (_read(path, how, cache, kept) for path in (source, target))
    split = _split(b)
    pool = a.take(_training(a))
    seen, left = (10, 9) if swapped else (fold, fold % FOLDS + 1)
    few, held_out = _parts(b, split, seen, left, None if whole else n_target, seed, target)
    points = [Points(part.x, torch.from_numpy(multi_hot([one.statements for one in part.facts], kept))) for part in (pool, few, held_out)]
    shown = [part if conditional else Points(part.x) for part in points]
    transform = fit_scaler(pool.x, scale)
    config = {
        "world": "folders",
        "source": source,
        "target": target,
        "n_target": few.x.shape[0],
        "seed": seed,
        "conditional": conditional,
        "features": f"those of a classifier of {len(kept)} statements, trained on the source's training records",
        "protocol": {
            "split": hash_of(split),
            "fold": seen,
            "seconds": seconds,
            "rate": rate,
            "leads": list(names),
            "band": band,
            "scale": scale,
            "mean": _rounded(transform.shift),
            "deviation": _rounded(transform.scale),
            "short": short,
            "resampler": resampler,
            "features": f"128 before the ReLU{', through a sigmoid' * sigmoid}",
            "source records": pool.x.shape[0],
            "test records": held_out.x.shape[0],
        },
    }
    layout = Layout(columns=names, labels=kept if conditional else None, rate=rate, unit="mV")
    features = signal_features(lambda: points[0], len(kept), ("folders", source, how, kept), sigmoid=sigmoid)
    recipe = replace(RECIPE, most_steps=classifier_steps)
    worth = Downstream(points[1], points[2], kept, rng.split(seed, "downstream"), source=points[0], recipe=recipe) if conditional else None
    exams: dict[str, Any] = {"features": features, "measures": measures(layout, points[1].x), "downstream": worth}
    told = [f"{part}: {line}" for part, read in ((f"source {source}", a), (f"target {target}", b)) for line in read.notes]
    account = (*told, *_without_source(points[0], points[2], kept))
    return Task("ecg", Data(source=shown[0], target=shown[1]), shown[2], transform, layout=layout, config=config, account=account, split=split, **exams)


def look(source: str, target: str, rate: float = 100.0, skip_broken: bool = False) -> list[str]:
    """What lies in two folders, a line or more each, without a look at a signal.

    Raises:
        BadData: Folders that cannot be used, or recordings that are missing.
    """
    lines = []
    for part, path in (("source", source), ("target", target)):
        found = _folder(path, rate, skip_broken)
        labelled = sum(one.statements is not None for one in found.facts)
        lines += [f"{part} {path}: {found.kind}, {len(found):,} recordings, {labelled:,} with statements", *(f"{part} {path}: {line}" for line in found.notes)]
    return lines


def brugada(n_target: int = 30, seed: int = 0, *, conditional: bool = True, folder: str | None = None) -> Task:
    """From PTB-XL, where nobody looked for it, to people with and without the Brugada syndrome.

    Features are those of a classifier of statements, trained on 500 labelled records of the source.

    Windows of 2.56 s of eight leads at 100 Hz, filtered from 0.5 to 40 Hz, each lead of each record with mean 0 and deviation 1 over 10 s.
    The source's three windows a record have no labels; the target's label, one window a person, says whether the syndrome was found.

    Args:
        n_target: People that methods see, with both labels in the shares of all; the others are held out.
        seed: Of the draw.
        conditional: Give the label to the methods, or keep it back.
        folder: Holds `ptbxl/`, `ptbxl_filtered_1785.npz` and `brugada/`; `$DIFFGRAFT_DATA` by default.
    """
    home = place(folder, "", ("ptbxl", FILTERED, "brugada"), "excerpts of PTB-XL 1.0.3 and of Brugada-HUCA")
    source, target = _unlabelled(home), _people(home)
    if not 4 <= n_target <= target.n - LEAST_TEST:
        raise BadData(f"Brugada-HUCA: {target.n} people are there, of which 4 to {target.n - LEAST_TEST} can be given to methods, got n_target = {n_target}")
    few, rest = _drawn(target, n_target, seed)
    shown = [target.take(rows) if conditional else Points(target.x[rows]) for rows in (few, rest)]
    layout = Layout(columns=EIGHT_OF_LIMBS, labels=("other", "Brugada") if conditional else None, rate=RATE, unit="standard deviations")
    about = {
        "split": "by label and seed",
        "window": "the first 2.56 s",
        "rate": RATE,
        "leads": list(EIGHT_OF_LIMBS),
        "band": list(BAND),
        "scale": "each lead of each record",
        "features": "128 before the ReLU",
        "source windows": source.shape[0],
        "test records": shown[1].n,
    }
    trained = f"those of a classifier of {len(_frequent(home))} frequent statements, trained on the source's labelled records"
    config = {"world": "brugada", "n_target": n_target, "seed": seed, "conditional": conditional, "features": trained, "protocol": about}
    account = tuple(f"{part}: {line}" for part in ("ptbxl", "brugada") for line in _windows(str(home / part), _filtered(), None).notes)
    features = signal_features(lambda: _statements(home), len(_frequent(home)), ("brugada", str(home)))
    worth = Downstream(shown[0], shown[1], layout.labels, rng.split(seed, "downstream"), alone=True) if layout.labels else None
    exams: dict[str, Any] = {"features": features, "measures": measures(layout, shown[0].x), "downstream": worth}
    return Task("ecg", Data(source=Points(source), target=shown[0]), shown[1], layout=layout, config=config, account=account, **exams)


def _classes(which: str, leave_out: list[str]) -> tuple[str, ...]:
    """Statements that are labels."""
    without = {statement(name) for name in leave_out}
    known = NINE if which == "nine" else STATEMENTS
    if odd := without - set(known):
        raise BadPlan(f"leave_out names {listed(sorted(odd))}, which is none of the {len(known)} classes; leave out some of {listed(known, 9)}")
    return tuple(name for name in known if name not in without)


def _read(path: str, how: Preparation, cache: str | None, classes: tuple[str, ...]) -> Set:
    """Windows of a folder's labelled recordings that have one of the classes."""
    found = _windows(path, how, cache)
    bare = [one.id for one in found.facts if one.statements is None]
    if len(bare) == len(found.facts):
        raise BadData(f"{path}: none of {len(found.facts):,} recordings has statements; give labelled ones, or a task 'files'")
    kept = found.take({one.id for one in found.facts if {statement(name) for name in one.statements or ()} & set(classes)})
    if not kept.facts:
        raise BadData(f"{path}: none of {len(found.facts):,} recordings has one of the classes {listed(classes, 9)}; give other recordings or classes")
    left = len(found.facts) - len(kept.facts) - len(bare)
    told = [f"{left:,} recordings with none of the classes left out"] * bool(left)
    told += [f"{len(bare):,} recordings without statements left out: {listed(bare, 3)}"] * bool(bare)
    return kept._replace(notes=(*found.notes, *told))


@lru_cache(4)
def _windows(path: str, how: Preparation, cache: str | None) -> Set:
    """All windows of a folder; files are read once in a process, and once in all where a cache is named."""
    recordings = _folder(path, how.rate, how.skip_broken)
    x, kept, notes = prepared(recordings, how, None if cache is None else Path(cache))
    return Set(torch.from_numpy(x), tuple(recordings.facts[k] for k in kept), (*recordings.notes, *notes))


def _folder(path: str, rate: float, skip_broken: bool) -> Recordings:
    if not Path(path).is_dir():
        raise BadData(f"no such folder of recordings: {path}; give one in the layout of PTB-XL, CPSC2018 or WFDB")
    return read_folder(Path(path), rate, skip_broken)


def _without_source(source: Points, test: Points, names: tuple[str, ...]) -> tuple[str, ...]:
    """A line on classes that the target has and the source lacks."""
    assert source.y is not None and test.y is not None
    lacking = [name for name, known, wanted in zip(names, (source.y > 0).any(0), (test.y > 0).any(0), strict=True) if wanted and not known]
    return (f"the source has no record with {listed(lacking)}: methods take it without a label there; leave_out leaves such records out",) if lacking else ()


def _rounded(a: Tensor) -> list[float]:
    return [round(value, 5) for value in a.flatten().tolist()]


def _training(found: Set) -> set[str]:
    """The training part of a published split, or everything where there is none."""
    if any(one.fold is None for one in found.facts):
        return {one.id for one in found.facts}
    parts = published(found.facts)
    return {name for name, part in parts.items() if part == "train"}


def _split(found: Set) -> dict[str, int]:
    """The fold of each recording, the same at every seed."""
    patients = [one.patient for one in found.facts]
    return stratify([one.id for one in found.facts], strata(found.facts), min(FOLDS, len(set(patients))), patients=patients)


def _parts(found: Set, split: dict[str, int], fold: int, left: int, n_target: int | None, seed: int, path: str) -> tuple[Set, Set]:
    """The records that methods see, of one fold, and those of the test, of all others but the one that is left for validation."""
    mine = sorted(name for name, k in split.items() if k == fold)
    test = {name for name, k in split.items() if k not in (fold, left)}
    if len(mine) < (n_target or 1) or len(test) < LEAST_TEST:
        raise BadData(
            f"{path}: fold {fold} holds {len(mine)} of {len(split)} records and the test {len(test)}, "
            f"expected at least n_target = {n_target or 1} and {LEAST_TEST}; lower n_target, or give more records"
        )
    order = torch.randperm(len(mine), generator=rng.generator(seed, "target"))[:n_target]
    return found.take({mine[k] for k in order.tolist()}), found.take(test)


def _drawn(people: Points, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of n people, each label in its share, and of all others."""
    assert people.y is not None
    order = torch.randperm(people.n, generator=rng.generator(seed, "target"))
    ill = order[people.y[order] == 1]
    well = order[people.y[order] == 0]
    n_ill = max(2, round(n * len(ill) / people.n))
    few = torch.cat([ill[:n_ill], well[: n - n_ill]])
    return few, torch.cat([ill[n_ill:], well[n - n_ill :]])


@lru_cache(1)
def _unlabelled(home: Path) -> Tensor:
    """Windows (m, 8, 256) of 2,285 records of PTB-XL."""
    with np.load(home / FILTERED, allow_pickle=False) as file:
        filtered = (file["X"].astype(np.float32) / float(file["scale"])).transpose(0, 2, 1)[:, [TWELVE.index(name) for name in EIGHT_OF_LIMBS]]
    both = np.concatenate([_standardised(_windows(str(home / "ptbxl"), _filtered(), None).x.numpy()), filtered])
    return torch.from_numpy(np.ascontiguousarray(windows(both, WINDOW).swapaxes(1, 2)).reshape(-1, len(EIGHT_OF_LIMBS), WINDOW))


def _statements(home: Path) -> Points:
    """The first window of the labelled records of PTB-XL, with their frequent statements as rows."""
    found = _windows(str(home / "ptbxl"), _filtered(), None)
    return Points(_first(found.x), torch.from_numpy(multi_hot([one.statements for one in found.facts], _frequent(home))))


def _frequent(home: Path) -> tuple[str, ...]:
    """Statements of these records that a classifier can learn from them."""
    counts = Counter(name for one in _windows(str(home / "ptbxl"), _filtered(), None).facts for name in one.statements or ())
    return tuple(name for name in STATEMENTS if counts[name] >= FREQUENT)


@lru_cache(1)
def _people(home: Path) -> Points:
    """The first window of each person, (n, 8, 256), and whether the syndrome was found."""
    found = _windows(str(home / "brugada"), _filtered(), None)
    y = torch.tensor([int(one.extra["brugada"] not in ("", "0")) for one in found.facts])
    return Points(_first(found.x), y)


def _first(x: Tensor) -> Tensor:
    """The first window of each standardised record."""
    return torch.from_numpy(np.ascontiguousarray(_standardised(x.numpy())[..., :WINDOW]))


def _filtered() -> Preparation:
    return Preparation(leads=EIGHT_OF_LIMBS, band=BAND)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Each lead of each record with mean 0 and deviation 1."""
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
