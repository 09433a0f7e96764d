"""What a page says of tasks."""

from typing import Any

from ..terms import listed

WORLDS = {
    ("mixtures", "shifted"): "Points in the plane. Source and target have two round clusters each; the target's are turned by 90 degrees. "
    "The exact densities are known, so scores against the truth are possible.",
    ("mixtures", "hard"): "Points from Gaussian mixtures with unequal weights and full covariances; the target moves and reweights every cluster. "
    "The exact densities are known.",
    ("digits", "label_shift"): "Handwritten digits, 8 x 8 grey images. In the source all ten digits are about equally frequent; in the target each digit is "
    "rarer than the one before. How a digit looks is the same in both.",
    ("tabular", "wine_quality"): "Eleven measurements of white wines: from quality 5 and below to 7 and above. The domains overlap.",
    ("tabular", "wine_colour"): "Eleven measurements of wines: from white to red, which a classifier tells apart almost surely.",
    (
        "images",
        "mnist_tilt",
    ): "Handwritten digits of MNIST. The target prefers bold digits, those that lean to the left, and low ones, by a known ratio; how digits look "
    "is the same. The Frechet distance is taken on features of a classifier of digits that has seen none of these images.",
    ("images", "mnist_usps"): "Handwritten digits, from MNIST to USPS: another scanner, another crop, other hands. The Frechet distance is taken on "
    "features of a classifier of USPS digits that has seen none of these images.",
    ("ecg", "synthetic"): "SYNTHETIC electrocardiograms of eight leads, made by a formula: no record is a patient's. The target has other statements, heart "
    "rates, axes, gains and noise than the source, by a known ratio.",
    ("ecg", "folders"): "Electrocardiograms of two collections, with the statements that doctors made of them. Methods see records of one of the target's ten "
    "folds, in which no patient is twice; the next one is left for validation, the others are the test.",
    ("ecg", "brugada"): "Electrocardiograms, from PTB-XL, where nobody looked for it, to people with and without the Brugada syndrome.",
    ("files", "files"): "Two files of data; target rows that no method sees are held out.",
}
HIDDEN_SETTINGS = ("world", "n_target", "seed", "protocol")


def task_text(task: str, config: dict[str, Any], account: list[str] | None = None) -> str:
    """What a task is, its settings, and what of its data was left out."""
    told = WORLDS.get((task, str(config.get("world"))), f"The task {task}.")
    sentences = [told]
    for name, values in (("Settings", config), ("Protocol", config.get("protocol") or {})):
        if settings := [f"{k} = {_said(v)}" for k, v in values.items() if k not in HIDDEN_SETTINGS and v is not None]:
            sentences.append(f"{name}: {listed(settings)}.")
    return " ".join([*sentences, *(f"{line[0].upper()}{line[1:]}." for line in account or ())])


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
