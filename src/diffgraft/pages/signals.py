"""Signals, drawn: a held-out one beside a sample of each method; electrocardiograms on their paper, by statement."""

from collections import Counter
from dataclasses import replace

from markupsafe import Markup

from .clouds import Cloud, Shown
from .ecg_paper import Paper
from .figures import Figure, Panel
from .plots import Array
from .traces import Channels

Statements = tuple[int, ...]
"""The labels that a signal has at once."""

MOST_LABELS = 4
"""Most sets of statements of which electrocardiograms are shown."""
BYTES = 400_000
"""About the most that the signals of one group take on the page: where methods are many, fewer statements are shown."""
SYNTHETIC = "SYNTHETIC"
"""Stands over every signal that was not measured."""


def drawing(data: Shown) -> Paper | Channels:
    """How signals of this kind are drawn."""
    return Paper(data.test) if Paper.fits(data.test) else Channels(data.test)


def signal_figures(data: Shown) -> list[Figure]:
    """A held-out signal beside a sample of each method; of labelled electrocardiograms, for each of the most frequent sets of statements."""
    draw = drawing(data)
    made = " Held-out ones are SYNTHETIC, too." if data.synthetic else ""
    counts = frequent(data) if isinstance(draw, Paper) else []
    if not counts:
        return [Figure(f"A held-out signal, then one of each method (seed {data.seed}).{made} {draw.told}", _panels(data, draw, None), draw.size)]
    figures: list[Figure] = []
    room = BYTES
    for kind, n in counts:
        panels = _panels(data, draw, kind)
        room -= sum(len(p.plot) for p in panels)
        if figures and room < 0:
            break
        figures.append(Figure("", panels, draw.size, title=f"{_named(data, kind)}: {n:,} of {len(data.test.x):,} held-out records"))
    caption = (
        f"For each of the statements that are most frequent among held-out records, the first such record, then the first such sample of each "
        f"method (seed {data.seed}).{made} {draw.told}"
    )
    return [*figures[:-1], replace(figures[-1], caption=caption)]


def frequent(data: Shown) -> list[tuple[Statements, int]]:
    """The most frequent sets of statements among held-out signals, of those that samples have, and how many have them; none without labels."""
    y = data.test.y
    if y is None or any(c.y is None or c.y.ndim != y.ndim for _, c in data.methods):
        return []
    drawn = {kind for _, c in data.methods if c.y is not None for kind in statements(c.y)}
    return [(kind, n) for kind, n in Counter(statements(y)).most_common() if kind in drawn][:MOST_LABELS]


def statements(y: Array) -> list[Statements]:
    """The set of statements of each signal, of labels (n,), where -1 is none, or of multi-hot rows (n, K)."""
    return [tuple(int(k) for k in ([v] if y.ndim == 1 else (v > 0).nonzero()[0]) if k >= 0) for v in y]


def _named(data: Shown, kind: Statements) -> str:
    names = data.classes(max(kind) + 1) if kind else []
    return ", ".join(names[k] for k in kind) or "no statement"


def _panels(data: Shown, draw: Paper | Channels, kind: Statements | None) -> list[Panel]:
    """The first held-out signal of this kind, and the first of each method."""
    found = [("held-out target", "", data.test), *((e.name, e.style, c) for e, c in data.methods)]
    return [_panel(draw, title, style, cloud, kind, SYNTHETIC if style or data.synthetic else "") for title, style, cloud in found]


def _panel(draw: Paper | Channels, title: str, style: str, cloud: Cloud, kind: Statements | None, mark: str) -> Panel:
    rows = range(len(cloud.x)) if kind is None or cloud.y is None else [k for k, own in enumerate(statements(cloud.y)) if own == kind]
    if not rows:
        return Panel(Markup(""), title, style, "none has these statements")
    return Panel(draw.record(cloud.x[rows[0]], f"A signal of {title}" + f", {mark}" * bool(mark), mark), title, style, f"no. {rows[0] + 1}")
