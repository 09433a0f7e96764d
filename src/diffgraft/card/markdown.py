"""Markdown from text of any kind."""

import re
from collections.abc import Sequence
from typing import Any


def plain(text: Any) -> str:
    """Text without a meaning in Markdown, on one line.

    >>> plain("a|b\\n*c*")
    'a\\\\|b \\\\*c\\\\*'
    """
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", " ".join(str(text).split()))


def code(text: Any) -> str:
    """Text as code, on one line."""
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; bars inside of them, as in code, are escaped."""
    cells = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in [heads, ["---"] * len(heads), *rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
