"""Latent space: an autoencoder between data units, images in [-1, 1], and the space where a denoiser lives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..data import Transform
from ..errors import BadModel

BATCH = 8
"""Images that pass the autoencoder at once."""


@dataclass(frozen=True)
class Latents(Transform):
    """Images to latents of unit scale, `(encode(x) - shift) / scale`, and back.

    Args:
        shift, scale: Of the latents.
        vae: `AutoencoderKL` or `VQModel` of diffusers; goes where the model goes, and data come to it, a few at a time.
    """

    vae: Any = field(default=None, repr=False, compare=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Latents":
        return self  # nothing here is ever trained

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] to latents."""
        return super().forward(self._in_parts(self._encode, x))

    def inverse(self, x: Tensor) -> Tensor:
        """Latents to images."""
        return self._in_parts(self._decode, super().inverse(x))

    def follow(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move the autoencoder, too."""
        self.vae._apply(fn)

    def log_scale(self, shape: tuple[int, ...]) -> float:
        """Not known: an autoencoder is no bijection."""
        raise BadModel("a model in latent space has no density of images; compare samples by distances, not likelihood")

    def data_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the image of latents of this shape."""
        c = self.vae.config
        per_latent = 2 ** (len(c.block_out_channels) - 1)  # every level but the last halves the resolution
        return (c.out_channels, *(per_latent * side for side in shape[1:]))

    def _encode(self, x: Tensor) -> Tensor:
        found = self.vae.encode(x)
        return found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents

    def _decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z, return_dict=False)[0]

    def _in_parts(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        def parts() -> Iterator[Tensor]:
            for part in x.split(BATCH):
                yield call(part.to(weight)).to(x)

        weight = next(self.vae.parameters())
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat(list(parts()))


def latents_of(vae: Any) -> Latents:
    """The latent space of an autoencoder by its own scale.

    Raises:
        BadModel: It doesn't know its scale.
    """
    scale, shift = vae.config.get("scaling_factor"), vae.config.get("shift_factor")
    if not scale:
        raise BadModel(f"the {type(vae).__name__} does not say how its latents scale; write its scaling_factor, such as 0.18215, into its config.json")
    return Latents(torch.tensor(float(shift or 0.0)), torch.tensor(1 / float(scale)), vae)
