"""A sweep of guidance weights: a table for the terminal, and one page with a plot for each score."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..files import atomic_file
from ..terms import direction, metric_title, number
from .plots import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, frame, path, svg, value_axis
from .template import filled

Rows = list[dict[str, Any]]


def table(rows: Rows) -> str:
    """Weights as rows, scores as columns, the floor last."""
    names = list(rows[0]["metrics"])
    lines = [f"{'weight':<8}" + "".join(f"{name:>14}" for name in names)]
    for row in rows:
        lines.append(f"{row['weight']:<8g}" + "".join(f"{number(row['metrics'][name]['value']):>14}" for name in names))
    return "\n".join([*lines, f"{'floor':<8}" + "".join(f"{number(rows[0]['metrics'][name]['floor']):>14}" for name in names)])


def page(rows: Rows, out: Path, title: str, kept: float) -> Path:
    """Write the sweep as one HTML file that needs no other."""
    names = list(rows[0]["metrics"])
    shown = filled(
        "sweep.html.j2",
        title=title,
        kept=kept,
        metrics=[(metric_title(m), direction(m)) for m in names],
        plots=[(metric_title(m), direction(m), plot(rows, m)) for m in names],
        rows=[(f"{row['weight']:g}", [number(row["metrics"][m]["value"]) for m in names]) for row in rows],
        floor=[number(rows[0]["metrics"][m]["floor"]) for m in names],
    )
    with atomic_file(out) as partial:
        partial.write_text(shown, encoding="utf-8")
    return out


def plot(rows: Rows, metric: str) -> Markup:
    """One score over the weights, the floor as a dashed line."""
    height = 0.72 * WIDTH
    points = sorted((float(row["weight"]), float(row["metrics"][metric]["value"])) for row in rows)
    floor = float(rows[0]["metrics"][metric]["floor"])
    x = Axis(points[0][0], points[-1][0], LEFT, WIDTH - RIGHT - 4)
    y = value_axis([v for _, v in points] + [floor], height - BOTTOM, TOP)
    marks = [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"/>').format(x(w), y(v)) for w, v in points]
    parts = [*frame(x, y), path([(x.start, y(floor)), (x.end, y(floor))], "floor"), path([(x(w), y(v)) for w, v in points], "loss"), *marks]
    return svg(height, f"{metric_title(metric)} at each weight", parts)
