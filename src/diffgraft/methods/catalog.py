"""Methods by their id: what plans, records and `diffgraft list methods` call them."""

from dataclasses import asdict
from typing import Any

from .auto import Auto
from .autoguidance import Autoguidance
from .cep import CEP
from .classifier_free import ClassifierFree
from .classifier_guidance import ClassifierGuidance
from .difffit import DiffFit
from .dogfit import DogFit
from .domain_guidance import DomainGuidance
from .finetune import Finetune
from .importance import Importance
from .lora import LoRA
from .model_guidance import ModelGuidance
from .scratch import Scratch
from .source import Source
from .start import Method
from .telescoping import Telescoping
from .tgdp import TGDP
from .time_ratio_weighted import TimeRatioWeighted

METHODS: dict[str, type] = {
    "source": Source,
    "scratch": Scratch,
    "finetune": Finetune,
    "lora": LoRA,
    "difffit": DiffFit,
    "domain_guidance": DomainGuidance,
    "dogfit": DogFit,
    "classifier_free": ClassifierFree,
    "model_guidance": ModelGuidance,
    "autoguidance": Autoguidance,
    "tgdp": TGDP,
    "cep": CEP,
    "telescoping": Telescoping,
    "classifier_guidance": ClassifierGuidance,
    "importance": Importance,
    "time_ratio_weighted": TimeRatioWeighted,
    "auto": Auto,
}


def name_of(method: Method) -> str:
    """The id of a method."""
    return next(name for name, kind in METHODS.items() if type(method) is kind)


def describe(method: Method) -> dict[str, Any]:
    """Id and every setting of a method, as records and cards hold them."""
    return {"name": name_of(method), **asdict(method)}  # type: ignore[call-overload]
