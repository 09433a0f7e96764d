"""Tables of data sets, as rows of text."""

import ast
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadData
from .statements import statement

SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a .csv table with a header, by column.

    Raises:
        BadData: Columns are missing, or it is no table.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or ()
    except (csv.Error, UnicodeDecodeError):
        raise BadData(f"{path.name} is damaged, expected a table of text; copy it again") from None
    if missing := [name for name in columns if name not in names]:
        raise BadData(f"{path.name} lacks the column '{missing[0]}', expected {', '.join(columns)}; take it as it was published")
    if not rows or any(row[name] is None for row in rows for name in columns):
        raise BadData(f"{path.name} {'is cut off' if rows else 'has no rows'}; copy it again")
    return rows


def statements_of(row: Mapping[str, str], where: str) -> tuple[str, ...]:
    """The statements of `scp_codes`, a Python dictionary as text; a likelihood of 0 counts, rhythms and forms have no other.

    Raises:
        BadData: No such dictionary, or an unknown statement.
    """
    try:
        codes = ast.literal_eval(row["scp_codes"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        codes = None
    if not isinstance(codes, dict):
        raise BadData(f"{where}: expected scp_codes such as {{'NORM': 100.0}}, got '{row['scp_codes'][:40]}'; copy the table again")
    try:
        return tuple(dict.fromkeys(statement(str(code)) for code in codes))
    except BadData as error:
        raise BadData(f"{where}: {error}") from None


def number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def whole(text: str) -> int | None:
    """A whole number, also where it is written 3.0, or None."""
    value = number(text)
    return None if value is None else int(value)


def sex_of(text: str, codes: Mapping[str, str] = {}) -> str | None:
    """ "male", "female" or None; data sets number them differently, so `codes` says how."""
    whole_text = text.strip().removesuffix(".0").lower()
    return codes.get(whole_text) or SEXES.get(whole_text)
