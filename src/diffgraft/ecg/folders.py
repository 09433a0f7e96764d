"""Folders of recordings: which layout one has, and folders of WFDB records of any origin."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ..errors import BadData, listed
from .cpsc import read_original
from .layouts import CONVERSION, PARTS, PTBXL, SKIPPING, holds, home_of
from .ptbxl import fetch, read_conversion, read_ptbxl
from .records import Facts, Recordings
from .statements import NINE, SINUS_RHYTHM, is_snomed, known_snomed, statement
from .tables import number, rows_of, sex_of
from .wfdb import Header, load_record, read_header

METADATA = "metadata.csv"
UNKNOWN = ("", "unknown", "nan", "none")
EXTRA = "Q"
"""How the names of recordings begin that challenges add to those of CPSC2018."""


def read_folder(folder: Path, rate: float = 100.0, skip_broken: bool = False, columns: Collection[str] = ()) -> Recordings:
    """The recordings of a folder.

    Args:
        folder: PTB-XL or the benchmark's conversion of CPSC2018 (a table and `records100` or `records500`), WFDB records in it
            or its subfolders, those of PhysioNet's challenge among them, or MATLAB structs of CPSC2018.
        rate: At least so many Hz, of layouts that have 100 and 500.
        skip_broken: Leave out recordings that are missing or whose headers cannot be read.
        columns: Of `metadata.csv`; where it has one of them, that holds the labels, and the diagnoses of headers are not read.

    Raises:
        BadData: None of these layouts, records of PTB-XL without their table or in another folder than it, or see the reader of each.
    """
    if (folder / PTBXL).is_file():
        return read_ptbxl(folder, rate, skip_broken)
    if (folder / CONVERSION).is_file():
        return read_conversion(folder, rate, skip_broken)
    if any((folder / part).is_dir() for part in PARTS):
        raise BadData(f"{folder} holds records of PTB-XL and not their table, {PTBXL}, or {CONVERSION} of a conversion; {fetch(folder, PTBXL)}")
    if (home := home_of(folder)) is not None:
        raise BadData(f"{folder} holds recordings whose labels are in a table of another folder; give that folder, {home}")
    if holds(folder, ".hea"):
        return read_wfdb(folder, skip_broken, columns)
    if holds(folder, ".mat"):
        return read_original(folder)
    raise BadData(f"{folder} holds no ECG recordings, expected {PTBXL}, .hea with .dat or .mat, or .mat of CPSC2018; give such a folder")


def read_wfdb(folder: Path, skip_broken: bool = False, columns: Collection[str] = ()) -> Recordings:
    """WFDB records of format 16 in a folder and its subfolders, with the diagnoses of their headers, or a table `metadata.csv`; see `read_folder`.

    Raises:
        BadData: Headers that cannot be read, or lost files of samples, unless `skip_broken`; an unknown statement; two records of one name;
            a table that names none of the records.
    """
    headers, broken = _headers(folder, skip_broken)
    challenge = any(wire.file.endswith(".mat") for header in headers for wire in header.wires)
    table, codes = _metadata(folder), Counter[str]()
    diagnosed = table is None or not set(columns) & set(next(iter(table.values())))
    facts = [_facts(header, table, codes, diagnosed) for header in headers if not (challenge and _is_extra(header))]
    _check_table(facts, table)
    kept = [one for one in facts if table is None or one.extra]
    _check_names(kept)
    notes = (
        _note(broken, len(broken) + len(headers), "records cannot be read and are left out"),
        _note([header.path.stem for header in headers if challenge and _is_extra(header)], len(headers), "records are no part of CPSC2018 and left out"),
        _note(*_without_header(folder, headers if challenge else None), ".mat files have no header and are left out"),
        f"{codes.total():,} SNOMED codes stand for no known statement and are left out: {listed(codes, 3)}" if codes else "",
        *_table_notes(facts, table),
    )
    kind = "CPSC2018 of PhysioNet's challenge" if challenge else "WFDB records"
    labelled = any(one.statements is not None for one in kept)
    return Recordings(kind, tuple(kept), load_record, NINE if labelled else (), tuple(note for note in notes if note))


def _is_extra(header: Header) -> bool:
    return header.path.stem.upper().startswith(EXTRA)


def _headers(folder: Path, skip_broken: bool) -> tuple[list[Header], list[str]]:
    """Headers sorted by the record's name, and the names of those that cannot be read or lack their samples."""
    headers, broken = [], []
    for path in sorted((path for path in folder.rglob("*.hea") if not path.name.startswith(".")), key=lambda path: (path.stem, path)):
        try:
            headers.append(read_header(path))
        except BadData as error:
            if not skip_broken:
                raise BadData(f"{error}, or leave it out: {SKIPPING}") from None
            broken.append(path.stem)
    lost = [(header, file) for header in headers if (file := _lost(header)) is not None]
    if lost and not skip_broken:
        told = f"{len(lost):,} of {len(headers):,} records have no samples: {lost[0][1]}, which {lost[0][0].path.name} names, is missing"
        raise BadData(f"{told}; copy them again, or take the others: {SKIPPING}")
    without = {header.path for header, _ in lost}
    return [header for header in headers if header.path not in without], broken + [header.path.stem for header, _ in lost]


def _lost(header: Header) -> str | None:
    """A file that a header names and that is not there."""
    return next((wire.file for wire in header.wires if not (header.path.parent / wire.file).is_file()), None)


def _facts(header: Header, table: dict[str, dict[str, str]] | None, codes: "Counter[str]", diagnosed: bool) -> Facts:
    """What a header says, its diagnoses too where they are wanted, and the table adds; codes that are no known statement are counted."""
    name, info = header.path.stem, header.info
    try:
        found = None if not diagnosed or info.get("dx", "").lower() in UNKNOWN else _diagnoses(info["dx"], codes)
    except BadData as error:
        remedy = f"'# Dx:' takes statements and SNOMED codes, other labels are a column of {METADATA}, --label-column"
        raise BadData(f"{header.path.name}: {error} ({remedy})") from None
    extra = (table or {}).get(name, {})
    return Facts(name, header.path, extra.get("patient_id") or name, None, found, number(info.get("age")), sex_of(info.get("sex", "")), extra)


def _diagnoses(text: str, codes: "Counter[str]") -> tuple[str, ...]:
    """The statements of a list of SNOMED codes or names; sinus rhythm is a normal recording where it is the only one."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    codes.update(unknown := [word for word in words if is_snomed(word) and not known_snomed(word)])
    rhythm = "SR" if len(set(words)) > 1 else SINUS_RHYTHM
    return tuple(dict.fromkeys(statement(rhythm if word == SINUS_RHYTHM else word) for word in words if word not in unknown))


def _metadata(folder: Path) -> dict[str, dict[str, str]] | None:
    """Rows of the table of metadata by its first column, which names records; None where there is no table."""
    if not (folder / METADATA).is_file():
        return None
    rows = rows_of(folder / METADATA, ())
    first = next(iter(rows[0]))
    return {(row[first] or "").strip(): row for row in rows}


def _check_table(facts: list[Facts], table: dict[str, dict[str, str]] | None) -> None:
    """Make sure that the table names some of the records; spreadsheets strip zeros from names."""
    if table is None or not facts or any(one.extra for one in facts):
        return
    column = next(iter(next(iter(table.values()))))
    raise BadData(
        f"none of {len(facts):,} records is in {METADATA}, whose first column '{column}' begins {listed(list(table)[:2])}; "
        f"the records are {listed((one.id for one in facts), 2)}; write these names"
    )


def _check_names(facts: list[Facts]) -> None:
    twice = [name for name, n in Counter(one.id for one in facts).items() if n > 1]
    if twice:
        raise BadData(f"{len(twice):,} records have a name that another has, such as {twice[0]}; give each its own, or one of the folders")


def _without_header(folder: Path, headers: list[Header] | None) -> tuple[list[str], int]:
    """Names of .mat files that no header names, and how many .mat files there are; none where none is expected."""
    files = [] if headers is None else sorted(folder.rglob("*.mat"))
    named = {header.path.parent / wire.file for header in headers or () for wire in header.wires}
    return [file.name for file in files if file not in named], len(files)


def _table_notes(facts: list[Facts], table: dict[str, dict[str, str]] | None) -> tuple[str, ...]:
    """Where the table of metadata and the records differ, and where it holds codes that the Brugada data set does not explain."""
    if table is None:
        return ()
    names = {one.id for one in facts}
    odd = [one.id for one in facts if (code := one.extra.get("brugada", "0")).isdigit() and code not in ("0", "1")]
    return (
        _note([one.id for one in facts if not one.extra], len(facts), f"records are not in {METADATA} and left out"),
        _note([name for name in table if name not in names], len(table), f"rows of {METADATA} have no record here"),
        _note(odd, len(facts), "records have another code than 0 and 1 as brugada, which the data set does not explain"),
    )


def _note(names: list[str], n: int, what: str) -> str:
    return f"{len(names):,} of {n:,} {what}: {listed(names, 3)}" if names else ""
