"""Work side by side in processes of their own, with interrupts that let each process finish what it must.

Workers sit in process groups of their own, so Ctrl-C in a terminal reaches this process alone, which passes it on once:
training finishes its step and saves, anything else stops at once. What ended before is still handed over.
"""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from .errors import DiffgraftError
from .interrupts import SIGNALS, heard_by


class Call(NamedTuple):
    """What a worker is to do; calls of one kind share what a process keeps from one to the next."""

    name: str
    kind: str
    call: Callable[..., Any]
    args: tuple[Any, ...]


class Crew:
    """Some worker processes and the calls that wait for them.

    Args:
        size: How many processes.
        start: Called first in each of them.
    """

    def __init__(self, size: int, start: Callable[[], Any]) -> None:
        self.calls: list[Call] = []
        self.kinds: dict[Connection, str] = {}
        self.stopping = False
        self.interrupted = False
        self.failure: Exception | None = None
        self.idle: list[Connection] = []
        self.busy: dict[Connection, str] = {}
        self.size, self.start = size, start
        self.processes: dict[Connection, BaseProcess] = {}

    def give(self, name: str, call: Callable[..., Any], *args: Any, kind: str = "") -> None:
        """Let a worker call this, as soon as one is free, if possible one that had a call of this kind; call, arguments and result are pickled."""
        self.calls.append(Call(name, kind, call, args))

    def results(self) -> Generator[tuple[str, Any], None, None]:
        """Each call's name and result as they end; calls that are given meanwhile run too.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once every worker has stopped.
            Exception: What a call raised, once every other worker has stopped.
        """
        with heard_by(self._pass_on):
            try:
                self.processes = dict(_started(self.start) for _ in range(self.size))
                while self.busy or (self.calls and not self.stopping):
                    self._hand_out()
                    for line in wait([line for line in self.processes if line not in self.idle]):
                        assert isinstance(line, Connection)
                        yield from self._receive(line)
            finally:
                self._dismiss()
        if self.failure:
            raise self.failure
        if self.interrupted:
            raise KeyboardInterrupt

    def _hand_out(self) -> None:
        while self.idle and self.calls and not self.stopping:
            line = self.idle.pop()
            given = self.calls.pop(self._next(line))
            self.busy[line], self.kinds[line] = given.name, given.kind
            line.send((given.call, given.args))

    def _next(self, line: Connection) -> int:
        """Which call a worker takes: the first of the kind that it had last, else of a kind that no other works on, else the first."""
        waiting, others = [given.kind for given in self.calls], {self.kinds[busy] for busy in self.busy}
        if (own := self.kinds.get(line)) in waiting:
            return waiting.index(own)
        return next((k for k, kind in enumerate(waiting) if kind not in others), 0)

    def _receive(self, line: Connection) -> Iterator[tuple[str, Any]]:
        name = self.busy.pop(line, "its start")
        try:
            kind, value = line.recv()
        except (EOFError, ConnectionError):
            process = self.processes.pop(line)
            process.join()
            self._fail(DiffgraftError(f"{name}: a worker process ended with status {process.exitcode}; if memory ran out pass fewer --jobs, --resume goes on"))
            return
        self.idle.append(line)
        if kind == "done":
            yield name, value
        elif kind == "refused":
            error, text = value
            self._fail(error.__new__(error, text))  # without its __init__, which may take more than a message
        elif kind == "failed":
            self._fail(value)

    def _fail(self, failure: Exception) -> None:
        """Keep the first failure and stop the others."""
        if not self.stopping:
            self.failure = failure
            self._stop()

    def _stop(self) -> None:
        self.stopping = True
        for line in list(self.busy):
            with suppress(KeyError, ProcessLookupError):
                os.kill(self.processes[line].pid or 0, signal.SIGINT)

    def _pass_on(self, number: int, frame: Any) -> None:
        """Hand a signal on to the workers, each time that it comes."""
        self.interrupted = True
        self._stop()

    def _dismiss(self) -> None:
        if self.busy:  # whoever took the results went away
            self._stop()
        for line, process in self.processes.items():
            line.close()
            process.join()


def _started(start: Callable[[], Any]) -> tuple[Connection, BaseProcess]:
    """A worker and the line to it. It starts deaf to interrupts, and listens once it knows what to do with them."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, start))
    with heard_by(signal.SIG_IGN):  # a new process inherits this
        process.start()
    theirs.close()
    return ours, process


def _work(line: Connection, start: Callable[[], Any]) -> None:
    """A worker's life: call what comes, send back what came of it, until the line is closed."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    busy: list[bool] = []
    asked: list[int] = []  # to stop; it may come while the next call is still on its way

    def interrupt(number: int, frame: Any) -> None:
        asked.append(number)
        if busy:
            raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, interrupt)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        start()
        line.send(("ready", None))
        while True:
            call, args = line.recv()
            busy.append(True)
            reply = ("stopped", None) if asked else _reply(call, args)
            busy.clear()
            line.send(reply)


def _reply(call: Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "done", call(*args)
    except KeyboardInterrupt:
        return "stopped", None
    except DiffgraftError as error:
        return "refused", (type(error), str(error))
    except Exception as error:
        return "failed", RuntimeError(f"{error!r} in a worker process\n{traceback.format_exc()}")


def _follow_parent() -> None:
    """End with the process that this one works for, even where that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)
