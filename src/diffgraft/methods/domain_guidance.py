r"""Domain Guidance: a fine-tuned network, led by the frozen source without a label.

$D = D_{src}(x_t, \varnothing) + w (D_{tuned}(x_t, y) - D_{src}(x_t, \varnothing))$, the density $q^w / p^{w-1}$ noise level by noise
level. w = 1 is the fine-tuned network alone, w = 0 the source; above 1 it goes beyond a network that has not moved far enough, and
over-sharpens one that has.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..data import Data
from ..denoise import Denoiser, drop_label, with_schedule
from ..errors import BadModel, BadPlan
from ..fit import Watch
from ..guide import Guided, Interval, interval, toward
from ..sharpness import sharpness_warning
from .finetune import Finetune


@dataclass(frozen=True)
class DomainGuidance:
    """A fine-tune, guided by the source it came from.

    Args:
        weight: Guidance weight w; 1 the fine-tune alone.
        interval: Bounds in log-SNR within which the weight counts; outside the fine-tune alone, in one pass.
        steps, batch_size, learning_rate, held_out, augment, shape: Of the fine-tune; see `Finetune`.

    Reference:
        Zhong, Zhang, Wang, Long, Domain Guidance: A Simple Transfer Approach for a Pre-trained Diffusion Model, 2025, arXiv
        2504.01521, eq. 8.
    """

    weight: float = 1.5
    interval: list[float] | None = None
    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.2
    augment: Literal["none", "pseudo-target"] = "none"
    shape: bool = True

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Fine-tune, then guide; see `Method.fit`."""
        weight = limited(self.weight, self.interval)
        names = ("steps", "batch_size", "learning_rate", "held_out", "augment", "shape")
        tuned = Finetune(**{name: getattr(self, name) for name in names}).fit(source, data, generator, watch=watch, folder=folder)
        return guided_by_source(copy.deepcopy(source).requires_grad_(False).eval(), tuned, weight)


def guided_by_source(source: Denoiser, tuned: Denoiser, weight: float | Interval) -> Denoiser:
    """Domain Guidance of two models, without training; notes warn of a weight whose density cannot be normalised.

    Raises:
        BadModel: The models are of different shapes or model spaces, or the source cannot run without a label.
    """
    check_alike(source, tuned)
    base = with_schedule(drop_label(source) if source.n_classes else source, tuned.schedule)
    check_runs_without_label(source)
    model = Guided(base, toward(tuned), weight).like(tuned)
    model.notes = {**tuned.notes, **sharpness_warning(source, tuned, weight.weight if isinstance(weight, Interval) else weight)}
    return model.eval()


def limited(weight: float, bounds: list[float] | None) -> float | Interval:
    """The weight, inside bounds in log-SNR where some are given.

    Raises:
        BadPlan: The bounds are not two numbers in their order.
    """
    if bounds is None:
        return weight
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise BadPlan(f"interval takes two bounds in log-SNR, the smaller one first, got {bounds}; for example [-0.95, 3.32]")
    return interval(weight, *bounds)


def check_alike(source: Denoiser, tuned: Denoiser) -> None:
    """Refuse two models that live in different spaces."""
    if source.shape != tuned.shape:
        raise BadModel(f"source and tuned model must take samples of one shape, got {source.shape} and {tuned.shape}; give a model and its own fine-tune")
    pairs: list[Any] = [(getattr(source.transform, name), getattr(tuned.transform, name)) for name in ("shift", "scale")]
    if not all(torch.allclose(a.cpu().expand_as(b.cpu()) if a.ndim <= b.ndim else a.cpu(), b.cpu(), rtol=1e-4, atol=1e-6) for a, b in pairs):
        raise BadModel("source and tuned model standardise their data differently, so they cannot be mixed; fine-tune the source with its own transform")


def check_runs_without_label(source: Denoiser) -> None:
    """Refuse a source that takes labels and cannot drop them."""
    if source.n_classes == 0 or source.shape is None:
        return
    like = next(source.parameters(), torch.zeros(()))
    try:
        source(torch.zeros(2, *source.shape).to(like), torch.tensor(0.5).to(like), None)
    except Exception as error:  # whatever a network of the user's own raises
        raise BadModel(f"the source must run without a label to guide, and cannot ({type(error).__name__}); give its Net a null_label") from None
