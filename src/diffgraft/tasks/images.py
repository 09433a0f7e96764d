r"""Small images: handwritten digits of two collections, and of one collection under a known tilt.

`mnist_usps` leads from MNIST to USPS at 16 x 16 pixels: another scanner, another crop, other hands. The domains are far apart.

`mnist_tilt` stays within MNIST. Each image has a slant, a stroke width and a label, and the target prefers some:

$r(x, y) \propto \sigma(3 z_{slant}) \, \sigma(3 z_{width}) \, 0.92^y$, z standardised over all images.

The target is drawn by accepting an image with probability r / max r, so the clean density ratio is known (`tilt_log_ratio`)
and the domains overlap: in the mean over the source, KL(q || p) is 0.7 nats and the effective sample size four tenths.

Both hold back labelled images that train a classifier, whose features the Frechet distance is taken on.

References:
    LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998 (MNIST).
    Hull, A Database for Handwritten Text Recognition Research, 1994 (USPS).
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .. import rng
from ..data import Data, Layout, Points, Task
from ..readers.catalog import read
from .digit_features import digit_features
from .places import place

MNIST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
USPS = ("usps_4000.npz",)
N_CLASSIFIER = 2_000
"""USPS images that train the classifier and nothing else."""
N_SOURCE = 4_000
"""MNIST images of the tilt's source domain; its target is drawn from the others."""
SHARPNESS, DECAY = 3.0, 0.92
"""Of the tilt: of the sigmoids in slant and stroke width, and from each label to the next."""


def mnist_usps(n_target: int = 50, seed: int = 0, *, size: int = 16, conditional: bool = False, folder: str | None = None) -> Task:
    """From MNIST to USPS.

    Args:
        n_target: Target images; 2,000 others are held out.
        seed: Of the draw.
        size: Side of the images.
        conditional: Give the digits as labels to the methods, or keep them back.
        folder: Holds `mnist/` and `usps_4000.npz`; `$DIFFGRAFT_DATA` by default.
    """
    source, usps = _mnist(folder, size), _usps(folder, size)
    order = torch.randperm(usps.n, generator=rng.generator(0, "classifier"))
    kept, rest = order[:N_CLASSIFIER], order[N_CLASSIFIER:]
    rest = rest[torch.randperm(len(rest), generator=rng.generator(seed, "target"))]
    return _task("mnist_usps", source, usps.take(rest), usps.take(kept), n_target, seed, conditional, size)


def mnist_tilt(n_target: int = 50, seed: int = 0, *, size: int = 16, conditional: bool = False, folder: str | None = None) -> Task:
    """MNIST under a tilt of slant, stroke width and label. Arguments as for `mnist_usps`; about 1,000 images are of the target."""
    whole = _mnist(folder, size)
    log_r = tilt_log_ratio(_mnist(folder, None))
    order = torch.randperm(whole.n, generator=rng.generator(0, "tilt"))
    source, others = order[:N_SOURCE], order[N_SOURCE:]
    accepted = torch.rand(len(others), generator=rng.generator(0, "accept")) < (log_r[others] - log_r[others].max()).exp()
    target = others[accepted]
    target = target[torch.randperm(len(target), generator=rng.generator(seed, "target"))]
    return _task("mnist_tilt", whole.take(source), whole.take(target), whole.take(others[~accepted]), n_target, seed, conditional, size)


def tilt_log_ratio(digits: Points) -> Tensor:
    """log q / p of the tilt up to a constant, (n,), of MNIST images (n, 1, 28, 28) with their labels, all of them together."""
    assert digits.y is not None
    slant, width = (_standardised(z) for z in _slant_and_width((digits.x[:, 0] + 1) / 2))
    return logsigmoid(SHARPNESS * slant) + logsigmoid(SHARPNESS * width) + digits.y * torch.tensor(DECAY).log()


def _slant_and_width(ink: Tensor) -> tuple[Tensor, Tensor]:
    """Shear of the ink about its centre, and twice its area over its outline, of images (n, H, W) in [0, 1]."""
    down, across = (torch.arange(n, dtype=ink.dtype) for n in ink.shape[1:])
    mass = ink.sum((1, 2))
    down = down[:, None] - ((ink.sum(2) @ down) / mass)[:, None, None]
    across = across - ((ink.sum(1) @ across) / mass)[:, None, None]
    slant = (ink * down * across).sum((1, 2)) / (ink * down**2).sum((1, 2))
    outline = ink.diff(dim=1).abs().sum((1, 2)) + ink.diff(dim=2).abs().sum((1, 2))
    return slant, 2 * mass / outline


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean()) / z.std()


@lru_cache(4)
def _mnist(folder: str | None, size: int | None) -> Points:
    home = place(folder and str(Path(folder) / "mnist"), "mnist", MNIST, "MNIST test set, CC BY-SA 3.0")
    return read(home / MNIST[0], "mnist", size=size).points


@lru_cache(2)
def _usps(folder: str | None, size: int) -> Points:
    return read(place(folder, "", USPS, "4,000 images of USPS, `X` and `y`", "usps") / USPS[0], "usps", size=size).points


def _task(world: str, source: Points, target: Points, kept: Points, n_target: int, seed: int, conditional: bool, size: int) -> Task:
    """A task of images; `kept` trains the classifier, and the target beyond the first `n_target` is held out."""
    shown = (lambda part: part) if conditional else (lambda part: Points(part.x))
    data = Data(source=shown(source), target=shown(target.take(torch.arange(n_target))))
    config = {"world": world, "n_target": n_target, "seed": seed, "size": size, "conditional": conditional}
    test = shown(target.take(torch.arange(n_target, target.n)))
    return Task("images", data, test, layout=Layout(size=size), features=digit_features(kept, world, size), config=config)
