"""Records of WFDB, format 16: a text header, `.hea`, and 16-bit samples beside it.

A header's first line names the record, its number of signals, their rate in Hz and their number of samples. One line a signal
follows: file, format, gain(baseline)/unit, resolution, zero, first value, checksum, block size, name. In physical units a
sample is (digital - baseline) / gain. The checksum is the sum of a signal's samples, modulo 2^16: damage is found by it.
See https://physionet.org/physiotools/wag/header-5.htm.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import BadData
from .leads import is_lead
from .records import Facts, Trace

UNITS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
"""How many mV a unit is."""
MISSING = -32768
"""The value that says that a sample is missing."""
DEFAULT_GAIN = 200.0
FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::\d+)?(?:\+(\d+))?")
GAIN = re.compile(r"([-+.\deE]+)(?:\(([-+]?\d+)\))?(?:/(\S+))?")
MAT4 = np.array([30, 4], "<i4").tobytes()
"""Type and length of the name in the 24 bytes with which MATLAB 4 begins a matrix `val` of 16-bit integers."""


class Wire(NamedTuple):
    """One signal of a header: its file, where that begins, its scale, and what is known of its samples."""

    file: str
    offset: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None
    name: str


class Header(NamedTuple):
    """What a `.hea` says: rate in Hz, samples (0 where it does not say), signals, and lines such as `Age: 74` by their key."""

    path: Path
    rate: float
    samples: int
    wires: tuple[Wire, ...]
    info: dict[str, str]


def read_header(path: Path) -> Header:
    """A header of a record of format 16.

    Raises:
        BadData: No header, another format, several segments, a rate that is none, or signals of several rates.
    """
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in text if line.strip() and not line.lstrip().startswith("#")]
    info = [line.strip().lstrip("#").partition(":") for line in text if line.lstrip().startswith("#")]
    first = lines[0].split() if lines else []
    if len(first) < 2 or not first[1].isdecimal():
        raise BadData(f"{path.name} is no WFDB header, expected a record's name and its number of signals; copy it again")
    if "/" in first[0]:
        raise BadData(f"{path.name} has several segments, only records of one are read; join them and write format 16")
    if len(lines) <= int(first[1]) or int(first[1]) == 0:
        raise BadData(f"{path.name} promises {first[1]} signals and describes {len(lines) - 1}; copy it again")
    wires = tuple(_wire(line, path) for line in lines[1 : 1 + int(first[1])])
    if not any(wire.checksum for wire in wires):  # writers that count none put zeros there
        wires = tuple(wire._replace(checksum=None) for wire in wires)
    samples = int(first[3]) if len(first) > 3 and first[3].isdecimal() else 0
    return Header(path, _rate(first, path), samples, wires, {key.strip().lower(): value.strip() for key, _, value in info})


def read_signals(header: Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """Signals (leads, samples) in mV as float32 and their names; only those of the twelve leads. Missing samples are nan.

    Raises:
        BadData: Files that are missing, cut off, damaged or of another kind; an unknown unit; no leads.
    """
    out: dict[int, np.ndarray] = {}
    for file in dict.fromkeys(wire.file for wire in header.wires):
        own = [k for k, wire in enumerate(header.wires) if wire.file == file]
        digital = _digital(header, file, len(own))
        for column, k in enumerate(own):
            if is_lead(header.wires[k].name):
                out[k] = _physical(digital[:, column], header.wires[k], header.path)
    if not out:
        named = ", ".join(wire.name for wire in header.wires[:4])
        raise BadData(f"{header.path.name} holds no ECG lead, its signals are {named}; name them I, II, III, aVR, aVL, aVF, V1 to V6")
    if len({len(lead) for lead in out.values()}) > 1:
        raise BadData(f"{header.path.name} has files of unlike lengths; copy them again")
    return np.stack([out[k] for k in sorted(out)]), tuple(header.wires[k].name for k in sorted(out))


def load_record(facts: Facts, rate: int | None = None) -> Trace:
    """What the files of a recording hold.

    Raises:
        BadData: See `read_header` and `read_signals`; another rate than the one that its folder has.
    """
    header = read_header(facts.path)
    if rate is not None and header.rate != rate:
        raise BadData(f"{facts.path.name} has {header.rate:g} Hz, expected {rate} in this folder; copy it again")
    return Trace(*read_signals(header), header.rate)


def _rate(first: list[str], path: Path) -> float:
    """Samples a second; WFDB's default of 250 is not taken, since nobody would notice a wrong rate."""
    try:
        rate = float(first[2].split("/")[0].split("(")[0])
    except (IndexError, ValueError):
        rate = 0.0
    if not 0 < rate < np.inf:
        raise BadData(f"{path.name} gives no sampling rate, expected Hz as the third word of its first line; add it")
    return rate


def _wire(line: str, path: Path) -> Wire:
    words = line.split(None, 8)
    found = FORMAT.fullmatch(words[1]) if len(words) > 1 else None
    if found is None:
        raise BadData(f"{path.name} has a damaged line '{line[:40]}', expected a file and a format; copy it again")
    if found[1] != "16" or (found[2] or "1") != "1":
        raise BadData(f"{path.name} has signals of format {words[1]}, only 16 is read; write it again with wfdb.wrsamp(..., fmt=['16'] * n)")
    if Path(words[0]).name != words[0]:
        raise BadData(f"{path.name} names a file outside of its folder, '{words[0]}'; put both into one folder")
    gain = GAIN.fullmatch(words[2]) if len(words) > 2 else None
    try:
        scale, zero = float(gain[1]) if gain else 0.0, int(words[4]) if len(words) > 4 else 0
        baseline = int(gain[2]) if gain and gain[2] is not None else zero
        checksum = int(words[6]) if len(words) > 6 else None
    except ValueError:
        raise BadData(f"{path.name} has a damaged line '{line[:40]}', expected numbers; copy it again") from None
    unit = gain[3] if gain and gain[3] else "mV"
    return Wire(words[0], int(found[3] or 0), scale or DEFAULT_GAIN, baseline, unit, checksum, words[8] if len(words) > 8 else "")


def _digital(header: Header, file: str, n: int) -> np.ndarray:
    """Samples (samples, n) of a file as 16-bit integers."""
    path, offset = header.path.parent / file, next(wire.offset for wire in header.wires if wire.file == file)
    if not path.is_file():
        raise BadData(f"{file}, which {header.path.name} names, is missing; copy it again")
    raw = path.read_bytes()
    if path.suffix == ".mat" and raw[:4] + raw[16:20] != MAT4:
        raise BadData(f"{file} is no MATLAB 4 file with a matrix of 16-bit integers, which {header.path.name} promises; copy it again")
    samples = header.samples or (len(raw) - offset) // (2 * n)
    if len(raw) < offset + 2 * n * samples or not samples:
        raise BadData(f"{file} is cut off, expected {offset + 2 * n * max(samples, 1):,} bytes, got {len(raw):,}; copy it again")
    return np.frombuffer(raw, "<i2", n * samples, offset).reshape(samples, n)


def _physical(digital: np.ndarray, wire: Wire, path: Path) -> np.ndarray:
    """One lead in mV."""
    if wire.checksum is not None and (int(digital.sum(dtype=np.int64)) - wire.checksum) % 65536:
        raise BadData(f"{wire.file} is damaged, the checksum of lead {wire.name} in {path.name} differs; copy it again")
    if (unit := UNITS.get(wire.unit.lower())) is None:
        raise BadData(f"{path.name} gives lead {wire.name} in '{wire.unit}', expected mV, uV or V; correct the unit")
    out = (digital.astype(np.float32) - wire.baseline) * np.float32(unit / wire.gain)
    return np.where(digital == MISSING, np.float32(np.nan), out)
