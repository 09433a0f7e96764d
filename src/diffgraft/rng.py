"""Randomness as a function of a seed and a place, never of what ran before.

A stream that everybody draws from makes results depend on the batch size, on the number of processes and on
whether a preview was drawn half-way. Here each number has an address instead: `(seed, names, ...)` is hashed to
the seed of a private generator. Sampling noise is addressed by (seed, step, global sample index) in blocks of
`BLOCK` samples, training noise by (seed, step), so the same run comes out on one process or two, from the start
or after a resume.
"""

import hashlib

import torch
from torch import Tensor

BLOCK = 256
"""Samples that share one noise generator; rows of `LARGE` numbers or more have one each."""
LARGE = 4096


def split(seed: int, *names: object) -> int:
    """The seed of the stream `names` under `seed`: 63 bits, stable over platforms and versions."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A fresh CPU generator for the stream `names` under `seed`."""
    return torch.Generator().manual_seed(split(seed, *names))


def seed_from(g: torch.Generator | None) -> int:
    """One 63-bit seed drawn from `g`, or from torch's default generator."""
    device = g.device if g is not None else "cpu"
    return int(torch.randint(2**63 - 1, (), generator=g, device=device))


def sample_noise(seed: int, step: int, start: int, stop: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal noise for the samples with global index `start` to `stop` - 1 at one sampling step.

    Args:
        seed: Seed of the sampling run.
        step: Index of the step; -1 is the start.
        shape: Shape of one sample.
        like: Gives dtype and device of the result, (stop - start, *shape).
    """
    block = BLOCK if torch.Size(shape).numel() < LARGE else 1
    first, last = start // block, -(-stop // block)
    noise, g = torch.empty(last - first, block, *shape), torch.Generator()
    for k, rows in enumerate(noise.unbind(), first):
        rows.normal_(generator=g.manual_seed(split(seed, "noise", step, k)))
    return noise.flatten(0, 1)[start - first * block : stop - first * block].to(like)
