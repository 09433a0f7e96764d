"""The twelve leads of an ECG by name, their orders, and the algebra that gives twelve of eight.

Three electrodes on the limbs measure two independent voltages, and the six limb leads are combinations of them (Einthoven
1908, Goldberger 1942): with I and aVF,

    II = I/2 + aVF,   III = aVF - I/2,   aVR = -3/4 I - aVF/2,   aVL = 3/4 I - aVF/2.

So eight leads, any two of the limbs and V1 to V6, hold all that twelve hold. Signals are arrays or tensors
(..., leads, samples) in mV; leads are chosen by name, never by position, since files order them differently.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import BadData, nearest

if TYPE_CHECKING:
    from torch import Tensor

Signal = TypeVar("Signal", np.ndarray, "Tensor")

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", *CHEST)
"""All leads in the order of WFDB files."""
SSSD = ("I", "II", *CHEST, "III", "aVR", "aVL", "aVF")
"""All leads in the order of SSSD-ECG."""
EIGHT = ("I", *CHEST, "aVF")
"""The leads on which SSSD-ECG diffuses, in its order."""
EIGHT_OF_LIMBS = ("I", "II", *CHEST)
"""The eight leads that devices record."""
LIMB = {"I": (1.0, 0.0), "II": (0.5, 1.0), "III": (-0.5, 1.0), "aVR": (-0.75, -0.5), "aVL": (0.75, -0.5), "aVF": (0.0, 1.0)}
"""The limb leads as combinations of I and aVF."""
_KNOWN = {name.upper(): name for name in TWELVE}


def canonical(name: str) -> str:
    """The lead that a name stands for, whatever its case: AVR is aVR.

    Raises:
        BadData: It is none of the twelve.
    """
    if (known := _KNOWN.get(name.strip().upper())) is None:
        raise BadData(f"unknown lead '{name}'; {nearest(name.strip(), TWELVE)}")
    return known


def is_lead(name: str) -> bool:
    """Whether a name is one of the twelve leads'."""
    return name.strip().upper() in _KNOWN


def select(x: Signal, names: Sequence[str], wanted: Sequence[str] = TWELVE) -> Signal:
    """Leads (..., wanted, samples) of signals (..., names, samples), by name.

    Raises:
        BadData: A lead is missing, unknown or there twice, or the names are not as many as the leads.
    """
    own, wanted = _checked(x, names), [canonical(name) for name in wanted]
    if missing := [name for name in wanted if name not in own]:
        raise BadData(f"expected the leads {', '.join(wanted)}, missing {', '.join(missing)}; derive them by leads.complete, or leave the record out")
    return x[..., [own.index(name) for name in wanted], :]


def eight(x: Signal, names: Sequence[str] = TWELVE) -> Signal:
    """The leads I, V1 to V6, aVF, (..., 8, samples); derived where others of the limbs are there. Raises as `complete`."""
    return complete(x, names, EIGHT)


def twelve(x: Signal, names: Sequence[str] = EIGHT, order: Sequence[str] = TWELVE) -> Signal:
    """All twelve leads (..., 12, samples) of eight in another, in any order. Raises as `complete`."""
    return complete(x, names, order)


def complete(x: Signal, names: Sequence[str], wanted: Sequence[str] = TWELVE) -> Signal:
    """Leads `wanted`: those that are there as they are, those of the limbs that are not from two that are.

    Raises:
        BadData: A lead is missing and cannot be derived, is unknown or there twice.
    """
    own = _checked(x, names)
    weights = combination(own, wanted)
    if all(canonical(name) in own for name in wanted):
        return select(x, names, wanted)
    if isinstance(x, np.ndarray):
        return weights.astype(np.result_type(x.dtype, np.float32)) @ x
    return x.new_tensor(weights) @ x


def combination(names: Sequence[str], wanted: Sequence[str] = TWELVE) -> np.ndarray:
    """The matrix (wanted, names) that gives leads of others.

    Raises:
        BadData: A lead cannot be derived, or is unknown.
    """
    own, wanted = [canonical(name) for name in names], [canonical(name) for name in wanted]
    if missing := lacking(own, wanted):
        raise BadData(f"the leads {', '.join(missing)} are missing and no combination of {', '.join(own)}; leave the record out")
    pair = _pair(own)
    out = np.zeros((len(wanted), len(own)))
    for row, name in enumerate(wanted):
        for source, weight in _mix(name, pair).items() if name not in own and pair else {name: 1.0}.items():
            out[row, own.index(source)] = weight
    return out


def lacking(names: Sequence[str], wanted: Sequence[str] = TWELVE) -> list[str]:
    """Those of the leads `wanted` that are not among others and no combination of them."""
    own = [canonical(name) for name in names]
    return [name for name in map(canonical, wanted) if name not in own and (name not in LIMB or _pair(own) is None)]


def einthoven(x: Signal, names: Sequence[str] = TWELVE) -> Signal:
    """The residual I + III - II of Einthoven's law in mV, (..., samples): 0 where leads are what their names say. Raises as `select`."""
    limbs = select(x, names, ("I", "II", "III"))
    return limbs[..., 0, :] + limbs[..., 2, :] - limbs[..., 1, :]


def _checked(x: "np.ndarray | Tensor", names: Sequence[str]) -> list[str]:
    """The leads of signals by their usual names."""
    own = [canonical(name) for name in names]
    if x.ndim < 2 or x.shape[-2] != len(own):
        raise BadData(f"expected signals (..., {len(own)} leads, samples), got shape {tuple(x.shape)}; transpose them, or name their leads")
    if twice := sorted({name for name in own if own.count(name) > 1}):
        raise BadData(f"the lead {twice[0]} is there more than once; keep one of them")
    return own


def _pair(own: list[str]) -> tuple[str, str] | None:
    """Two leads of the limbs, from which the others follow: I, aVF and II before others, their combinations have the smallest weights."""
    limbs = sorted((name for name in own if name in LIMB), key=lambda name: (*("I", "aVF", "II"), name).index(name))
    return next(combinations(limbs, 2), None)


def _mix(name: str, pair: tuple[str, str]) -> dict[str, float]:
    """A limb lead as a combination of two others: a linear system of two equations, by Cramer's rule."""
    (a, b), (c, d), (p, q) = LIMB[pair[0]], LIMB[pair[1]], LIMB[name]
    det = a * d - b * c
    return {pair[0]: (p * d - q * c) / det, pair[1]: (a * q - b * p) / det}
