"""Folders of ECG recordings as samples (n, leads, samples) in mV, with their statements or a column of metadata as labels."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Layout
from ..ecg.folders import read_folder
from ..ecg.leads import canonical, is_lead
from ..ecg.records import Account, Facts, Preparation, Recordings, prepare
from ..ecg.statements import STATEMENTS, multi_hot
from ..errors import BadData, listed, nearest
from .ask import Ask, Found
from .labels import class_names, encode, in_order
from .spool import Spool

DEFAULT_COLUMN = "brugada"
"""The column of metadata that is the label where none is named."""


def read_recordings(path: Path, ask: Ask) -> Found:
    """The first window of each recording of a folder, float32 in mV: twelve leads in the order of WFDB files, 10 s at 100 Hz, or as is known.

    Labels are rows of statements, the 71 of PTB-XL or the nine of CPSC2018, or those known from before; or the classes of a
    column of `metadata.csv`. Where nothing else was asked for and no recording is as long as 10 s, windows are as long as all but the shortest twentieth.

    Raises:
        BadData: A folder or table that cannot be used, no recording left, options that do not fit.
    """
    if ask.size is not None:
        raise BadData("--size is for images, this is a folder of ECG recordings; drop --size")
    how = _preparation(ask)
    recordings = read_folder(path, how.rate, how.skip_broken, _columns(ask))
    column = _column(recordings, ask)
    x, kept, account = _windows(recordings, how, shorter=not (ask.seconds or ask.known.seconds), known=ask.like is not None)
    if len(kept) == 1 and (told := (*recordings.notes, *account)):
        raise BadData(f"expected at least 2 recordings that can be used, got 1: {'; '.join(told)}; mend those that are left out, or add others")
    facts = [recordings.facts[k] for k in kept]
    y, layout, warnings = _statements(facts, recordings, ask) if column is None else _classes(facts, column, ask)
    known = ask.known.columns
    columns = known if known and all(is_lead(name) for name in known) else how.leads
    layout = replace(layout, columns=columns, rate=how.rate, unit="mV", seconds=x.shape[-1] / how.rate, band=how.band)
    if column is None and ask.label_column is not None:
        warnings = (*warnings, f"it has no metadata.csv with a column '{ask.label_column}'; its labels are the SCP statements of its recordings")
    return Found(x, y, layout, (*recordings.notes, *account, *warnings), tuple(one.patient for one in facts))


def _preparation(ask: Ask) -> Preparation:
    """The windows asked for, else those known from before, else the usual ones."""
    known, usual = ask.known, Preparation()
    own = tuple(canonical(name) for name in known.columns) if known.columns and all(is_lead(name) for name in known.columns) else None
    leads = tuple(canonical(name) for name in ask.leads or own or usual.leads)
    if own is not None and leads != own:
        raise BadData(f"--leads {' '.join(leads)}: the data or model that these are read for have {' '.join(own)}; drop --leads, or train a source anew")
    seconds = ask.seconds if ask.seconds is not None else known.seconds or usual.seconds
    band = ask.band if ask.band is not None else known.band
    how = Preparation(known.rate or usual.rate, seconds, leads, band=band, skip_broken=ask.skip_broken)
    _check_as_known(how, ask)
    return how


def _check_as_known(how: Preparation, ask: Ask) -> None:
    """Refuse windows and bands other than those of the data or model that these are read for."""
    known = ask.known
    mend = "drop it, or train a source anew"
    if ask.band is not None and known.band is not None and ask.band != known.band:
        mine, theirs = (f"{low:g} {high:g}" for low, high in (ask.band, known.band))
        raise BadData(f"--band {mine}: the data or model that these are read for have --band {theirs}; {mend}")
    if ask.seconds and known.seconds and how.shape[1] != round(known.seconds * how.rate):
        raise BadData(f"--seconds {ask.seconds:g}: the data or model that these are read for have windows of {known.seconds:g} s; {mend}")


def _windows(recordings: Recordings, how: Preparation, shorter: bool, known: bool) -> tuple[Tensor, list[int], tuple[str, ...]]:
    """Windows (n, leads, samples), which may be `shorter` than asked; whose they are; and a line on each reason to leave some out."""
    account, kept = Account(), []
    with Spool(how.shape) as spool:
        for k, window in prepare(recordings, how, account):
            spool.add(window[None])
            kept.append(k)
        if kept:
            return spool.tensor(), kept, account.lines
    if not account.too_short or not shorter:
        account.check(how, known)
    seconds = int(sorted(account.too_short)[len(account.too_short) // 20] * how.rate) / how.rate
    if seconds * how.rate < 1 or seconds >= how.seconds:
        account.check(how, known)
    x, kept, lines = _windows(recordings, replace(how, seconds=seconds), shorter, known)
    return x, kept, (f"no recording has {how.seconds:g} s, so the first {seconds:g} s of each are taken", *lines)


def _columns(ask: Ask) -> tuple[str, ...]:
    """Columns of metadata that may hold labels: the one named, or else the one known from before, and the usual one."""
    if ask.label_column is not None:
        return (str(ask.label_column),)
    known = ask.known.label_column
    return (known, DEFAULT_COLUMN) if isinstance(known, str) else (DEFAULT_COLUMN,)


def _column(recordings: Recordings, ask: Ask) -> str | None:
    """The column of metadata that holds labels: the one named, the one known from before, or the usual one; None where statements are the labels."""
    columns = list(recordings.facts[0].extra) if recordings.facts else []
    if ask.label_column is None:
        return next((name for name in _columns(ask) if name in columns), None)
    if not columns:
        if recordings.classes:
            return None  # as of PTB-XL beside a target with a column of its own
        raise BadData("--label-column names a column of metadata.csv, which is not there; write one, or drop --label-column")
    if ask.label_column not in columns:
        raise BadData(f"--label-column {ask.label_column}: metadata.csv has no such column; {nearest(str(ask.label_column), columns)}")
    return str(ask.label_column)


def _classes(facts: list[Facts], column: str, ask: Ask) -> tuple[Any, Layout, tuple[str, ...]]:
    """Indices of the classes that a column of metadata names."""
    texts = [(one.extra[column] or "").strip() for one in facts]
    if "" in texts:
        raise BadData(f"metadata.csv has no '{column}' of {facts[texts.index('')].id}, every recording needs its label; fill it, or drop the row")
    distinct = in_order(texts)
    y, labels = encode([distinct.index(text) for text in texts], class_names(distinct, f"column '{column}'"), ask.like)
    return y, Layout(labels=labels, label_column=column), ()


def _statements(facts: list[Facts], recordings: Recordings, ask: Ask) -> tuple[Any, Layout, tuple[str, ...]]:
    """Rows of the statements, a row of -1 where a recording's are not known; no labels where none is known."""
    if all(one.statements is None for one in facts):
        return None, Layout(), ()
    known = ask.known.labels
    if known is not None and (odd := [name for name in known if name not in STATEMENTS]):
        raise BadData(f"the labels known are {listed(known, 3)}, these recordings have SCP statements, of which '{odd[0]}' is none; use data of one kind")
    classes = known or recordings.classes
    y = multi_hot([one.statements for one in facts], classes)
    others = Counter(name for one in facts for name in one.statements or () if name not in classes)
    bare = sum(one.statements is None for one in facts)
    warnings = (
        f"{len(others):,} statements are none of the {len(classes)} classes and are left out: {listed(name for name, _ in others.most_common())}",
        f"{bare:,} of {len(facts):,} recordings have no labels, a row of -1",
    )
    return y, Layout(labels=tuple(classes)), tuple(line for line, told in zip(warnings, (others, bare), strict=True) if told)
