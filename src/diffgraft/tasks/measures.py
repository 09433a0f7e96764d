"""What is measured of each record of a task of electrocardiograms, for metrics."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ..ecg.leads import combination
from ..errors import BadData


def measures(leads: Sequence[str], rate: float) -> Callable[[Tensor], dict[str, np.ndarray]] | None:
    """A map from records (n, leads, samples) to quantities of each (n,), see `ecg.physiology.measure`; None where no lead II follows from the leads."""
    try:
        combination(leads, ("II",))
    except BadData:
        return None

    def measured(x: Tensor) -> dict[str, np.ndarray]:
        from ..ecg.physiology import measure  # not above: commands that score nothing start sooner

        return measure(x.cpu().numpy(), leads, rate)

    return measured
