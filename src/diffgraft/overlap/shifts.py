"""How two data sets differ feature by feature, and what single columns are unfit for.

A table is compared column by column. A signal or image is compared by the mean of each channel and by its contrast, the
standard deviation within the sample.
"""

from typing import Any

from torch import Tensor

from ..domain import channel_stats
from ..errors import BadData

FEW_VALUES = 10
"""A column with no more distinct values than this gets a note: samples of a diffusion model are continuous."""


def column_names(width: int, columns: tuple[str, ...] | None = None) -> list[str]:
    """Names of a table's features, "feature 3" where they have none (counted from 0).

    Raises:
        BadData: There are more or fewer names than features.
    """
    if columns is not None and len(columns) != width:
        raise BadData(f"columns must name every feature, expected {width} names, got {len(columns)}; pass one a feature, or None")
    return list(columns) if columns is not None else [f"feature {k}" for k in range(width)]


def summary(x: Tensor, names: list[str]) -> tuple[Tensor, list[str]]:
    """The features by which samples (n, *) are compared, (n, F), and their names: columns, or mean and contrast of channels, from theirs."""
    if x.ndim == 2:
        return x, names
    return channel_stats(x), [f"{name} {what}" for what in ("mean", "contrast") for name in names]


def shifts(source: Tensor, target: Tensor, names: list[str]) -> list[dict[str, Any]]:
    """Per-feature comparison, the largest Kolmogorov-Smirnov statistic first.

    Args:
        source, target: Features (n, F) and (m, F).
        names: Of the features.

    Returns:
        For each `feature` (with its `index`): `mean_difference` in source standard deviations and `std_ratio` target over
        source (None where the source is constant), the two-sample statistic `ks` and its asymptotic `p`.
    """
    from scipy.stats import ks_2samp

    rows = []
    for k, name in enumerate(names):
        a, b = (z[:, k].double().cpu().numpy() for z in (source, target))
        spread = a.std(ddof=1)
        test = ks_2samp(a, b, method="asymp")
        moved = round(float((b.mean() - a.mean()) / spread), 4) if spread else None
        wider = round(float(b.std(ddof=1) / spread), 4) if spread else None
        p = float(f"{test.pvalue:.3g}")
        rows.append({"feature": name, "index": k, "mean_difference": moved, "std_ratio": wider, "ks": round(float(test.statistic), 4), "p": p})
    return sorted(rows, key=lambda row: -row["ks"])


def constant_columns(x: Tensor, names: list[str]) -> list[str]:
    """Names of the columns of a table (n, D) that hold one value, over all of its rows; none of a signal or image."""
    if x.ndim > 2:
        return []
    return [name for name, same in zip(names, (x.amin(0) == x.amax(0)).tolist(), strict=True) if same]


def discrete_columns(x: Tensor, names: list[str]) -> dict[str, int]:
    """Columns of a table (n, D) with 2 to `FEW_VALUES` distinct values, and how many; none of a signal or image."""
    if x.ndim > 2:
        return {}
    counts = {name: len(x[:, k].unique()) for k, name in enumerate(names)}
    return {name: n for name, n in counts.items() if 1 < n <= FEW_VALUES}
