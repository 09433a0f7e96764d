"""What a person sees of long work: bars on a terminal, plain lines elsewhere, curves, pictures; and what is kept of it: a log."""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import append_line
from .fit import Progress, Watch, describe, losses, to_json
from .rng import generator
from .samplers import sample, sample_labels

PLAIN_EVERY = 5.0
"""Seconds between plain lines."""
PREVIEWS, PREVIEWED, PREVIEW_STEPS = 10, 16, 10
"""How often a training shows images, how many, and in how many steps they are sampled."""
CURVES = ("loss", "held_out", "learning_rate")


def screen(prefix: str = "", quiet: bool = False) -> Watch:
    """Shows training progress on stderr."""
    if quiet:
        return lambda progress: None
    return _bars(prefix) if sys.stderr.isatty() else _lines(prefix)


def _bars(prefix: str) -> Watch:
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(p: Progress) -> None:
        if p.stage not in bars:
            bars[p.stage] = tqdm(total=p.steps, desc=f"{prefix}{p.stage}", unit="step", dynamic_ncols=True)
        bar = bars[p.stage]
        bar.set_postfix_str(losses(p), refresh=False)
        bar.update(p.step - bar.n)

    return show


def _lines(prefix: str) -> Watch:
    last = {"": 0.0}

    def show(p: Progress) -> None:
        now = time.monotonic()
        if now - last.get(p.stage, 0.0) >= PLAIN_EVERY:
            last[p.stage] = now
            print(f"{prefix}{describe(p)}", file=sys.stderr, flush=True)

    return show


def log(path: Path, **facts: Any) -> Watch:
    """Appends each progress to a JSON-lines file, with these facts."""
    return lambda progress: append_line(path, {**facts, **to_json(progress)})


def tensorboard(folder: Path) -> Watch:
    """Writes curves for TensorBoard where it is installed, else does nothing."""
    if importlib.util.find_spec("tensorboard") is None:
        return lambda progress: None
    writers: list[Any] = []  # opened by the first progress, so that a refused input leaves no folder behind

    def write(p: Progress) -> None:
        if not writers:
            from torch.utils.tensorboard import SummaryWriter

            writers.append(SummaryWriter(str(folder)))
        writer = writers[0]
        for name, value in _curves(p).items():
            writer.add_scalar(name, value, p.step)
        writer.flush()

    return write


def wandb(name: str) -> Watch:
    """Sends curves to Weights & Biases where it is installed and the environment names a project, WANDB_PROJECT; else does nothing."""
    if "WANDB_PROJECT" not in os.environ or importlib.util.find_spec("wandb") is None:
        return lambda progress: None
    runs: list[Any] = []

    def write(p: Progress) -> None:
        if not runs:
            from wandb import init

            runs.append(init(name=name))
        runs[0].log({**_curves(p), f"{p.stage}/step": p.step})

    return write


def _curves(p: Progress) -> dict[str, float]:
    """What a progress adds to each curve."""
    return {f"{p.stage}/{name}": value for name in CURVES if (value := getattr(p, name)) is not None}


def previews(folder: Path) -> Watch:
    """Writes a grid of images ten times in a training, from the same noise, of the averaged weights; of models of images alone."""
    shown: dict[str, int] = {}

    def write(p: Progress) -> None:
        due = p.step * PREVIEWS // p.steps
        if not p.model or len(p.model.shape or ()) != 3 or due <= shown.get(p.stage, 0):
            return
        shown[p.stage] = due
        with p.averaged():
            y = sample_labels(p.model, PREVIEWED, 0)
            x = sample(p.model, PREVIEWED, y=y, steps=PREVIEW_STEPS, sampler="ddim", generator=generator(0, "preview"))
        folder.mkdir(parents=True, exist_ok=True)
        write_grid(x.cpu(), folder / f"{p.stage.replace(' ', '-')}-{p.step:06d}.png")

    return write


def write_grid(x: Tensor, path: Path) -> None:
    """Images (n, C, H, W) side by side in a square, as a PNG: [-1, 1] from black to white, or what most of them span where that is more."""
    from PIL import Image

    columns = math.ceil(math.sqrt(len(x)))
    ends = x.flatten(1).nan_to_num().aminmax(dim=1)
    low, high = min(-1.0, float(ends.min.median())), max(1.0, float(ends.max.median()))
    pixels = ((x[:, : 3 if x.shape[1] >= 3 else 1].nan_to_num() - low) / (high - low)).clamp(0, 1).mul(255).round().byte()
    tiles = torch.nn.functional.pad(pixels, (1, 1, 1, 1), value=255)
    tiles = torch.cat([tiles, tiles.new_full((-len(x) % columns, *tiles.shape[1:]), 255)])
    rows = [torch.cat(list(row), -1) for row in tiles.split(columns)]
    whole = torch.cat(rows, -2).permute(1, 2, 0).numpy()
    Image.fromarray(whole if whole.shape[2] == 3 else whole[..., 0]).save(path)


def every(*watches: Callable[[Progress], None]) -> Watch:
    """All of these, in turn."""

    def tell(progress: Progress) -> None:
        for watch in watches:
            watch(progress)

    return tell
