"""Tasks by name, as plans call them; a task may have several worlds, the first is the default."""

from collections.abc import Callable

from ..data import Task
from . import digits, ecg, files, images, mixtures, tabular

TASKS: dict[str, dict[str, Callable[..., Task]]] = {
    "mixtures": {"shifted": mixtures.shifted, "hard": mixtures.hard},
    "tabular": {"wine_quality": tabular.wine_quality, "wine_colour": tabular.wine_colour},
    "digits": {"label_shift": digits.label_shift},
    "images": {"mnist_usps": images.mnist_usps, "mnist_tilt": images.mnist_tilt},
    "ecg": {"synthetic": ecg.synthetic, "folders": ecg.folders, "brugada": ecg.brugada},
    "files": {"files": files.files},
}
