"""Small plots as inline SVG, one panel each, so that a page lays them out for any width.

Lines and text take `currentColor` and a method's marks `var(--c)`, which the page's style sets for light, dark and print. Text from
records goes through `Markup.format`, which escapes it. Lengths are in units of the view box, WIDTH wide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

Array = NDArray[np.floating]
Line = Sequence[tuple[float, float]]

WIDTH = 220
LEFT, RIGHT, TOP, BOTTOM = 34, 6, 6, 22
STROKES = 12
"""A scatter is drawn in this many strokes: marks of different strokes darken each other, so dense places show."""

ROW = 20
"""Height of a method's row."""
TALLEST = 2.5
"""A line of a histogram is cut off at this many times the height of the reference."""


@dataclass(frozen=True)
class Axis:
    """A range of values on a range of the view box.

    Args:
        lo, hi: Values at the ends.
        start, end: Where the ends lie.
        log: Logarithmic, for positive ends.
    """

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        f = math.log10 if self.log else float
        return self.start + (f(value) - f(self.lo)) / (f(self.hi) - f(self.lo)) * (self.end - self.start)

    def ticks(self, n: int = 4) -> list[float]:
        """About n round values inside the range."""
        if self.log:
            low, high = math.floor(math.log10(self.lo)), math.ceil(math.log10(self.hi))
            skip = max(1, math.ceil((high - low) / n))
            for multiples in ((1,), (1, 3), (1, 2, 5)):
                found = [m * 10.0**k for k in range(low, high + 1, skip) for m in multiples if self.lo <= m * 10.0**k <= self.hi]
                if len(found) >= 2:
                    return found
        step = nice((self.hi - self.lo) / n)
        first = math.ceil(self.lo / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.hi / step + 1e-9) + 1)]


def nice(step: float) -> float:
    """The next round step: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * 0.999)


def span(values: "Sequence[float] | Array", margin: float = 0.06) -> tuple[float, float]:
    """The finite range of values, with a margin; of some width even where they are all equal."""
    a = np.asarray(values, dtype=float)
    a = a[np.isfinite(a)]
    lo, hi = (float(a.min()), float(a.max())) if a.size else (0.0, 1.0)
    pad = margin * (hi - lo) or 0.5 * abs(lo) or 1.0
    return lo - pad, hi + pad


def value_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis for values: logarithmic where they are positive and differ by more than a factor of three."""
    finite = [v for v in values if math.isfinite(v)]
    if finite and min(finite) > 0 and max(finite) > 3 * min(finite):
        lo, hi = span(np.log10(finite))
        return Axis(10**lo, 10**hi, start, end, log=True)
    return Axis(*span(finite), start, end)


def svg(height: float, alt: str, parts: Sequence[Markup], width: float = WIDTH) -> Markup:
    """One panel; `alt` is what it shows, in words."""
    head = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(width, height, alt)
    return head + Markup("").join(parts) + Markup("</svg>")


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> Markup:
    """A word or number."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, words)


def path(points: Line, kind: str) -> Markup:
    """A line through points of the view box; nothing of none."""
    if not points:
        return Markup("")
    return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{x:.1f} {y:.1f}" for x, y in points))


def tick_text(v: float) -> str:
    """How an axis writes a value."""
    small = f"{v:.4g}"
    return small if len(small) <= 6 and "e" not in small else f"{v:.0e}".replace("e-0", "e-").replace("e+0", "e")


def frame(x: Axis, y: Axis, ticks_y: bool = True, n: int = 4) -> list[Markup]:
    """Faint grid, ticks and base line of a panel."""
    parts = []
    for v in x.ticks(n):
        parts += [path([(x(v), y.start), (x(v), y.end)], "grid"), text(x(v), y.start + 15, tick_text(v))]
    for v in y.ticks(n) if ticks_y else []:
        parts += [path([(x.start, y(v)), (x.end, y(v))], "grid"), text(x.start - 4, y(v) + 4, tick_text(v), "end")]
    return [*parts, path([(x.start, y.start), (x.end, y.start)], "axis")]


def axes(x_range: tuple[float, float], y_range: tuple[float, float], height: float = WIDTH) -> tuple[Axis, Axis]:
    """Axes of a panel for these ranges."""
    return Axis(*x_range, LEFT, WIDTH - RIGHT), Axis(*y_range, height - BOTTOM, TOP)


def within(points: Array, x_range: tuple[float, float], y_range: tuple[float, float]) -> NDArray[np.bool_]:
    """Which points of the plane lie inside these ranges; those that are not finite don't."""
    low, high = zip(x_range, y_range, strict=True)
    return np.all((points >= low) & (points <= high), axis=1)


def scatter(points: Array, x_range: tuple[float, float], y_range: tuple[float, float], alt: str) -> Markup:
    """Points in the plane; those outside the ranges are left out."""
    x, y = axes(x_range, y_range)
    inside = points[within(points, x_range, y_range)]
    size = "few" if len(points) <= 300 else "many"
    strokes = [inside[k::STROKES] for k in range(STROKES)] if size == "many" else [inside]
    parts = [Markup('<path class="dots {}" d="{}"/>').format(size, "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in part)) for part in strokes if len(part)]
    return svg(WIDTH, alt, [*frame(x, y), *parts])


def overlaid(clouds: Sequence[tuple[str, Array]], x_range: tuple[float, float], y_range: tuple[float, float], alt: str) -> Markup:
    """Points (kind, (n, 2)) of the plane over each other, within a frame without ticks."""
    x, y = Axis(*x_range, 1, WIDTH - 1), Axis(*y_range, WIDTH - 1, 1)
    outline = Markup('<rect class="outline" x="1" y="1" width="{0}" height="{0}"/>').format(WIDTH - 2)
    marks = [Markup('<path class="{}" d="{}"/>').format(kind, "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in cloud)) for kind, cloud in clouds]
    return svg(WIDTH, alt, [outline, *marks])


def curves(loss: Sequence[Line], held_out: Sequence[Line], alt: str) -> Markup:
    """Training loss, and held-out loss with its checks marked."""
    height = 0.72 * WIDTH
    lines = [*loss, *held_out]
    y_axis = value_axis([v for line in lines for _, v in line], height - BOTTOM, TOP)
    x_axis = Axis(0.0, max((step for line in lines for step, _ in line), default=1) or 1, LEFT, WIDTH - 10)
    parts = frame(x_axis, y_axis)
    for kind, group in (("loss", loss), ("held-out", held_out)):
        for line in group:
            shown = [(x_axis(step), y_axis(v)) for step, v in line if math.isfinite(v)]
            parts += [path(shown, kind)] if shown else []
    return svg(height, alt, parts)


def histogram(
    reference: Array, clouds: Sequence[tuple[str, Array]], x_range: tuple[float, float], alt: str, *, bins: int = 30, ticks: Sequence[float] | Array = ()
) -> Markup:
    """Density of one feature: the reference filled, each cloud a line in its style, cut off far above the reference.

    Args:
        reference: Real values.
        clouds: Style and values of each line.
        x_range: Ends of the axis.
        alt: What it shows, in words.
        bins: How many.
        ticks: Values to mark below the axis, in the style of the last line.
    """
    height = 0.6 * WIDTH
    edges = np.linspace(*x_range, bins + 1)
    width = edges[1] - edges[0]
    shares = [np.histogram(a, edges)[0] / max(1, len(a)) / width for a in (reference, *(a for _, a in clouds))]
    highest = max(float(s.max()) for s in shares)
    top = min(highest, TALLEST * float(shares[0].max())) or highest or 1.0
    x_axis, y_axis = axes(x_range, (0.0, 1.05 * top), height)
    lines = [(style, path(_steps(edges, np.minimum(s, top), x_axis, y_axis), "step")) for (style, _), s in zip(clouds, shares[1:], strict=True)]
    marks = [path([(x_axis(v), y_axis(0)), (x_axis(v), y_axis(0) + 5)], "step") for v in ticks if x_range[0] <= v <= x_range[1]]
    lines += [(clouds[-1][0], Markup("").join(marks))] if marks else []
    drawn = [Markup('<g class="{}">{}</g>').format(*line) for line in lines]
    filled = path(_steps(edges, np.minimum(shares[0], top), x_axis, y_axis), "filled")
    return svg(height, alt, [filled, *drawn, *frame(x_axis, y_axis, ticks_y=False)])


def _steps(edges: Array, shares: Array, x: Axis, y: Axis) -> Line:
    tops = [(x(e), y(s)) for k, s in enumerate(shares) for e in (edges[k], edges[k + 1])]
    return [(x(edges[0]), y(0)), *tops, (x(edges[-1]), y(0))]


def bars(names: Sequence[str], shares: Sequence[float], reference: Sequence[float], alt: str) -> Markup:
    """Shares of labels as bars, a reference's as lines across them."""
    height = 0.6 * WIDTH
    y = Axis(0.0, max(*shares, *reference, 1e-12) * 1.08, height - BOTTOM, TOP)
    room = (WIDTH - LEFT - RIGHT) / len(names)
    parts = [path([(LEFT, y(v)), (WIDTH - RIGHT, y(v))], "grid") + text(LEFT - 4, y(v) + 4, f"{100 * v:g}%", "end") for v in y.ticks(4)]
    every = math.ceil(len(names) / 16)
    for k, name in enumerate(names):
        left = LEFT + k * room
        box = (left + 0.15 * room, y(shares[k]), 0.7 * room, y.start - y(shares[k]))
        parts.append(Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(*box))
        parts.append(path([(left, y(reference[k])), (left + room, y(reference[k]))], "rule"))
        parts += [text(left + room / 2, y.start + 15, name)] if k % every == 0 else []
    return svg(height, alt, [*parts, path([(LEFT, y.start), (WIDTH - RIGHT, y.start)], "axis")])


def dots(rows: Sequence[tuple[str, str, list[float], float]], base: float | None, alt: str) -> Markup:
    """Scores of one metric: a row a method with (name, style, values, mean), and the floor as a line down."""
    left, width, height = _room([name for name, *_ in rows])
    values = [v for row in rows for v in row[2]]
    x = value_axis(values if base is None else [*values, base], left, width - 14)
    y = Axis(0.0, 1.0, height - BOTTOM, TOP)
    parts = frame(x, y, ticks_y=False)
    if base is not None:
        parts.append(path([(x(base), y.start), (x(base), TOP)], "floor"))
    for k, (name, style, seeds, centre) in enumerate(rows):
        middle = TOP + (k + 0.5) * ROW
        marks = [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(x(v), middle) for v in seeds if math.isfinite(v)]
        bar = path([(x(centre), middle - 7), (x(centre), middle + 7)], "mean") if len(marks) > 1 and math.isfinite(centre) else Markup("")
        parts += [text(left - 8, middle + 4, name, "end", "name"), Markup('<g class="{}">{}{}</g>').format(style, Markup("").join(marks), bar)]
    return svg(height, alt, parts, width)


def intervals(rows: Sequence[tuple[str, str, float | None, float, float | None]], ends: tuple[float, float], alt: str) -> Markup:
    """A row a method with (name, style, low, value, high): a dot on the line of its interval, where there is one.

    Args:
        rows: The methods.
        ends: Of the axis.
        alt: What it shows, in words.
    """
    left, width, height = _room([name for name, *_ in rows])
    x, y = Axis(*ends, left, width - 14), Axis(0.0, 1.0, height - BOTTOM, TOP)
    parts = frame(x, y, ticks_y=False)
    for k, (name, style, low, value, high) in enumerate(rows):
        middle = TOP + (k + 0.5) * ROW
        line = Markup("") if low is None or high is None else path([(x(low), middle), (x(high), middle)], "interval")
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(x(value), middle)
        parts += [text(left - 8, middle + 4, name, "end", "name"), Markup('<g class="{}">{}{}</g>').format(style, line, dot)]
    return svg(height, alt, parts, width)


def _room(names: Sequence[str]) -> tuple[float, float, float]:
    """Left edge, width and height of a plot with a row for each of these names."""
    left = 14 + 6.6 * max(map(len, names))
    return left, left + 190, ROW * len(names) + TOP + BOTTOM
