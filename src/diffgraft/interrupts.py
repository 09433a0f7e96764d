"""Ctrl-C and the terminate signal: who hears them, and for how long."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard_by(handler: Callable[[int, Any], Any] | signal.Handlers) -> Iterator[None]:
    """Both signals go to `handler` inside; off the main thread, where Python sets no handlers, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def finish_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C (or a terminate signal) finish the step: the value says whether it came; a second one stops at once."""
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with heard_by(note):
        yield lambda: bool(came)
