"""The 71 SCP-ECG statements of PTB-XL, the nine classes of CPSC2018, and names that stand for them.

Labels are joined by name: CPSC's ventricular class, which one conversion calls VPC, is PVC in PTB-XL, and classes are in
another order in each data set.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import BadData, nearest

STATEMENTS = (
    *("1AVB", "2AVB", "3AVB", "ABQRS", "AFIB", "AFLT", "ALMI", "AMI", "ANEUR", "ASMI", "BIGU", "CLBBB", "CRBBB", "DIG", "EL", "HVOLT", "ILBBB"),
    *("ILMI", "IMI", "INJAL", "INJAS", "INJIL", "INJIN", "INJLA", "INVT", "IPLMI", "IPMI", "IRBBB", "ISCAL", "ISCAN", "ISCAS", "ISCIL", "ISCIN"),
    *("ISCLA", "ISC_", "IVCD", "LAFB", "LAO/LAE", "LMI", "LNGQT", "LOWT", "LPFB", "LPR", "LVH", "LVOLT", "NDT", "NORM", "NST_", "NT_", "PAC"),
    *("PACE", "PMI", "PRC(S)", "PSVT", "PVC", "QWAVE", "RAO/RAE", "RVH", "SARRH", "SBRAD", "SEHYP", "SR", "STACH", "STD_", "STE_", "SVARR"),
    *("SVTAC", "TAB_", "TRIGU", "VCLVH", "WPW"),
)
"""All statements of PTB-XL in the order in which models number them."""


class Cpsc(NamedTuple):
    """A class of CPSC2018: its number there, its name there, the SCP statement, SNOMED CT codes and other names."""

    code: int
    name: str
    scp: str
    snomed: tuple[str, ...]
    synonyms: tuple[str, ...] = ()


CPSC = (
    Cpsc(1, "Normal", "NORM", ("426783006",), ("N", "SNR", "NSR")),
    Cpsc(2, "AF", "AFIB", ("164889003",)),
    Cpsc(3, "I-AVB", "1AVB", ("270492004",), ("IAVB",)),
    Cpsc(4, "LBBB", "CLBBB", ("164909002",)),
    Cpsc(5, "RBBB", "CRBBB", ("59118001", "713427006")),
    Cpsc(6, "PAC", "PAC", ("284470004",)),
    Cpsc(7, "PVC", "PVC", ("164884008", "427172004", "17338001"), ("VPC",)),
    Cpsc(8, "STD", "STD_", ("429622005",)),
    Cpsc(9, "STE", "STE_", ("164931005",)),
)
"""The classes of CPSC2018 (ICBEB2018) in the order of their numbers."""
NINE = tuple(one.scp for one in CPSC)
"""Their SCP statements."""
_BY_CODE = {str(one.code): one.scp for one in CPSC}
_BY_SNOMED = {code: one.scp for one in CPSC for code in one.snomed}
_BY_NAME = {name.upper(): one.scp for one in CPSC for name in (one.name, *one.synonyms)} | {name.upper(): name for name in STATEMENTS}


SINUS_RHYTHM = "426783006"
"""In CPSC2018, where it stands alone, it means a normal recording; beside other diagnoses it is the rhythm."""


def statement(name: str) -> str:
    """The SCP statement that a name stands for: its own, CPSC's, a synonym, whatever the case, or a SNOMED code.

    Raises:
        BadData: No statement has such a name; the nearest is named.
    """
    text = name.strip()
    found = _BY_NAME.get(text.upper()) or _BY_SNOMED.get(text)
    if found is None:
        raise BadData(f"unknown statement '{text}'; {_hint(text)}")
    return found


def cpsc_statement(code: str) -> str:
    """The SCP statement of a class number of CPSC2018, "1" to "9".

    Raises:
        BadData: Another number.
    """
    if code.strip() not in _BY_CODE:
        raise BadData(f"expected a class of CPSC2018 from 1 to 9, got '{code}'; take its REFERENCE.csv as it was published")
    return _BY_CODE[code.strip()]


def is_snomed(name: str) -> bool:
    """Whether a label is written as a SNOMED CT code: six digits or more."""
    return name.strip().isdecimal() and len(name.strip()) >= 6


def known_snomed(code: str) -> bool:
    """Whether a SNOMED code is one of the nine classes'."""
    return code.strip() in _BY_SNOMED


def multi_hot(names: Sequence[Collection[str] | None], classes: Sequence[str] = STATEMENTS) -> np.ndarray:
    """Rows of 0 and 1, (n, classes) float32: which classes each record has; a row of -1 where its labels are not known (None).

    Statements that are none of the classes are left out.

    Raises:
        BadData: A name is no statement at all, or a class is there twice.
    """
    order = {statement(name): k for k, name in enumerate(classes)}
    if len(order) < len(classes):
        raise BadData(f"expected {len(classes)} distinct classes, got {len(order)}; name each once, VPC is PVC")
    out = np.zeros((len(names), len(order)), np.float32)
    for row, given in enumerate(names):
        if given is None:
            out[row] = -1
            continue
        found = [statement(name) for name in given]
        out[row, [order[name] for name in found if name in order]] = 1
    return out


def _hint(text: str) -> str:
    """The nearest name, or where the list is."""
    hint = nearest(text.upper(), _BY_NAME)
    return hint if hint.startswith("did") else "statements are those of PTB-XL's scp_statements.csv, such as NORM, AFIB or CLBBB"
