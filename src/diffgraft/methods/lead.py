"""What methods share that lead one network by another: checks, bounds of the weight, and two given models as one."""

import torch

from ..data import Data
from ..denoise import Denoiser, drop_label, with_schedule
from ..errors import BadData, BadModel, BadPlan
from ..guide import Guided, Interval, RatioShift, interval, reweighted, toward
from ..sharpness import sharpness_warning
from .start import error_without_label


def guided_by_source(source: Denoiser, tuned: Denoiser, weight: float | Interval) -> Denoiser:
    """Domain Guidance of two models, without training; notes warn of a weight whose density cannot be normalised.

    Raises:
        BadModel: See `led_by_source`.
    """
    model = led_by_source(source, tuned, weight)
    model.notes = {**tuned.notes, **sharpness_warning(source, tuned, weight.weight if isinstance(weight, Interval) else weight)}
    return model


def led_by_source(source: Denoiser, tuned: Denoiser, weight: float | Interval) -> Denoiser:
    """The same without a look at the density, for which both models are sampled.

    Raises:
        BadModel: The models are of different shapes or model spaces, or the source cannot run without a label.
    """
    check_alike(source, tuned)
    base = with_schedule(drop_label(source) if source.n_classes else source, tuned.schedule)
    check_runs_without_label(source)
    return Guided(base, toward(tuned), weight).like(tuned).eval()


def led_by_label(model: Denoiser, weight: float, bounds: list[float] | None = None) -> Denoiser:
    r"""A model of any kind led by its own label (classifier-free guidance), $D(x_t, t, null) + w (D(x_t, t, y) - D(x_t, t, null))$.

    What a label says and a network took too little notice of, such as a rare event, comes out more often; too great a weight
    costs variety. Within bounds it takes two passes a step, outside of them one. Where a density ratio guides, its base is led and the
    ratio's shift stays as it is: it tells domains apart, not labels.

    Args:
        model: It knows labels, and runs without one.
        weight: w; 1 the model as it is.
        bounds: In log-SNR, the lower one first, within which w counts; 1 elsewhere.

    Raises:
        BadModel: It knows no labels, or does not run without one.
        BadPlan: The bounds are not two numbers in their order.

    Reference:
        Ho, Salimans, Classifier-Free Diffusion Guidance, 2022, arXiv 2207.12598, eq. 6. Kynkaanniemi et al., Applying Guidance in a Limited
        Interval Improves Sample and Distribution Quality in Diffusion Models, 2024, arXiv 2404.07724.
    """
    if model.n_classes == 0:
        raise BadModel("a label weight leads by labels, and this model knows none; drop it")
    if model.shape is not None and (error := error_without_label(model, torch.zeros(2, *model.shape))):
        raise BadModel(f"a label weight needs a model that runs without a label, this one cannot ({error}); drop it")
    led = _led(model, limited(weight, bounds))
    led.notes = model.notes
    return led.eval()


def at_weights(
    model: Denoiser,
    weight: float | None = None,
    bounds: tuple[float, float] | None = None,
    label_weight: float | None = None,
    label_bounds: tuple[float, float] | None = None,
) -> Denoiser:
    """A model at another guidance weight and led by its labels, as far as either is asked for, each within bounds in log-SNR.

    Raises:
        BadModel: It has no such weight.
        BadPlan: See `limited`; or a weight that a `Steered` network did not learn.
    """
    if bounds is not None:
        model = reweighted(model, interval(1.0 if weight is None else weight, *bounds))
    elif weight is not None:
        model = reweighted(model, weight)
    return model if label_weight is None else led_by_label(model, label_weight, None if label_bounds is None else list(label_bounds))


def _led(model: Denoiser, weight: float | Interval) -> Denoiser:
    if isinstance(model, Guided) and isinstance(model.shift, RatioShift) and model.base.n_classes:
        return Guided(_led(model.base, weight), model.shift, model.weight).like(model)
    return Guided(drop_label(model), toward(model), weight).like(model)


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
    a, b = source.transform, tuned.transform
    if not all(torch.allclose(p.cpu(), q.cpu(), rtol=1e-4, atol=1e-6) for p, q in ((a.shift, b.shift), (a.scale, b.scale))):
        raise BadModel("source and tuned model standardise their data differently, so they cannot be mixed; fine-tune the source with its own transform")


def check_runs_without_label(source: Denoiser) -> None:
    """Refuse a source that takes labels and cannot drop them."""
    if source.n_classes == 0 or source.shape is None:
        return
    if error := error_without_label(source, torch.zeros(2, *source.shape)):
        raise BadModel(f"the source must run without a label to guide, and cannot ({error}); train it with some labels dropped, or use finetune or tgdp")


def needs_labels(method: str, data: Data, source: Denoiser) -> None:
    """Refuse target points without labels.

    Raises:
        BadData: There are none; what else is wrong with the data is left to the fine-tune to say.
    """
    if data.target.y is None and (source.shape is None or source.shape == tuple(data.target.x.shape[1:])):
        raise BadData(f"{method} compares a network with and without the label, but the target data have no labels; use domain_guidance")
