"""What is measured of each record of a task of electrocardiograms, for metrics."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ..data import Layout
from ..errors import BadData


def measures(layout: Layout, some: Tensor) -> Callable[[Tensor], dict[str, np.ndarray]] | None:
    """A map from records (n, leads, samples) to quantities of each (n,), see `ecg.physiology.measure`.

    None where nothing can be measured: no rate is known, lead II does not follow from the leads, or `some` records are too short.
    """
    if layout.rate is None or layout.columns is None or some.ndim != 3:
        return None
    leads, rate = layout.columns, layout.rate

    def measured(x: Tensor) -> dict[str, np.ndarray]:
        from ..ecg.physiology import measure  # not above: commands that score nothing start sooner

        return measure(x.cpu().numpy(), leads, rate)

    try:
        measured(some[:1])
    except BadData:
        return None
    return measured
