"""Electrocardiograms on their paper: 25 mm a second, 10 mm a millivolt, a line every millimetre and a stronger one every five.

Lengths are in millimetres of paper; the view box has `MM` units for each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from markupsafe import Markup

from ..ecg.leads import TWELVE, canonical, combination, complete, is_lead
from ..errors import BadData
from ..terms import listed
from .clouds import Cloud
from .plots import Array, svg, text
from .traces import Lines, Overlaid, trace

MM = 4
"""Units of the view box in a millimetre."""
SPEED, HEIGHT = 25, 10
"""Millimetres a second, and a millivolt."""
WINDOW, COLUMN = 10.0, 2.5
"""Seconds of a record that are drawn, and of each column of a standard record."""
STANDARD = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
"""Rows of a record as long as the window; below them lead II in full."""
RHYTHM = "II"
SHORT = tuple(zip(TWELVE[:6], TWELVE[6:], strict=True))
"""Rows of a shorter record, each lead in full."""
LEFT, HEAD, FOOT, GAP = 10, 10, 10, 5
"""Room for the calibration pulse, above, below, and after leads."""
BOX, PULSE = 5, 5
"""Sides of a large box; length of the calibration pulse."""
UP, DOWN = (HEIGHT, 40), (5, 40)
"""How far a row reaches above and below zero, at least and at most."""
FITTING = 0.95
"""Share of held-out records that do not leave their rows."""
POINTS = 250
"""Most samples a second that are drawn."""
WIDE = 180
"""A sheet wider than this needs more room on the page."""


@dataclass(frozen=True)
class Row:
    """Leads beside each other on paper.

    Args:
        cells: Of each lead, what stands over it, and kind and samples (L,) of its traces, which are equally long.
        up, down: Millimetres above and below zero.
        joined: One lead follows the other in time, without a gap.
    """

    cells: Sequence[tuple[str, Lines]]
    up: int
    down: int
    joined: bool = False

    def edges(self, rate: float) -> list[float]:
        """Where its leads begin, and where the last ends with the gap after it, from the left end of the sheet."""
        widths = [SPEED * len(lines[0][1]) / rate for _, lines in self.cells]
        gaps = [0.0 if self.joined and k + 1 < len(widths) else GAP for k in range(len(widths))]
        ends = np.cumsum([w if not gap else _boxes(w + gap) for w, gap in zip(widths, gaps, strict=True)])
        return [LEFT, *(LEFT + float(end) for end in ends)]


class Paper:
    """Draws electrocardiograms that are alike, on rows that hold the held-out ones: twelve leads where these can be derived.

    Args:
        test: Held-out records (n, C, L) in `unit`, of `columns`, at `rate`; such that `fits` is true.
    """

    def __init__(self, test: Cloud) -> None:
        self.own, self.rate, self.unit = [canonical(c) for c in test.columns], test.rate or 1.0, test.unit
        self.seconds = test.x.shape[2] / self.rate
        self.leads = TWELVE if set(self.own) >= set(TWELVE) or self._derivable else tuple(self.own)
        x = self._derived(test.finite.reshape(-1, *test.x.shape[1:]))
        low, high = np.quantile(x.min(2), 1 - FITTING, 0), np.quantile(x.max(2), FITTING, 0)
        self._reach = {name: (_millimetres(b, UP), _millimetres(-a, DOWN)) for name, a, b in zip(self.leads, low, high, strict=True)}

    @staticmethod
    def fits(test: Cloud) -> bool:
        """Whether these are electrocardiograms: every channel a lead, each once, and the rate known."""
        names = {name.strip().upper() for name in test.columns}
        return test.rate is not None and len(test.columns) == len(names) == test.x.shape[1] and all(map(is_lead, names)) and bool(test.finite.size)

    @property
    def _derivable(self) -> bool:
        """Whether twelve leads follow from these: they are voltages, and two of them are of the limbs."""
        try:
            return self.unit == "mV" and combination(self.own) is not None
        except BadData:
            return False

    @property
    def scale(self) -> str:
        """What stands below each sheet."""
        return f"{SPEED} mm/s, {HEIGHT} {'mm/mV' if self.unit == 'mV' else 'mm a unit'}"

    @property
    def told(self) -> str:
        """How records are drawn, in a sentence or two."""
        one, many = ("mV", "mV") if self.unit == "mV" else ("unit", "units")
        boxes = f"a small box is 0.04\u00a0s and 0.1\u00a0{many}, a large one 0.2\u00a0s and 0.5\u00a0{many}; the pulse at the left is 1\u00a0{one}."
        first = f" The first {WINDOW:g} s of {self.seconds:g} s." if self.seconds > WINDOW else ""
        derived = [name for name in self.leads if name not in self.own]
        algebra = f" {listed(derived)} are derived from the other leads of the limbs." if derived else ""
        return f"{self.scale}: {boxes}{first}{algebra}"

    @property
    def told_of_strips(self) -> str:
        """The same of records over each other."""
        return f"Drawn: lead {self.strip}, {self.scale}."

    @property
    def columns(self) -> int:
        """How many leads that are drawn in full stand beside each other."""
        return 2 if self.leads == TWELVE and self.seconds < WINDOW else 1

    @property
    def size(self) -> str:
        """Size of a figure of its sheets."""
        return "paper long" if LEFT + self.columns * _boxes(SPEED * min(self.seconds, WINDOW) + GAP) > WIDE else "paper"

    def record(self, x: Array, alt: str, mark: str = "") -> Markup:
        """A record (C, L); the mark stands over it."""
        own = dict(zip(self.leads, self._derived(x), strict=True))
        column, window = round(COLUMN * self.rate), round(WINDOW * self.rate)
        if self.leads == TWELVE and self.columns == 1:
            cut = [[(name, own[name][k * column : (k + 1) * column]) for k, name in enumerate(names)] for names in STANDARD]
            rows = [*(self._row(cells, joined=True) for cells in cut), self._row([(RHYTHM, own[RHYTHM][: 4 * column])])]
        else:
            names = SHORT if self.leads == TWELVE else [(name,) for name in self.leads]
            rows = [self._row([(name, own[name][:window]) for name in row]) for row in names]
        return sheet(rows, self.rate, self.scale, alt, mark)

    @property
    def strip(self) -> str:
        """The lead of strips: II, or the first where there is none."""
        return RHYTHM if RHYTHM in self.leads else self.leads[0]

    def overlaid(self, records: Overlaid, alt: str, mark: str = "") -> Markup:
        """Records over each other, one lead of each, in a strip for each set of them."""
        k, window, (up, down) = self.leads.index(self.strip), round(WINDOW * self.rate), self._reach[self.strip]
        strips = [(head, [(kind, self._derived(x)[k, :window]) for kind, x in lines]) for head, lines in records]
        rows = [Row(strips[i : i + self.columns], up, down) for i in range(0, len(strips), self.columns)]
        return sheet(rows, self.rate, self.scale, alt, mark)

    def _row(self, leads: list[tuple[str, Array]], joined: bool = False) -> Row:
        up, down = (max(self._reach[name][end] for name, _ in leads) for end in (0, 1))
        return Row([(name, [("trace", x)]) for name, x in leads], up, down, joined)

    def _derived(self, x: Array) -> Array:
        """All leads that are drawn, (..., leads, L); where they are derived and one is no number, none is."""
        return complete(np.where(np.isfinite(x), x, np.nan), self.own, self.leads)


def _millimetres(value: float, ends: tuple[int, int]) -> int:
    return min(max(ends[0], math.ceil(HEIGHT * value)), ends[1])


def _boxes(length: float) -> int:
    """The length of as many large boxes as hold this one."""
    return BOX * math.ceil(length / BOX - 1e-9)


def sheet(rows: Sequence[Row], rate: float, scale: str, alt: str, mark: str = "") -> Markup:
    """A sheet of electrocardiogram paper.

    Args:
        rows: From top to bottom.
        rate: Samples a second of every trace.
        scale: Stands below.
        alt: What it shows, in words.
        mark: Stands above, at the right.
    """
    width, height = _boxes(max(row.edges(rate)[-1] for row in rows)), _boxes(HEAD + sum(row.up + row.down for row in rows) + FOOT)
    ends, zeros = (0.0, float(MM * height)), list(accumulate((a.down + b.up for a, b in pairwise(rows)), initial=HEAD + rows[0].up))
    grid = [_grid(width, height, 1, "fine"), _grid(width, height, BOX, "coarse")]
    drawn = [part for row, zero in zip(rows, zeros, strict=True) for part in _drawn(row, zero, rate, ends)]
    names = [
        text(MM * (left + 1), MM * (zero - row.up + 4), name, "start", "lead")
        for row, zero in zip(rows, zeros, strict=True)
        for (name, _), left in zip(row.cells, row.edges(rate), strict=False)
    ]
    words = [text(2 * MM, MM * (height - 3), scale, "start", "scale"), *([text(MM * (width - 2), 7 * MM, mark, "end", "mark")] if mark else [])]
    return svg(MM * height, alt, [*grid, *drawn, *names, *words], MM * width)


def _grid(width: int, height: int, every: int, kind: str) -> Markup:
    """Lines down and across the sheet."""
    down = f"M0 0v{MM * height}" + f"m{MM * every}-{MM * height}v{MM * height}" * (width // every)
    across = f"M0 0h{MM * width}" + f"m-{MM * width} {MM * every}h{MM * width}" * (height // every)
    return Markup('<path class="{}" d="{}"/>').format(kind, down + across)


def _drawn(row: Row, zero: int, rate: float, ends: tuple[float, float]) -> list[Markup]:
    """The calibration pulse of a row, its traces, and a mark where one lead follows another."""
    thin = max(1, round(rate / POINTS))
    step = (MM * SPEED * thin / rate, float(MM * HEIGHT))
    pulse = Markup('<path class="pulse" d="M{} {}h{}v-{}h{}v{}h{}"/>')
    parts = [pulse.format(MM, MM * zero, MM, MM * HEIGHT, MM * PULSE, MM * HEIGHT, MM)]
    for k, ((_, lines), left) in enumerate(zip(row.cells, row.edges(rate), strict=False)):
        parts += [trace(x[::thin], (MM * left, MM * zero), step, ends, kind) for kind, x in lines]
        parts += [Markup('<path class="pulse" d="M{:g} {}v{}"/>').format(MM * left, MM * (zero - 2), 4 * MM)] if row.joined and k else []
    return parts
