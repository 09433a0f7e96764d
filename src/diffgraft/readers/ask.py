"""What is asked of a reader and what it finds, before the numbers are checked; and the words that readers share."""

from typing import Any, NamedTuple

from torch import Tensor

from ..data import Layout


class Ask(NamedTuple):
    """How a file is to be read.

    Args:
        like: The layout of data of the same kind that were read before, or None.
        label_column: The column of a table that holds the label, by name or position; None leaves it to `like`.
        size: Side of square images; None leaves it to `like`.
        skip_broken: Leave out images and recordings that cannot be read, with a warning.
        seconds, band, leads: Length of the windows of recordings, the frequencies in Hz to keep, and the names of the leads; None leaves them
            to `like`.
    """

    like: Layout | None = None
    label_column: str | int | None = None
    size: int | None = None
    skip_broken: bool = False
    seconds: float | None = None
    band: tuple[float, float] | None = None
    leads: tuple[str, ...] | None = None

    @property
    def known(self) -> Layout:
        """The layout known from before; an empty one where there is none."""
        return self.like or Layout()


class Found(NamedTuple):
    """Numbers and labels as a file holds them, the names of both, what a person should know, and whose each sample is, where that is known."""

    x: Tensor
    y: Any = None
    layout: Layout = Layout()
    warnings: tuple[str, ...] = ()
    owners: tuple[str, ...] | None = None


def column_name(columns: tuple[str, ...] | None, k: int) -> str:
    """How messages call a column: by its name, or else its position."""
    return f"column {k}" if columns is None else f"column '{columns[k]}'"
