"""What is done to a signal before it is learned from: rate, band, windows, scale. Signals are (..., samples), time last."""

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import BadData

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Transform

Resampler = Literal["poly", "zoom"]
Short = Literal["drop", "pad"]


def resample(x: np.ndarray, rate: float, new_rate: float, how: Resampler = "poly") -> np.ndarray:
    """Signals (..., samples) at another rate, float32.

    Args:
        x: Signals (..., samples).
        rate, new_rate: In Hz.
        how: "poly" filters what the new rate cannot hold before it takes samples out. "zoom" is the cubic spline without a
            filter of some published pipelines, for comparison with them: a sine of 70 Hz comes out as one of 30 Hz at 100 Hz.

    Raises:
        BadData: A rate is not positive, or an unknown way.
    """
    if not (0 < rate < np.inf and 0 < new_rate < np.inf):
        raise BadData(f"expected sampling rates above 0 Hz, got {rate:g} and {new_rate:g}; give the rate of the recordings")
    if how not in ("poly", "zoom"):
        raise BadData(f"unknown resampler '{how}'; known are: poly, zoom")
    if rate == new_rate:
        return np.asarray(x, np.float32)
    from scipy import ndimage, signal  # not above: every command loads the tasks' names

    if how == "zoom":
        return ndimage.zoom(np.asarray(x, np.float64), (*(1,) * (x.ndim - 1), new_rate / rate)).astype(np.float32)
    ratio = Fraction(new_rate / rate).limit_denominator(10_000)
    return signal.resample_poly(np.asarray(x, np.float64), ratio.numerator, ratio.denominator, axis=-1, padtype="line").astype(np.float32)


def check_band(rate: float, low: float, high: float) -> None:
    """Make sure that signals of `rate` can hold these frequencies, all in Hz. Raises BadData."""
    if not 0 < low < high < rate / 2:
        mend = "give the lower edge first" if low >= high else "raise the lower edge" if low <= 0 else "lower the upper edge"
        raise BadData(f"expected a band within 0 and {rate / 2:g} Hz, half the sampling rate, got {low:g} to {high:g}; {mend}")


def band_pass(x: np.ndarray, rate: float, low: float = 0.5, high: float = 40.0, order: int = 3) -> np.ndarray:
    """Signals (..., samples) between two frequencies, by a Butterworth filter run forwards and backwards: no phase, float32.

    Args:
        x: Signals (..., samples).
        rate: In Hz.
        low, high: Where the filter, as it is run twice, has halved the amplitude (-6 dB), in Hz.
        order: Of the filter; run twice, it has twice the order.

    Raises:
        BadData: The band does not fit the rate, or signals too short to filter.
    """
    check_band(rate, low, high)
    from scipy import signal

    sos = signal.butter(order, (low, high), "bandpass", fs=rate, output="sos")
    least = 3 * (2 * len(sos) + 1) + 1
    if x.shape[-1] < least:
        raise BadData(f"expected at least {least} samples to filter, got {x.shape[-1]}; take longer records")
    return signal.sosfiltfilt(sos, np.asarray(x, np.float64), axis=-1).astype(np.float32)


def mirrored(x: np.ndarray, length: int) -> np.ndarray:
    """Signals (..., samples) of at least `length` samples: shorter ones go on as their mirror images, as far before as after.

    Raises:
        BadData: No samples to mirror.
    """
    if (missing := length - x.shape[-1]) <= 0:
        return x
    if x.shape[-1] == 0:
        raise BadData("expected samples to mirror, got none; leave the record out")
    return np.pad(x, [*[(0, 0)] * (x.ndim - 1), (missing // 2, missing - missing // 2)], mode="symmetric")


def windows(x: np.ndarray, length: int, step: int | None = None) -> np.ndarray:
    """All windows (..., m, length) of signals (..., samples), `step` samples apart, by default a length; a rest at the end is left out.

    Raises:
        BadData: Signals shorter than a window.
    """
    if not 0 < length <= x.shape[-1]:
        raise BadData(f"expected records of at least {length} samples, the window, got {x.shape[-1]}; take shorter windows, or mirror the records")
    return sliding_window_view(x, length, axis=-1)[..., :: step or length, :]


def fit_scaler(x: "Tensor | np.ndarray", per: Literal["lead", "all"] = "lead") -> "Transform":
    """Mean 0 and deviation 1, fitted on training data of the source and used on all others.

    Args:
        x: Signals (n, leads, samples).
        per: "lead" standardises each by its own mean and deviation, "all" takes one mean and one deviation for all numbers.

    Raises:
        BadData: Signals of another shape, not finite or constant, or an unknown way.
    """
    import torch  # not above: a report measures electrocardiograms without it

    from ..data import Transform

    x = torch.as_tensor(x)
    if x.ndim != 3 or not x.numel() or not bool(torch.isfinite(x).all()):
        raise BadData(f"expected finite signals (n, leads, samples), got shape {tuple(x.shape)} or values that are not finite; drop such records")
    if per == "lead":
        return Transform.fit(x)
    if per != "all":
        raise BadData(f"unknown scaler '{per}'; known are: lead, all")
    variance, mean = torch.var_mean(x.double())
    if not variance > 0:
        raise BadData("expected signals that vary, got constant ones; take other records")
    return Transform(mean.float(), variance.sqrt().float())
