"""A model with the call of a diffusers pipeline, for code that is written around one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import rng, store
from .data import labels
from .denoise import Denoiser
from .errors import one_of
from .guide import reweighted
from .interop.drive import drive
from .samplers import check_labels, sample, sample_labels

OUTPUTS = ("pil", "np", "pt")


@dataclass(frozen=True)
class Output:
    """What a call returns: `images`, a list of pictures, an array (n, H, W, C) in [0, 1], or a tensor in data units."""

    images: Any


class Pipeline:
    """Any model of this package, called as a pipeline of diffusers is.

    Args:
        model: The model.
        scheduler: A scheduler of diffusers to sample with; by default this package's own sampler.

    Example:
        >>> import diffgraft as dg
        >>> from diffgraft.pipeline import Pipeline
        >>> net = dg.Net(lambda x_t, t: 0 * x_t, schedule=dg.vp(), predicts="x0", shape=(1, 4, 4))
        >>> Pipeline(net)(batch_size=2, num_inference_steps=3).images[0].size
        (4, 4)
    """

    def __init__(self, model: Denoiser, scheduler: Any = None) -> None:
        self.model, self.scheduler = model, scheduler

    @classmethod
    def from_pretrained(cls, path: str | Path, scheduler: Any = None) -> Self:
        """The pipeline of a model folder, or of one that diffusers wrote; see `store.load`."""
        return cls(store.load(path), scheduler)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the model folder; see `store.save`."""
        store.save(self.model, path)

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device."""
        self.model.to(device)
        return self

    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = 25,
        generator: torch.Generator | None = None,
        guidance_weight: float | None = None,
        class_labels: Any = None,
        output_type: str = "pil",
        callback: Callable[[int, int], None] | None = None,
    ) -> Output:
        """Sample.

        Args:
            batch_size: How many; ignored where labels are given.
            num_inference_steps: Steps of the sampler.
            generator: One seed is drawn from it.
            guidance_weight: w of a guided model, 0 the source and 1 the target; by default its own.
            class_labels: One a sample; by default drawn as often as the target has them.
            output_type: "pil" for pictures of images, "np" for arrays in [0, 1], "pt" for tensors in data units.
            callback: Called as `callback(steps done, steps in all)`.

        Raises:
            BadPlan: No such output.
            BadData: Labels that the model does not know.
            BadModel: A weight for a model that has none.
        """
        one_of("output_type", output_type, OUTPUTS)
        model = self.model if guidance_weight is None else reweighted(self.model, guidance_weight)
        n = batch_size if class_labels is None else len(class_labels)
        y = None if class_labels is None else check_labels(model, labels(class_labels, n))
        if y is None and model.prior is not None:
            y = sample_labels(model, n, rng.seed_from(generator))
        if self.scheduler is None:
            x = sample(model, n, y=y, steps=num_inference_steps, generator=generator, watch=callback)
        else:
            x = drive(self.scheduler, model, n, y=y, steps=num_inference_steps, generator=generator, watch=callback)
        return Output(shown(x.cpu(), output_type))


def shown(x: Tensor, output_type: str) -> Any:
    """Samples (n, *) in one of `OUTPUTS`; what is no image stays an array."""
    if output_type == "pt":
        return x
    if x.ndim != 4:
        return x.numpy()
    pixels = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return pixels
    return [Image.fromarray(p.squeeze(-1) if p.shape[-1] == 1 else p) for p in (255 * pixels).round().astype(np.uint8)]
