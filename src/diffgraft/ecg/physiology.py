r"""What a physician measures of an electrocardiogram: heart rate, its variability, and the intervals of a median beat.

1. A heart beat is where the energy of the slope peaks: signals between 5 and 20 Hz, differentiated, squared, summed over leads and over
   a window of 160 ms (Pan and Tompkins). RR intervals lie between beats.
2. Beats are laid over each other, and their median at each instant is the median beat, without most of the noise.
3. The QRS complex is where the steepness of the beat, the root of the summed squared slopes of all leads, is high: from its steepest
   places down to a share of the greatest steepness, or to where it rises again. So a wide complex shows in whichever lead sees it.
4. The P wave begins and the T wave ends where the tangent at the steepest place of its flank meets the level before the QRS complex
   (Lepeschkin and Surawicz): two standard deviations from the middle of a wave that is a Gaussian bump. P is looked for in lead II, T along
   the direction of the leads in which it is largest. In atrial fibrillation, which has no P waves, a wave of the atria often stands in.

Nothing depends on the unit of the signals. neurokit2 0.2.12 was tried in place of this: it reads one lead, so bundle branch blocks of PTB-XL came
out with narrow complexes and long QT intervals as usual ones, and all but one of its delineators failed on records of 2.56 s.

References:
    Pan, Tompkins, A Real-Time QRS Detection Algorithm, 1985, IEEE Transactions on Biomedical Engineering 32(3).
    Lepeschkin, Surawicz, The Measurement of the Q-T Interval of the Electrocardiogram, 1952, Circulation 6(3).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from .leads import canonical, complete, einthoven
from .signals import band_pass

Array = NDArray[np.floating]

FASTEST = (5.0, 20.0)
"""Hz between which QRS complexes stand out of all else."""
WINDOW, REFRACTORY, PIECE = 0.16, 0.25, 1.25
"""Seconds over which energy is summed, that two beats are apart at least, and of the pieces that the usual height of peaks is taken over."""
HEIGHT = 0.3
"""Least height of a peak, as a share of the usual one."""
INTERVALS = 3
"""Fewest RR intervals that tell of variability."""
BEFORE, AFTER = 0.45, 0.65
"""Seconds of a median beat."""
QRS_BEFORE, QRS_AFTER = 0.12, 0.15
"""Seconds around the middle of a beat within which its QRS complex has its steep places."""
STEEP, LEAST = 0.2, 0.12
"""Shares of the greatest steepness: of places that belong to the QRS complex, and where it begins and ends."""
P_BEFORE, P_FLANK, P_SIZE = 0.26, 0.1, 0.02
"""Seconds before the QRS complex in which P waves peak, and of their rise; least prominence as a share of the range of the beat."""
T_AFTER, T_UNTIL, T_FLANK = 0.06, 0.55, 0.2
"""Seconds from the end of the QRS complex, and from the middle of the beat, between which T waves peak, and of their fall."""
T_SHARE = 0.72
"""A T wave peaks before this share of the RR interval."""


def measure(x: np.ndarray, names: Sequence[str], rate: float) -> dict[str, Array]:
    """Quantities of signals, each (n,), nan where one cannot be measured.

    Args:
        x: Signals (n, leads, samples).
        names: Of the leads; II among them, or two limb leads that give it.
        rate: In Hz, above 80.

    Returns:
        `heart_rate` in beats a minute, from the mean RR interval; `rr_variability`, the standard deviation of RR intervals over their mean,
        of three intervals or more; `qrs_duration`, `pr_interval` and `qt_interval` in ms; and where I, II and III are all there, `einthoven`,
        the root mean square of I + III - II in the signals' unit.

    Raises:
        BadData: Leads without II, a rate too low, or signals too short to filter.
    """
    second = complete(x, names, ("II",))[:, 0]
    smooth = band_pass(np.concatenate([second[:, None], x], 1), rate)
    energy = _energy(x, rate)
    rows = [_record(s, e, rate) for s, e in zip(smooth, energy, strict=True)]
    found = dict(zip(("heart_rate", "rr_variability", "qrs_duration", "pr_interval", "qt_interval"), np.array(rows).T, strict=True))
    if {"I", "II", "III"} <= {canonical(name) for name in names}:
        found["einthoven"] = np.sqrt((einthoven(x, names) ** 2).mean(-1))
    return found


def _record(x: Array, energy: Array, rate: float) -> tuple[float, ...]:
    """The five quantities of a record, its leads after lead II (1 + leads, samples)."""
    at = _beats(energy, rate)
    if len(at) < 2:
        return (np.nan,) * 5
    rr = np.diff(at) / rate
    varies = rr.std(ddof=1) / rr.mean() if len(rr) >= INTERVALS else np.nan
    return 60 / rr.mean(), varies, *(1000 / rate * interval for interval in _intervals(x, at, rate))


def _energy(x: Array, rate: float) -> Array:
    """Slope energy of all leads (n, samples)."""
    steep = np.gradient(band_pass(x, rate, *FASTEST, order=1), axis=-1)
    window = signal.windows.hann(round(WINDOW * rate) + 1)
    return signal.convolve((steep**2).sum(1), window[None], mode="same")


def _beats(energy: Array, rate: float) -> NDArray[np.int_]:
    """Where beats are; the usual height of a peak is the median over pieces of the record, so that one large beat hides no other."""
    pieces = np.array_split(energy, max(1, int(len(energy) / rate / PIECE)))
    usual = float(np.median([piece.max() for piece in pieces]))
    return signal.find_peaks(energy, height=HEIGHT * usual, distance=round(REFRACTORY * rate))[0]


def _intervals(x: Array, at: NDArray[np.int_], rate: float) -> tuple[float, float, float]:
    """QRS duration, PR and QT interval of the median beat, in samples."""
    middle, after = round(BEFORE * rate), round(AFTER * rate)
    whole = [x[:, k - middle : k + after] for k in at if middle <= k <= x.shape[1] - after]
    if not whole:
        return (np.nan,) * 3
    beat = np.median(whole, 0)
    begin, end = _qrs(beat[1:], middle, rate)
    level = beat[:, [max(int(begin) - 1, 0)]]
    last = middle + round(min(T_UNTIL, T_SHARE * float(np.median(np.diff(at))) / rate) * rate)
    return end - begin, begin - _p_onset((beat - level)[0], int(begin), rate), _t_end((beat - level)[1:], int(end), last, rate) - begin


def _qrs(beat: Array, middle: int, rate: float) -> tuple[float, float]:
    """Where the QRS complex begins and ends, between samples."""
    steepness = np.sqrt((np.gradient(beat, axis=1) ** 2).sum(0))
    first, last = middle - round(QRS_BEFORE * rate), middle + round(QRS_AFTER * rate)
    greatest = steepness[first:last].max()
    steep = first + np.flatnonzero(steepness[first:last] >= STEEP * greatest)
    return _downhill(steepness, steep[0], -1, LEAST * greatest), _downhill(steepness, steep[-1], 1, LEAST * greatest)


def _downhill(z: Array, k: int, step: int, level: float) -> float:
    """Where values fall to a level on the way from k, or rise again, or end."""
    while 0 < k < len(z) - 1 and level <= z[k + step] < z[k]:
        k += step
    ahead = min(max(k + step, 0), len(z) - 1)
    return k + step * (z[k] - level) / (z[k] - z[ahead]) if z[ahead] < level <= z[k] else float(k)


def _p_onset(z: Array, begin: int, rate: float) -> float:
    """Where the most prominent peak before the QRS complex begins to rise."""
    first = max(begin - round(P_BEFORE * rate), 0)
    peaks, facts = signal.find_peaks(z[first:begin], prominence=P_SIZE * np.ptp(z))
    if not len(peaks):
        return np.nan
    peak = first + int(peaks[np.argmax(facts["prominences"])])
    return _tangent(z, peak, max(peak - round(P_FLANK * rate), 0))


def _t_end(beat: Array, end: int, last: int, rate: float) -> float:
    """Where the T wave has fallen, along the direction (leads,) in which it is largest."""
    first, last = end + round(T_AFTER * rate), min(last, beat.shape[1] - 1)
    if last - first < 2:
        return np.nan
    along = np.linalg.svd(beat[:, first:last], full_matrices=False)[0][:, 0] @ beat
    peak = first + int(np.abs(along[first:last]).argmax())
    return _tangent(along * np.sign(along[peak]), peak, min(peak + round(T_FLANK * rate), beat.shape[1] - 1))


def _tangent(z: Array, peak: int, foot: int) -> float:
    """Where the tangent at the steepest place between a peak and the foot of its flank meets zero; nan where it does so beyond the foot."""
    step = 1 if foot > peak else -1
    places = np.arange(peak, foot + step, step)
    fall = -step * np.gradient(z)[places]
    k = int(fall.argmax())
    if not fall[k] > 0:
        return np.nan
    way = abs(places[k] - peak) + z[places[k]] / fall[k]
    return float(peak + step * way) if 0 < way <= abs(foot - peak) else np.nan
