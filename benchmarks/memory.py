"""Most memory that processes hold (Linux), for the benchmarks beside it.

On import their folder moves to the end of the search path: `diffusers.py` here must not stand in the place of the library.
"""

import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.sort(key=lambda folder: Path(folder or ".").resolve() == HERE)


def peak() -> float:
    """Most memory that this process has held so far, in MB; 0 where the system does not say."""
    # not ru_maxrss, which a child inherits from its parent
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def peak_of(work: Callable[..., object], *args: object) -> float:
    """Most memory of a fresh process that does some work, in MB."""
    context = get_context("spawn")
    receive, send = context.Pipe(False)
    child = context.Process(target=_told, args=(send, work, args))
    child.start()
    result = float(receive.recv())
    child.join()
    return result


def _told(send: Any, work: Callable[..., object], args: tuple[object, ...]) -> None:
    work(*args)
    send.send(peak())
