"""PTB-XL, and CPSC2018 in the conversion of the PTB-XL benchmark: a table of records, and WFDB records at 100 and 500 Hz."""

import shlex
from functools import partial
from pathlib import Path

from ..errors import BadData
from .layouts import CONVERSION, PTBXL, RATES, SKIPPING
from .records import Facts, Recordings
from .statements import NINE, STATEMENTS
from .tables import number, rows_of, sex_of, statements_of, whole
from .wfdb import load_record

COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr")
OF_VERSION_1 = 21_837
"""Records of versions 1.0.1 and 1.0.2; 1.0.3 has 21,799."""


def read_ptbxl(folder: Path, rate: float = 100.0, skip_missing: bool = False) -> Recordings:
    """PTB-XL, versions 1.0.1 to 1.0.3, as it is published.

    Args:
        folder: With `ptbxl_database.csv` and `records100` or `records500`.
        rate: At least so many Hz where the folder has them: of `records100` and `records500` the slower that does; 100 by default.
        skip_missing: Take the recordings that are there where others are not.

    Raises:
        BadData: A table that cannot be used, an unknown statement, or missing recordings, with a command that fetches them.
    """
    taken, rows = _rate(folder, rate), rows_of(folder / PTBXL, COLUMNS)
    facts = sorted((_ptbxl_facts(row, folder, taken) for row in rows), key=lambda one: int(one.id))
    return _present("PTB-XL", facts, folder, taken, STATEMENTS, skip_missing, fetch(folder, f"records{taken}/", len(rows)))


def read_conversion(folder: Path, rate: float = 100.0, skip_missing: bool = False) -> Recordings:
    """CPSC2018 as the PTB-XL benchmark converts it; see `read_ptbxl` for arguments and errors."""
    taken, rows = _rate(folder, rate), rows_of(folder / CONVERSION, ("ecg_id", "scp_codes"))
    facts = sorted((_conversion_facts(row, folder, taken) for row in rows), key=lambda one: int(one.id))
    return _present("CPSC2018, converted", facts, folder, taken, NINE, skip_missing, "convert the data set again")


def _rate(folder: Path, wanted: float) -> int:
    """The rate of the folder to read: no slower than wanted where there is such a one."""
    there = [one for one in RATES if (folder / f"records{one}").is_dir()] or RATES
    return next((one for one in there if one >= wanted), there[-1])


def _id(row: dict[str, str], table: str) -> str:
    found = whole(row["ecg_id"])
    if found is None:
        raise BadData(f"{table}: expected a number as ecg_id, got '{row['ecg_id'][:20]}'; copy the table again")
    return str(found)


def _ptbxl_facts(row: dict[str, str], folder: Path, rate: int) -> Facts:
    name = _id(row, PTBXL)
    file = row["filename_lr" if rate == 100 else "filename_hr"]
    if Path(file).is_absolute() or ".." in Path(file).parts or not file:
        raise BadData(f"{PTBXL}, record {name}: expected a file of its folder, got '{file}'; copy the table again")
    patient, fold = whole(row["patient_id"]), whole(row["strat_fold"])
    sex = sex_of(row.get("sex", ""), {"0": "male", "1": "female"})
    statements = statements_of(row, f"{PTBXL}, record {name}")
    return Facts(name, folder / f"{file}.hea", name if patient is None else str(patient), fold, statements, number(row.get("age")), sex)


def _conversion_facts(row: dict[str, str], folder: Path, rate: int) -> Facts:
    name = _id(row, CONVERSION)
    sex = sex_of(row.get("sex", ""), {"1": "male", "0": "female"})  # the other way round than in PTB-XL
    statements = statements_of(row, f"{CONVERSION}, record {name}")
    return Facts(name, folder / f"records{rate}" / f"{name}.hea", name, whole(row.get("strat_fold", "")), statements, number(row.get("age")), sex)


def fetch(folder: Path, part: str, n: int = 0) -> str:
    """The command that fetches a part of PTB-XL, of a table of n rows; files that are whole are not fetched again."""
    version = "1.0.1" if n == OF_VERSION_1 else "1.0.3"
    where = f"https://physionet.org/files/ptb-xl/{version}/{part}"
    return f"fetch them by: wget -r -N -c -np -nH --cut-dirs=3 -P {shlex.quote(str(folder))} {where}"


def _present(kind: str, facts: list[Facts], folder: Path, rate: int, classes: tuple[str, ...], skip_missing: bool, remedy: str) -> Recordings:
    """The recordings whose files are there as a whole."""
    missing = [one for one in facts if not _whole(one.path)]
    load = partial(load_record, rate=rate)
    if not missing:
        return Recordings(kind, tuple(facts), load, classes)
    cut = sum(one.path.is_file() and one.path.with_suffix(".dat").is_file() for one in missing)
    told = f"{len(missing):,} of {len(facts):,} recordings of records{rate} are missing{f' ({cut:,} of them cut off)' * bool(cut)}"
    if not skip_missing or len(missing) == len(facts):
        choice = "" if len(missing) == len(facts) else f", or take those that are there: {SKIPPING}"
        raise BadData(f"{told}; {remedy}{choice}")
    absent = set(missing_ids := [one.id for one in missing])
    note = f"{told} and left out, such as {missing_ids[0]}"
    return Recordings(kind, tuple(one for one in facts if one.id not in absent), load, classes, (note,))


def _whole(header: Path) -> bool:
    """Whether both files of a record are there, with as many samples as the header says; only its first two lines are read."""
    samples = header.with_suffix(".dat")
    if not (header.is_file() and samples.is_file()):
        return False
    with open(header, encoding="utf-8", errors="replace") as file:
        words, wire = file.readline().split(), file.readline().split()
    counts = [int(word) for word in words[1:4:2] if word.isdecimal()]
    least = 2 * counts[0] * counts[1] if len(counts) == 2 and wire[1:2] == ["16"] else 1
    return bool(words) and samples.stat().st_size >= least
