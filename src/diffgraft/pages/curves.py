"""Training curves: a small plot a network, from the log of the run."""

from ..terms import count
from . import plots
from .figures import Figure, Panel
from .records import Curve, Group, Run

LINES = "Coloured: training loss. Dotted: loss of the averaged weights on held-out points, where some are kept back. Each plot has its own scale."


def curve_figure(run: Run, group: Group) -> Figure | None:
    """Training curves of one seed: of the source model, then of each network of each method; None without a log."""
    by_id: dict[str, list[Curve]] = {}
    for curve in run.curves:
        by_id.setdefault(curve.id, []).append(curve)
    source = group.source
    for seed in group.seeds:
        panels = _panels(by_id.get(f"{group.label}-source-s{seed}", []), "source model", source.style if source else "")
        for e in group.entries:
            panels += _panels(by_id.get(str(e.records[seed]["id"]), []), e.name, e.style) if seed in e.records else []
        if panels:
            return Figure(f"Loss by training step (seed {seed}). {LINES}", panels)
    return None


def _panels(curves: list[Curve], title: str, style: str) -> list[Panel]:
    """One plot a network, in the order in which they were trained."""
    panels = []
    for c in curves:
        last = max((step for step, _ in [*c.loss, *c.held_out]), default=0)
        alt = f"Training curves of {title}, network {c.stage}, {last} steps"
        panels.append(Panel(plots.curves([c.loss], [c.held_out], alt), title, style, f"{c.stage}, {count(last, 'step')}"))
    return panels
