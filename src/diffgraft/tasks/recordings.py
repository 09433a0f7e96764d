"""Electrocardiograms of people: two folders of recordings, such as PTB-XL and CPSC2018.

References:
    Wagner et al., PTB-XL, a Large Publicly Available Electrocardiography Dataset, 2020, Scientific Data 7.
    Liu et al., An Open Access Database for Evaluating the Algorithms of Electrocardiogram Rhythm and Morphology Abnormality Detection,
    2018, Journal of Medical Imaging and Health Informatics 8(7) (CPSC2018, the set of the ICBEB2018 challenge).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Layout, Points, Task
from ..ecg.cache import prepared
from ..ecg.folders import read_folder
from ..ecg.folds import hash_of, known, published, strata, stratify
from ..ecg.leads import EIGHT, canonical
from ..ecg.records import Facts, Preparation, Recordings, band_of
from ..ecg.signals import Resampler, Short, fit_scaler
from ..ecg.statements import NINE, STATEMENTS, multi_hot, statement
from ..errors import BadData, BadPlan, listed
from .downstream import Downstream
from .files import LEAST_TEST
from .measures import measures
from .protocol import windowing
from .signal_classifier import RECIPE
from .signal_features import layer, signal_features

FOLDS = 10


class Set(NamedTuple):
    """Windows (n, leads, samples) of recordings, what is known of each, lines on what was left out, and what is known of all in the folder.

    Those without a window are split, too, so that the split depends on the folder alone and not on how it is read.
    """

    x: Tensor
    facts: tuple[Facts, ...]
    notes: tuple[str, ...]
    everyone: tuple[Facts, ...]

    def take(self, ids: Sequence[str] | set[str]) -> "Set":
        """Those with these names."""
        rows = [k for k, one in enumerate(self.facts) if one.id in ids]
        return self._replace(x=self.x[rows], facts=tuple(self.facts[k] for k in rows))


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
    of statements, ages and sexes, no patient in two; those of CPSC2018 come with the package. Methods see records of one, the next is left for
    validation, the others are the test.

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
    kept, (seen, left) = _classes(classes, leave_out or []), _seen(fold, swapped)
    names = tuple(canonical(name) for name in leads or EIGHT)
    how = Preparation(rate, seconds, names, short, resampler, band_of(band), skip_broken)
    a, b = _read("source", source, how, cache, kept), _read("target", target, how, cache, kept)
    split = _split(b.everyone)
    pool = a.take(_training(a))
    few, held_out = _parts(b, split, seen, left, None if whole else n_target, seed, target)
    points = [Points(part.x, torch.from_numpy(multi_hot([one.statements for one in part.facts], kept))) for part in (pool, few, held_out)]
    shown = [part if conditional else Points(part.x) for part in points]
    transform = fit_scaler(pool.x, scale)
    layout = Layout(columns=names, labels=kept if conditional else None, rate=rate, unit="mV", seconds=seconds, band=how.band)
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
            **windowing(layout, scale),
            "mean": _rounded(transform.shift),
            "deviation": _rounded(transform.scale),
            "short": short,
            "resampler": resampler,
            "features": layer(sigmoid),
            "source records": pool.x.shape[0],
            "test records": held_out.x.shape[0],
        },
    }
    features = signal_features(lambda: points[0], len(kept), ("folders", source, how, kept), sigmoid=sigmoid)
    recipe = replace(RECIPE, most_steps=classifier_steps)
    worth = Downstream(points[1], points[2], kept, rng.split(seed, "downstream"), source=points[0], recipe=recipe) if conditional else None
    exams: dict[str, Any] = {"features": features, "measures": measures(layout, points[1].x), "downstream": worth}
    account = (*a.notes, *b.notes, *_without_source(points[0], points[2], kept))
    data = Data(source=shown[0], target=shown[1], owners=[one.patient for one in few.facts])
    return Task("ecg", data, shown[2], transform, layout=layout, config=config, account=account, split=split, **exams)


def look(**settings: Any) -> tuple[list[str], bool]:
    """What lies in the two folders of a task `folders` with these settings, a line or more each, and whether it is enough, without a look at a signal.

    Raises:
        BadData: Folders that cannot be used, or recordings that are missing.
        BadPlan: Options that do not fit.
    """
    asked = signature(folders).bind(**settings)
    asked.apply_defaults()
    s = SimpleNamespace(**asked.arguments)
    kept, (seen, left) = _classes(s.classes, s.leave_out or []), _seen(s.fold, s.swapped)
    Preparation(s.rate, s.seconds, tuple(s.leads or EIGHT), band=band_of(s.band))
    lines, enough = [], True
    for part, path in (("source", s.source), ("target", s.target)):
        found = _folder(path, s.rate, s.skip_broken)
        labelled = sum(one.statements is not None for one in found.facts)
        lines += [f"{part} {path}: {found.kind}, {len(found):,} recordings, {labelled:,} with statements", *(f"{part} {path}: {line}" for line in found.notes)]
        try:
            mine = _of_classes(path, found.facts, kept)
            if part == "target":
                _folds(mine, _split(found.facts), seen, left, None if s.whole else s.n_target, path)
        except BadData as error:
            lines.append(f"not enough for the run: {error}")
            enough = False
    return lines, enough


def _seen(fold: int, swapped: bool) -> tuple[int, int]:
    """The target's fold that methods see, and the one that is left for validation."""
    if not 1 <= fold <= FOLDS:
        raise BadPlan(f"fold is one of the target's {FOLDS}, 1 to {FOLDS}, got {fold}")
    return (10, 9) if swapped else (fold, fold % FOLDS + 1)


def _classes(which: str, leave_out: list[str]) -> tuple[str, ...]:
    """Statements that are labels."""
    without = {statement(name) for name in leave_out}
    known = NINE if which == "nine" else STATEMENTS
    if odd := without - set(known):
        raise BadPlan(f"leave_out names {listed(sorted(odd))}, which is none of the {len(known)} classes; leave out some of {listed(known, 9)}")
    return tuple(name for name in known if name not in without)


def _read(part: str, path: str, how: Preparation, cache: str | None, classes: tuple[str, ...]) -> Set:
    """Windows of a folder's labelled recordings that have one of the classes; notes say of which part of the task they are."""
    found = windows_of(path, how, cache)
    bare = [one.id for one in found.facts if one.statements is None]
    kept = found.take({one.id for one in _of_classes(path, found.facts, classes)})
    left = len(found.facts) - len(kept.facts) - len(bare)
    told = [f"{left:,} recordings with none of the classes left out"] * bool(left)
    told += [f"{len(bare):,} recordings without statements left out: {listed(bare, 3)}"] * bool(bare)
    return kept._replace(notes=tuple(f"{part} {path}: {line}" for line in (*found.notes, *told)))


def _of_classes(path: str, facts: Sequence[Facts], classes: tuple[str, ...]) -> list[Facts]:
    """Those recordings of a folder that have one of the classes; some do, or it cannot be used."""
    if all(one.statements is None for one in facts):
        raise BadData(f"{path}: none of {len(facts):,} recordings has statements; give labelled ones, or a task 'files'")
    mine = [one for one in facts if {statement(name) for name in one.statements or ()} & set(classes)]
    if not mine:
        raise BadData(f"{path}: none of {len(facts):,} recordings has one of the classes {listed(classes, 9)}; give other recordings or classes")
    return mine


@lru_cache(4)
def windows_of(path: str, how: Preparation, cache: str | None) -> Set:
    """All windows of a folder; files are read once in a process, and once in all where a cache is named."""
    recordings = _folder(path, how.rate, how.skip_broken)
    x, kept, notes = prepared(recordings, how, None if cache is None else Path(cache))
    return Set(torch.from_numpy(x), tuple(recordings.facts[k] for k in kept), (*recordings.notes, *notes), recordings.facts)


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


def _split(facts: Sequence[Facts]) -> dict[str, int]:
    """The fold of each labelled recording, the same at every seed and for every window, and of CPSC2018 in each of its layouts."""
    labelled = [one for one in facts if one.statements is not None]
    if (folds := known([one.id for one in labelled])) is not None:
        return folds
    patients = [one.patient for one in labelled]
    return stratify([one.id for one in labelled], strata(labelled), min(FOLDS, len(set(patients))), patients=patients)


def _parts(found: Set, split: dict[str, int], fold: int, left: int, n_target: int | None, seed: int, path: str) -> tuple[Set, Set]:
    """The records that methods see, of one fold, and those of the test, of all others but the one that is left for validation."""
    mine, test = _folds(found.facts, split, fold, left, n_target, path)
    order = torch.randperm(len(mine), generator=rng.generator(seed, "target"))[:n_target]
    return found.take({mine[k] for k in order.tolist()}), found.take(test)


def _folds(facts: Sequence[Facts], split: dict[str, int], fold: int, left: int, n_target: int | None, path: str) -> tuple[list[str], set[str]]:
    """The names of the records that `_parts` chooses from, and of those of the test; enough of both, or the folder cannot be used."""
    mine = sorted(one.id for one in facts if split[one.id] == fold)
    test = {one.id for one in facts if split[one.id] not in (fold, left)}
    if len(mine) < (n_target or 1) or len(test) < LEAST_TEST:
        raise BadData(
            f"{path}: fold {fold} holds {len(mine)} of {len(facts)} records and the test {len(test)}, "
            f"expected at least n_target = {n_target or 1} and {LEAST_TEST}; lower n_target, or give more records"
        )
    return mine, test
