"""What a page shows as one figure: small plots that belong together, with a caption."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .records import Entry

MANY = 6
"""More methods than this get smaller plots, and more figures where methods share a plot."""


@dataclass(frozen=True)
class Panel:
    """One plot with its title; `style` is its method's, empty for data."""

    plot: Markup
    title: str
    style: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """Plots that belong together.

    Args:
        caption: What they show.
        panels: The plots.
        size: "small"; "samples" where real data and methods each begin a line; with "many" for smaller and "images" for larger
            ones; "wide" for plots with names in them; or "paper" for electrocardiograms, with "long" for those of many seconds and
            "strips" for signals over each other.
        keys: Methods whose colours the plots use, where titles don't tell.
        scale: What colours of a map mean.
        title: Stands over it, where a group has several of its kind.
    """

    caption: str
    panels: list[Panel]
    size: str = "small"
    keys: Sequence[Entry] = ()
    scale: Markup | None = None
    title: str = ""


def sized(kind: str, panels: int) -> str:
    """The size of a figure with a panel for each of so many methods: "samples" or "small", smaller where they are many."""
    return f"{kind} many" if panels > MANY else kind
