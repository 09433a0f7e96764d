"""Images as numbers: float32 (n, C, H, W) with values in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import BadData
from .ask import Ask

BATCH = 1_000
"""Images that are resized at once."""


def are_images(x: np.ndarray) -> bool:
    """Whether an array of samples is taken as images: bytes (n, H, W), (n, C, H, W) or (n, H, W, C) with C in 1, 3."""
    return x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and (x.shape[1] in (1, 3) or x.shape[3] in (1, 3))))


def from_bytes(x: np.ndarray) -> Tensor:
    """Images of bytes, 0 black and 255 white, as numbers -1 to 1, channels first."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    out = x.astype(np.float32, order="C")
    out /= 127.5
    out -= 1
    return torch.from_numpy(out)


def sized(x: Tensor, ask: Ask, image: bool) -> tuple[Tensor, int | None]:
    """Samples at the size wanted, if they are images and one is wanted or known, and that size.

    Raises:
        BadData: A size was asked for and these are no images.
    """
    if not image:
        if ask.size is not None:
            raise BadData(f"--size is for images, got samples of shape {tuple(x.shape[1:])}; drop --size")
        return x, None
    size = ask.size or ask.known.size
    return (x, None) if size is None else (resize(x, size), size)


def resize(x: Tensor, size: int) -> Tensor:
    """Images cut to their central square and brought to size x size pixels, antialiased."""
    side = min(x.shape[2:])
    top, left = (x.shape[2] - side) // 2, (x.shape[3] - side) // 2
    x = x[:, :, top : top + side, left : left + side]
    if side == size:
        return x.contiguous()
    return torch.cat([interpolate(part, (size, size), mode="bilinear", antialias=True) for part in x.split(BATCH)])
