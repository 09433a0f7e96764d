"""Tasks by name, as plans call them; a task may have several worlds, the first is the default."""

from collections.abc import Callable

from ..data import Task
from . import digits, mixtures

TASKS: dict[str, dict[str, Callable[..., Task]]] = {
    "mixtures": {"shifted": mixtures.shifted, "hard": mixtures.hard},
    "digits": {"label_shift": digits.label_shift},
}
