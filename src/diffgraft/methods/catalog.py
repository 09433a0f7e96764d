"""Methods by their id: what plans, records and `diffgraft list methods` call them."""

from dataclasses import asdict
from typing import Any

from .classifier_guidance import ClassifierGuidance
from .finetune import Finetune
from .importance import Importance
from .scratch import Scratch
from .source import Source
from .start import Method
from .tgdp import TGDP

METHODS: dict[str, type] = {
    "source": Source,
    "scratch": Scratch,
    "finetune": Finetune,
    "importance": Importance,
    "classifier_guidance": ClassifierGuidance,
    "tgdp": TGDP,
}


def name_of(method: Method) -> str:
    """The id of a method."""
    return next(name for name, kind in METHODS.items() if type(method) is kind)


def describe(method: Method) -> dict[str, Any]:
    """Id and every setting of a method, as records and cards hold them."""
    return {"name": name_of(method), **asdict(method)}  # type: ignore[call-overload]
