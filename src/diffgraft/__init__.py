"""diffgraft: transfer learning for diffusion models.

Adapt a frozen source denoiser to a target domain: fit a method, get a denoiser; sample it, evaluate the samples,
report the records. Names resolve on first use, so that importing the package loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Schedule": "schedule", "vp": "schedule", "cosine": "schedule", "rectified": "schedule", "edm": "schedule", "discrete": "schedule",
    "Denoiser": "denoise", "Net": "denoise", "with_schedule": "denoise", "drop_label": "denoise",
    "Guided": "guide", "toward": "guide", "ratio_shift": "guide", "interval": "guide",
    "Data": "data", "Task": "data", "Transform": "data",
    "sample": "samplers", "evaluate": "metrics.catalog", "inspect": "overlap.inspect", "report": "pages.run", "load": "store", "save": "store",
}  # fmt: skip
_PACKAGES = ("methods", "tasks", "metrics")

__all__ = ["__version__", *_HOMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"diffgraft.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'diffgraft' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"diffgraft.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from . import methods as methods
    from . import metrics as metrics
    from . import tasks as tasks
    from .data import Data as Data
    from .data import Task as Task
    from .data import Transform as Transform
    from .denoise import Denoiser as Denoiser
    from .denoise import Net as Net
    from .denoise import drop_label as drop_label
    from .denoise import with_schedule as with_schedule
    from .guide import Guided as Guided
    from .guide import interval as interval
    from .guide import ratio_shift as ratio_shift
    from .guide import toward as toward
    from .metrics.catalog import evaluate as evaluate
    from .overlap.inspect import inspect as inspect
    from .pages.run import report as report
    from .samplers import sample as sample
    from .schedule import Schedule as Schedule
    from .schedule import cosine as cosine
    from .schedule import discrete as discrete
    from .schedule import edm as edm
    from .schedule import rectified as rectified
    from .schedule import vp as vp
    from .store import load as load
    from .store import save as save
