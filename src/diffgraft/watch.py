"""What a person sees of long work: bars on a terminal, plain lines elsewhere; and what is kept of it: a log."""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import append_line
from .fit import Progress, Watch, describe, losses, to_json

PLAIN_EVERY = 5.0
"""Seconds between plain lines."""


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
        for name in ("loss", "held_out", "learning_rate"):
            if getattr(p, name) is not None:
                writer.add_scalar(f"{p.stage}/{name}", getattr(p, name), p.step)
        writer.flush()

    return write


def every(*watches: Callable[[Progress], None]) -> Watch:
    """All of these, in turn."""

    def tell(progress: Progress) -> None:
        for watch in watches:
            watch(progress)

    return tell
