"""Signals of any kind as lines: channels below each other, over time or samples."""

import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..terms import count, number
from .clouds import Cloud
from .plots import BOTTOM, RIGHT, TOP, WIDTH, Array, Axis, frame, span, svg, text

Lines = Sequence[tuple[str, Array]]
"""Kind and values (L,) of traces that are drawn over each other."""
Overlaid = Sequence[tuple[str, Lines]]
"""What stands over each strip, and kind and values (C, L) of the signals that are drawn over each other there."""
CHANNELS = 8
"""Most channels drawn of a signal."""
ROOM, LEFT = (26, 80), 10
"""Height of a channel, at least and at most; room before its first sample."""
POINTS = 250
"""About so many samples are drawn of a long signal."""


class Channels:
    """Draws signals that are alike: channels below each other, on one scale.

    Args:
        test: Held-out signals (n, C, L).
    """

    def __init__(self, test: Cloud) -> None:
        channels, self.length = test.x.shape[1:]
        self.names = test.columns[:CHANNELS] if len(test.columns) == channels else tuple(f"channel {k + 1}" for k in range(min(channels, CHANNELS)))
        x = test.finite.reshape(-1, channels, self.length)[:, :CHANNELS]
        self.rate, self.scale = test.rate, span(np.quantile(x, (0.001, 0.999)) if x.size else x)
        scale = f"on one scale from {number(self.scale[0])} to {number(self.scale[1])} {test.unit}".rstrip()
        among = f"The first {CHANNELS} of {channels} channels" if channels > CHANNELS else count(channels, "channel")
        axis = "seconds" if self.rate else "samples"
        self.told = f"{among}, {scale}; below, {axis}."
        self.told_of_strips = f"Drawn: {self.names[0]}, {scale}; below, {axis}."
        self.size = "images"

    def record(self, x: Array, alt: str, mark: str = "") -> Markup:
        """A signal (C, L); the mark stands over it."""
        return self._drawn([(name, [("trace", channel)]) for name, channel in zip(self.names, x, strict=False)], alt, mark)

    def overlaid(self, signals: Overlaid, alt: str, mark: str = "") -> Markup:
        """Signals over each other, a strip for each set of them: their first channel."""
        return self._drawn([(head, [(kind, x[0]) for kind, x in lines]) for head, lines in signals], alt, mark)

    def _drawn(self, rows: Sequence[tuple[str, Lines]], alt: str, mark: str) -> Markup:
        room = min(max(ROOM[0], 160 // len(rows)), ROOM[1])
        top = TOP + 12
        height = top + room * len(rows) + BOTTOM
        time = Axis(0.0, self.length / (self.rate or 1.0), LEFT, WIDTH - RIGHT)
        thin = max(1, self.length // POINTS)
        parts = frame(time, Axis(0.0, 1.0, height - BOTTOM, top), ticks_y=False)
        for k, (name, lines) in enumerate(rows):
            value = Axis(*self.scale, top + (k + 1) * room, top + k * room)
            step = (thin * (time.end - time.start) / self.length, value(0.0) - value(1.0))
            parts += [trace(x[::thin], (LEFT, value(0.0)), step, (top, height - BOTTOM), kind) for kind, x in lines]
            parts.append(text(LEFT + 2, value.end + 8, name, "start", "lead"))
        return svg(height, alt, [*parts, *([text(WIDTH - RIGHT, 9, mark, "end", "mark")] if mark else [])])


def trace(signal: Array, at: tuple[float, float], step: tuple[float, float], ends: tuple[float, float], kind: str) -> Markup:
    """A signal as a line, cut off at the ends and broken where it is no number; in relative steps of whole tenths, whose rounding does not add up.

    Args:
        signal: Values (L,).
        at: Where its first sample lies if it is zero.
        step: Units of the view box to the right for each sample, and up for each unit of the signal.
        ends: Top and bottom.
        kind: Class of the line.
    """
    known = np.flatnonzero(np.isfinite(signal))
    y = np.clip(at[1] - step[1] * signal[known].astype(np.float64), *ends)
    tenths = np.rint(10 * np.stack([at[0] + step[0] * known, y], 1)).astype(int)
    runs = np.split(tenths, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else []
    return Markup('<path class="{}" d="{}"/>').format(
        kind, "".join("M" + _numbers(run[:1]) + "l" * (len(run) > 1) + _numbers(np.diff(run, axis=0)) for run in runs)
    )


def _numbers(tenths: NDArray[np.int_]) -> str:
    """Tenths as a path writes them, as short as can be."""
    return re.sub(r"\b0\.", ".", " ".join(f"{v / 10:g}" for v in tenths.ravel())).replace(" -", "-")
