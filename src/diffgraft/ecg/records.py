"""Recordings of a data set: what is known of each, its signal when it is asked for, and an account of what was left out."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import BadData, BadPlan, listed
from .layouts import SKIPPING
from .leads import TWELVE, canonical, combination, complete, einthoven, lacking
from .signals import Resampler, Short, band_pass, check_band, mirrored, resample

LAWLESS = 0.2
"""A residual of Einthoven's law above this share of lead II is no rounding."""
FLAT = 0.01
"""In mV: a lead that varies by less within the window was not connected."""
USUAL = (0.05, 30.0)
"""In mV: a usual lead of a usual recording spans no less and no more; wrong gains are out by a thousand."""


class Facts(NamedTuple):
    """What a data set's tables say of a recording.

    Args:
        id: Its name in the data set.
        path: Its file.
        patient: Whose it is; its own name where the data set does not say.
        fold: Of the data set's own split, if there is one.
        statements: SCP statements; None where labels are not known.
        age: In years, as the data set writes it (PTB-XL writes 300 above 89).
        sex: "male" or "female".
        extra: Its row of a table of metadata, as text.
    """

    id: str
    path: Path
    patient: str
    fold: int | None = None
    statements: tuple[str, ...] | None = None
    age: float | None = None
    sex: str | None = None
    extra: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording, as its file holds it.

    Args:
        id, patient, fold, statements, age, sex: See `Facts`.
        signal: (leads, samples) in mV, float32; missing samples are nan.
        leads: Names of the leads, in their order there.
        rate: In Hz.
    """

    id: str
    signal: np.ndarray
    leads: tuple[str, ...]
    rate: float
    patient: str
    fold: int | None = None
    statements: tuple[str, ...] | None = None
    age: float | None = None
    sex: str | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.signal.shape[-1] / self.rate


class Trace(NamedTuple):
    """What a file of a recording holds: signal (leads, samples) in mV, lead names, rate in Hz, and age and sex if they are in there."""

    signal: np.ndarray
    leads: tuple[str, ...]
    rate: float
    age: float | None = None
    sex: str | None = None


@dataclass(frozen=True, eq=False)
class Recordings:
    """The recordings of a folder; signals are read as they are gone through.

    Args:
        kind: The layout, such as "PTB-XL".
        facts: What is known of each, sorted by name.
        load: Reads a file.
        classes: SCP statements that the data set distinguishes; empty where it has none.
        notes: What a person should know, a line each.
    """

    kind: str
    facts: tuple[Facts, ...]
    load: Callable[[Facts], Trace] = field(repr=False)
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.facts)

    def __iter__(self) -> Iterator[Recording]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> Recording:
        """The recording in place k. Raises BadData where its file cannot be used."""
        facts = self.facts[k]
        try:
            signal, leads, rate, age, sex = self.load(facts)
        except BadData as error:
            raise BadData(f"recording {facts.id}: {error}") from None
        fold, statements = facts.fold, facts.statements
        return Recording(facts.id, signal, leads, rate, facts.patient, fold, statements, age if facts.age is None else facts.age, facts.sex or sex)

    def take(self, rows: Sequence[int]) -> "Recordings":
        """Those in these places."""
        return Recordings(self.kind, tuple(self.facts[k] for k in rows), self.load, self.classes, self.notes)


def band_of(given: Sequence[float] | None) -> tuple[float, float] | None:
    """The two ends of a band of frequencies, as plans give them."""
    if given is None:
        return None
    if len(given) != 2:
        raise BadPlan(f"band is the lowest and the highest frequency in Hz, such as [0.5, 40.0], got {given}")
    return given[0], given[1]


@dataclass(frozen=True)
class Preparation:
    """How recordings become samples of one shape.

    Args:
        rate: In Hz.
        seconds: Length of the window, the first of each recording.
        leads: Which, in which order; those of the limbs are derived where they are missing.
        short: Shorter recordings are left out, "drop", or mirrored at both ends, "pad".
        resampler: See `signals.resample`.
        band: Lowest and highest frequency in Hz, filtered before the window is cut; None filters nothing.
        skip_broken: Leave out recordings whose files cannot be read.

    Raises:
        BadData: No such lead or way, or no window.
    """

    rate: float = 100.0
    seconds: float = 10.0
    leads: tuple[str, ...] = TWELVE
    short: Short = "drop"
    resampler: Resampler = "poly"
    band: tuple[float, float] | None = None
    skip_broken: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "leads", tuple(canonical(name) for name in self.leads))
        if len(set(self.leads)) < len(self.leads):
            raise BadData(f"expected each lead once, got {', '.join(self.leads)}; name each once")
        if self.short not in ("drop", "pad"):
            raise BadData(f"unknown way with short records '{self.short}'; known are: drop, pad")
        if not (0 < self.rate < np.inf and 0 < self.seconds < np.inf and min(self.shape) >= 1):
            raise BadData(f"expected windows of a sample or more, got {self.seconds:g} s at {self.rate:g} Hz of {len(self.leads)} leads; give longer ones")
        if self.band is not None:
            check_band(self.rate, *self.band)

    @property
    def shape(self) -> tuple[int, int]:
        """Leads and samples of a window."""
        return len(self.leads), round(self.seconds * self.rate)

    @property
    def too_short(self) -> str:
        """What the account says of recordings shorter than the window."""
        return f"shorter than {self.seconds:g} s"


class Account:
    """Which recordings were left out and why, and what is odd about those that were not."""

    def __init__(self) -> None:
        self.n, self.kept = 0, 0
        self.left_out: dict[str, list[str]] = {}
        self.leads: dict[str, Counter[str]] = {}
        """Of the reasons that lie in leads, how often in which."""
        self.odd: dict[str, list[str]] = {}
        self.too_short: list[float] = []
        """Seconds of those that are shorter than the window."""
        self.heights: list[float] = []
        """From the lowest to the highest sample of a usual lead, of each that is kept, in mV."""

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each reason, with how many and which."""
        lost = tuple(f"{self._count(ids)} left out, {why}{self._named(why)}: {listed(ids, 3)}" for why, ids in self.left_out.items())
        odd = tuple(f"{self._count(ids)} {why}: {listed(ids, 3)}" for why, ids in self.odd.items())
        height = float(np.median(self.heights)) if self.heights else USUAL[0]
        if USUAL[0] <= height <= USUAL[1]:
            return lost + odd
        return (*lost, *odd, f"a usual lead spans {height:.3g} mV, that of a heart 1 to 3; look at the gains and units of the headers")

    def leave_out(self, why: str, name: str, leads: Sequence[str] = ()) -> None:
        """Note that a recording is not among the samples, for a reason that may lie in some leads."""
        self.left_out.setdefault(why, []).append(name)
        self.leads.setdefault(why, Counter()).update(leads)

    def mark(self, why: str, name: str) -> None:
        """Note that something is odd about one that is."""
        self.odd.setdefault(why, []).append(name)

    def _named(self, why: str) -> str:
        """The leads in which a reason lies, the commonest first."""
        leads = [name for name, _ in self.leads.get(why, Counter()).most_common()]
        return f" ({listed(leads, 3)})" if leads else ""

    def _count(self, ids: list[str]) -> str:
        return f"{len(ids):,} of {self.n:,} recordings"

    def check(self, how: Preparation, known: bool = False) -> None:
        """Make sure that recordings are left; of windows that are `known` from other data, those have to change, too.

        Raises:
            BadData: None is.
        """
        if not self.kept:
            why = ", ".join(f"{len(ids):,} {why}{self._named(why)}" for why, ids in self.left_out.items()) or "the folder holds none"
            raise BadData(f"none of {self.n:,} recordings can be used: {why}; {self._remedy(how, ', of the source too' if known else '')}")

    def _remedy(self, how: Preparation, too: str) -> str:
        """What helps most recordings."""
        commonest = max(self.left_out, key=lambda why: len(self.left_out[why]), default="")
        if commonest == how.too_short:
            longest = math.floor(max(self.too_short) * 100) / 100
            return f"the longest has {longest:g} s, give others or shorter windows{too} (--seconds {longest:g}, in a plan seconds = {longest:g})"
        lost = self.leads.get(commonest)
        if lost and (good := [name for name in how.leads if name not in lost]):
            return f"give others, or take leads without that{too} (--leads {' '.join(good)}, in a plan leads = {json.dumps(good)})"
        return "give others"


def prepare(recordings: Recordings, how: Preparation, account: Account) -> Iterator[tuple[int, np.ndarray]]:
    """The place of each recording that can be used, and its window (leads, samples) in mV, float32.

    Left out, with a line in the account, are recordings that are too short, lack leads, or miss samples or have a flat lead within the window.

    Raises:
        BadData: A file that cannot be read, unless `skip_broken`; a band that does not fit the rate.
    """
    for k, facts in enumerate(recordings.facts):
        account.n += 1
        try:
            recording = recordings[k]
        except BadData as error:
            if not how.skip_broken:
                raise BadData(f"{error}, or leave it out: {SKIPPING}") from None
            account.leave_out("unreadable", facts.id)
            continue
        x = _window(recording, how)
        if isinstance(x, Lost):
            account.leave_out(x.why, facts.id, x.leads)
            account.too_short += [recording.seconds] * (x.why == how.too_short)
            continue
        account.kept += 1
        account.heights.append(float(np.median(np.ptp(x, -1))))
        _mark(recording, how, account)
        yield k, x


class Lost(NamedTuple):
    """Why a recording has no window, and the leads in which that lies."""

    why: str
    leads: Sequence[str] = ()


def _window(recording: Recording, how: Preparation) -> np.ndarray | Lost:
    """One recording's window, or why there is none."""
    try:
        x, gaps = complete(np.nan_to_num(recording.signal), recording.leads, how.leads), _gaps(recording, how)
    except BadData as error:
        missing = lacking(recording.leads, how.leads)
        return Lost("without leads that cannot be derived", missing) if missing else Lost(str(error))
    n = math.ceil(how.seconds * recording.rate)
    for why, bad in (("with missing samples", gaps[:, :n].any(-1)), ("with a flat lead", np.ptp(x[:, :n], -1) < FLAT)):
        if leads := [how.leads[k] for k in np.flatnonzero(bad)]:
            return Lost(why, leads)
    if gaps.any():
        x = x[:, : int(gaps.any(0).argmax())]  # filters would carry a gap behind the window into it
    x = resample(x, recording.rate, how.rate, how.resampler)
    if how.short == "drop" and x.shape[-1] < how.shape[1]:
        return Lost(how.too_short)
    try:
        x = x if how.band is None else band_pass(x, how.rate, *how.band)
    except BadData:
        if x.shape[-1] < how.shape[1]:
            return Lost("too short to filter")
        raise
    return mirrored(x, how.shape[1])[..., : how.shape[1]]


def _gaps(recording: Recording, how: Preparation) -> np.ndarray:
    """Where samples of the leads wanted are missing, (leads, samples)."""
    missing = ~np.isfinite(recording.signal)
    if not missing.any():
        return np.zeros((len(how.leads), missing.shape[-1]), bool)
    return np.asarray((combination(recording.leads, how.leads) != 0) @ missing)


def _mark(recording: Recording, how: Preparation, account: Account) -> None:
    """Say where leads were derived, or are not what their names say, and where a rate was made up."""
    if recording.rate < how.rate:
        account.mark(
            f"of {recording.rate:g} Hz brought to {how.rate:g}: they hold nothing above {recording.rate / 2:g} Hz, by which a domain is told", recording.id
        )
    own = [canonical(name) for name in recording.leads]
    if not set(own) >= set(how.leads):
        account.mark("without some leads of the limbs, derived from the others", recording.id)
    if set(own) >= {"I", "II", "III"}:
        residual, second = einthoven(recording.signal, own), recording.signal[own.index("II")]
        there = np.isfinite(residual)
        if there.any() and residual[there].std() > LAWLESS * second[there].std():
            account.mark("against the law I + III = II, look whether their leads are in the order of their names", recording.id)
