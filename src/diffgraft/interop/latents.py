"""Latent space: an autoencoder between data units, images in [-1, 1], and the space where a denoiser lives."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data import Points, Transform, hash_points
from ..denoise import Denoiser
from ..errors import BadModel
from ..files import atomic_file, hash_weights, write_tensors

BATCH = 8
"""Images that pass the autoencoder at once."""


@dataclass(frozen=True)
class Latents(Transform):
    """Images to latents of unit scale, `(encode(x) - shift) / scale`, and back.

    Args:
        shift, scale: Of the latents.
        vae: `AutoencoderKL` or `VQModel` of diffusers; goes where the model goes, and data come to it, a few at a time.
        kept: A folder where the latents of data are kept, and found again by a hash of autoencoder and images; None keeps none.
    """

    vae: Any = field(default=None, repr=False, compare=False)
    kept: Path | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Latents":
        return self  # nothing here is ever trained

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] to latents."""
        return super().forward(self._in_parts(self._encode, x))

    def of_data(self, x: Tensor) -> Tensor:
        """Images to latents, once where there is a folder for them."""
        if self.kept is None:
            return self.forward(x)
        key = hashlib.sha256(f"{hash_weights(self.vae)}{tuple(x.shape)}{x.dtype}{hash_points(Points(x))}".encode()).hexdigest()[:32]
        file = self.kept / f"{key}.safetensors"
        if (z := _load(file)) is None:
            z = self._in_parts(self._encode, x)
            with atomic_file(file) as partial:
                write_tensors(partial, {"latents": z})
        return super().forward(z)

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


def keep_latents(model: Denoiser, folder: Path) -> Denoiser:
    """The same model, which keeps the latents of data in a folder, where it lives in latent space."""
    if isinstance(model.transform, Latents):
        model.transform = replace(model.transform, kept=folder)
    return model


def _load(file: Path) -> Tensor | None:
    """Latents that are kept there; None where none are, or damaged ones, and then they are made again."""
    try:
        return load_file(file)["latents"] if file.is_file() else None
    except (SafetensorError, KeyError, OSError):
        return None
