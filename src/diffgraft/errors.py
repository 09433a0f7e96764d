"""Errors that a user can cause. Each message says, in one line, what was expected, what came, and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class DiffgraftError(ValueError):
    """Something in the input is wrong; the command line prints the message and exits with status 2."""


class BadData(DiffgraftError):
    """Data that cannot be used as they are: missing, non-finite, of another shape, too few."""


class BadModel(DiffgraftError):
    """A model folder that is missing, damaged, or of a format this version does not know."""


class BadPlan(DiffgraftError):
    """A plan or a setting with unknown keys or values of the wrong kind."""


class OutputExists(DiffgraftError):
    """The output is there already and neither `--overwrite` nor `--resume` was given."""


class OutputRefused(DiffgraftError):
    """Nothing can be written where the output should go: a folder without permission, a full disk."""


class ScheduleMismatch(DiffgraftError):
    """Two networks under different noise schedules were about to be mixed."""


class OutOfMemory(DiffgraftError):
    """The memory of a GPU is too small for a training step; what was done is saved."""

    def __init__(self, batch_size: int, parts: int) -> None:
        super().__init__(
            f"the GPU's memory is too small for a batch of {batch_size}{f' in {parts} parts' * (parts > 1)}; go on with --resume and --accumulate "
            f"{2 * parts}, or with --checkpointing, or start again with a smaller batch_size"
        )


class MissingExtra(DiffgraftError):
    """An optional dependency is not installed; the message names the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package}, which is not installed; install it by: pip install 'diffgraft[{extra}]'")


def installed(package: str, extra: str) -> Any:
    """An optional package.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise MissingExtra(package, extra) from None


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is among `known`; else an error that names the nearest valid one.

    Raises:
        BadPlan: `name` is not known.
    """
    known = sorted(known)
    if name in known:
        return name
    raise BadPlan(f"unknown {kind} '{name}'; {nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the closest valid one, or all of them, sorted where they come in no order of their own."""
    known = list(known) if isinstance(known, list | tuple) else sorted(known)
    if not known:
        return "there are none here, leave it out"
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known are: {', '.join(known)}"


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Names in quotes, the first few of many: 'a', 'b' and 7 more."""
    names = list(names)
    shown = ", ".join(f"'{name}'" if isinstance(name, str) else str(name) for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
