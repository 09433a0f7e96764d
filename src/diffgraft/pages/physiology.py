"""What is measured of electrocardiograms, drawn: how each quantity is distributed among samples, over held-out records."""

from dataclasses import replace

import numpy as np

from ..errors import BadData
from ..terms import metric_title
from . import plots
from .clouds import Cloud, Shown
from .figures import Figure, Panel
from .plots import Array
from .records import Entry

MOST = 300
"""Most records of a cloud that are measured."""
FEWEST = 10
"""Fewest records whose distribution is drawn."""
LINES = 3
"""Most methods in a plot."""
MIDDLE = (0.05, 0.95)
"""Plots reach over this part of the records and of each method's samples, and somewhat beyond."""
BINS = 20
SIZE = "small many"
"""All quantities beside each other."""
UNITS = {"heart_rate": "beats a minute", "rr_variability": "deviation over mean", "qrs_duration": "ms", "pr_interval": "ms", "qt_interval": "ms"}
"""Of each quantity; others have the signals' own."""

Measured = dict[str, Array]
"""Quantities of records, each (n,), nan where one could not be measured."""


def physiology_figures(data: Shown) -> list[Figure]:
    """A figure for each few methods, with a plot a quantity; nothing where these are no electrocardiograms that can be measured."""
    real = measured(data.test, data.test)
    drawn = [name for name, values in real.items() if len(_known(values)) >= FEWEST]
    if not drawn or not data.methods:
        return []
    methods = [(e, measured(c, data.test)) for e, c in data.methods]
    frames = {name: _frame([real[name], *(found[name] for _, found in methods if name in found)]) for name in drawn}
    parts = [methods[k : k + LINES] for k in range(0, len(methods), LINES)]
    figures = [Figure("", [_panel(name, real, part, frames[name], data.test.unit) for name in drawn], SIZE, keys=[e for e, _ in part]) for part in parts]
    caption = (
        f"What is measured of electrocardiograms (seed {data.seed}), of up to {MOST} held-out records and as many samples of each method. Filled: held-out "
        f"target records; lines: samples. Below each name stands in what share of records and samples it could be measured; with fewer than {FEWEST} there "
        "is no line. Scales hold the middle 90 % of records and of each method's samples: what lies farther off is not seen."
    )
    return [*figures[:-1], replace(figures[-1], caption=caption)]


def measured(cloud: Cloud, test: Cloud) -> Measured:
    """Quantities of some records, evenly from first to last since samples may be sorted by label; leads and rate are those of `test`.

    Nothing where there is no rate, lead II does not follow from the leads, or records are too short.
    """
    whole = cloud.x[np.isfinite(cloud.x).reshape(len(cloud.x), -1).all(1)]
    if test.x.ndim != 3 or test.rate is None or len(test.columns) != test.x.shape[1] or not len(whole):
        return {}
    from ..ecg.physiology import measure  # not above: pages of other data start sooner

    rows = np.linspace(0, len(whole) - 1, min(MOST, len(whole))).round().astype(int)
    try:
        return measure(whole[rows], test.columns, test.rate)
    except BadData:
        return {}


def _known(values: Array) -> Array:
    return values[np.isfinite(values)]


def _frame(clouds: list[Array]) -> tuple[float, float]:
    """A range that holds the middle of each cloud, with a margin."""
    ends = [np.quantile(known, MIDDLE) for values in clouds if len(known := _known(values)) >= FEWEST]
    return plots.span(np.concatenate(ends), 0.15)


def _panel(name: str, real: Measured, methods: list[tuple[Entry, Measured]], frame: tuple[float, float], unit: str) -> Panel:
    """A quantity of a few methods, over that of held-out records."""
    found = [(e, quantities.get(name, np.empty(0))) for e, quantities in methods]
    shares = [round(100 * len(_known(values)) / max(1, len(values))) for values in (real[name], *(values for _, values in found))]
    told = f"{min(shares)} to {max(shares)} %" if min(shares) < max(shares) else f"{shares[0]} %"
    lines = [(e.style, known) for e, values in found if len(known := _known(values)) >= FEWEST]
    plot = plots.histogram(_known(real[name]), lines, frame, f"Distribution of {metric_title(name)} of {len(lines)} methods and held-out records", bins=BINS)
    return Panel(plot, metric_title(name), note=", ".join(filter(None, (UNITS.get(name, unit), told))))
