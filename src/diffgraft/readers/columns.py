"""Which column of a table is a feature and which the label, by what was asked and what is known from before."""

from typing import NamedTuple

from ..errors import BadData, listed, nearest
from .ask import Ask
from .labels import number

LABEL = "label"
"""The last column of a table of samples whose label column has no name of its own; as such it is known again."""


class Roles(NamedTuple):
    """What the columns of a table are.

    Args:
        features: Positions of the features, in the order wanted.
        label: Position of the label, if there is one.
        columns: Names of the features, if they have some.
        label_column: The label as a layout keeps it: by name, or by position where there are no names.
        warnings: What a person should know.
    """

    features: list[int]
    label: int | None = None
    columns: tuple[str, ...] | None = None
    label_column: str | int | None = None
    warnings: tuple[str, ...] = ()


def assign(names: tuple[str, ...] | None, width: int, ask: Ask) -> Roles:
    """Roles of a table's columns.

    Args:
        names: The header, or None.
        width: How many columns there are.
        ask: What is wanted and known.

    Raises:
        BadData: Columns without a name or with the same, no such label column, other features than those known.
    """
    if names is not None:
        _check_names(names)
    label = _asked(names, width, ask.label_column) if ask.label_column is not None else _remembered(names, width, ask)
    features = [k for k in range(width) if k != label]
    if not features:
        raise BadData("its only column is the label; give a table with at least one feature")
    columns = None if names is None else tuple(names[k] for k in features)
    label_column = label if names is None or label is None else names[label]
    return _ordered(Roles(features, label, columns, label_column), ask)


def is_position(column: str | int) -> bool:
    """Whether a label column is given by position."""
    return isinstance(column, int) or column.removeprefix("-").isdecimal()


def _check_names(names: tuple[str, ...]) -> None:
    if "" in names:
        raise BadData(f"column {names.index('')} has no name in the header; name it, or drop it (pandas writes its index so: to_csv(index=False))")
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise BadData(f"expected one column a name, got {listed(dict.fromkeys(twice))} more than once; rename or drop columns")


def _asked(names: tuple[str, ...] | None, width: int, column: str | int) -> int:
    if names is not None and str(column) in names and not isinstance(column, int):
        return names.index(column)
    if is_position(column):
        if -width <= int(column) < width:
            return int(column) % width
        raise BadData(f"--label-column {column}: it has {width} columns; give a position from {-width} to {width - 1}")
    if names is None:
        raise BadData(f"--label-column {column}: it has no header; give the position of the column, -1 for the last")
    raise BadData(f"--label-column {column}: no such column; {nearest(str(column), names)}")


def _remembered(names: tuple[str, ...] | None, width: int, ask: Ask) -> int | None:
    """The label column of data of the same kind, where this table has it too."""
    column, features = ask.known.label_column, ask.known.columns
    one_more = features is not None and width == len(features) + 1
    if isinstance(column, str):
        if names is not None:
            return names.index(column) if column in names else None
        return width - 1 if one_more else None
    if column is None:
        ours = ask.like is not None and names is not None and names[-1] == LABEL and LABEL not in (features or ())
        return width - 1 if ours else None
    if not (one_more or features is None):
        return None
    return column % width if -width <= column < width else None


def _ordered(roles: Roles, ask: Ask) -> Roles:
    """The features in the order known from before."""
    known, columns = ask.known.columns, roles.columns
    if known is None or columns == known:
        return roles
    hint = "" if roles.label is not None else "; a label is named by --label-column"
    if columns is None:
        if len(roles.features) != len(known):
            raise BadData(f"expected {len(known)} features, {listed(known)}, got {len(roles.features)} columns; give these in this order{hint}")
        guessed = isinstance(ask.known.label_column, str) and roles.label is not None and ask.label_column is None
        told = (f"it has no header; its last column is taken as the label '{ask.known.label_column}'",) if guessed else ()
        return roles._replace(columns=known, warnings=told)
    missing, extra = [name for name in known if name not in columns], [name for name in columns if name not in known]
    if missing or extra:
        differ = [f"{word} {listed(names)}" for word, names in (("missing", missing), ("unknown", extra)) if names]
        raise BadData(f"expected the features {listed(known)}: {', '.join(differ)}; rename, add or drop columns{hint if extra else ''}")
    place = dict(zip(columns, roles.features, strict=True))
    told = (f"its columns stand in another order than {listed(known)}; they are taken by name",)
    return roles._replace(features=[place[name] for name in known], columns=known, warnings=told)


def is_header(first: list[str], second: list[str] | None, ask: Ask) -> bool:
    """Whether the first row of a file names the columns: it holds a word, and not just where the next row does as well.

    Words in the same places in both rows are labels in a file without a header, unless the first row counts 0, 1, 2 or
    holds the names that were asked for or are known.
    """
    words = _words(first)
    if not words or second is None:
        return bool(words)
    numbers = [cell for cell in first if number(cell) is not None]
    counts = len(numbers) > 1 and numbers == [str(k) for k in range(len(numbers))]
    return words != _words(second) or not numbers or counts or _expected(first, ask)


def _expected(first: list[str], ask: Ask) -> bool:
    column = ask.label_column
    return (isinstance(column, str) and not is_position(column) and column in first) or set(ask.known.columns or (None,)) <= set(first)


def _words(cells: list[str]) -> list[int]:
    return [k for k, cell in enumerate(cells) if number(cell) is None]
