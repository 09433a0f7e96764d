"""Work in processes of their own: results come as they end, faults and interrupts stop everything and lose nothing."""

import os
import signal
import threading
import time
from functools import partial

import pytest

from diffgraft.errors import BadData, DiffgraftError, MissingExtra
from diffgraft.interrupts import finish_on_interrupt
from diffgraft.workers import Crew

idle = partial(int, 0)


def double(x):
    return 2 * x


def refuse(kind):
    raise MissingExtra("peft", "diffusers") if kind is MissingExtra else kind("row 3 is odd")


def work(folder, name):
    """Says that it began, and works in steps until it is asked to stop; the step that it is in is finished."""
    (folder / f"{name}-{os.getpid()}").touch()
    with finish_on_interrupt() as asked:
        for _ in range(400):
            time.sleep(0.05)
            if asked():
                (folder / f"{name} was saved").touch()
                raise KeyboardInterrupt
    return name


def die():
    os._exit(9)


def started(folder, name):
    return any(p.name.startswith(f"{name}-") for p in folder.iterdir())


def interrupt_when(condition, times=1):
    def wait():
        while not condition():
            time.sleep(0.02)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def meet(folder, name):
    """Waits for another worker in the same folder; the process that it is in."""
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    return os.getpid()


def test_calls_of_a_kind_go_to_one_worker(tmp_path):
    crew = Crew(2, idle)
    for k in range(4):
        for kind in ("ab", "ba")[k % 2]:
            crew.give(f"{kind}{k}", meet, tmp_path / str(k), kind, kind=kind)
    at = dict(crew.results())
    assert len({at[f"a{k}"] for k in range(4)}) == len({at[f"b{k}"] for k in range(4)}) == 1 and at["a0"] != at["b0"]


def test_calls_of_one_kind_are_shared_by_all_workers(tmp_path):
    crew = Crew(2, idle)
    for k in range(4):
        crew.give(str(k), meet, tmp_path / str(k // 2), str(k), kind="a")
    at = dict(crew.results())
    assert at["0"] != at["1"] and at["2"] != at["3"]


def test_results_come_as_they_end_and_calls_may_follow():
    crew = Crew(2, idle)
    for k in range(3):
        crew.give(str(k), double, k)
    found = {}
    for name, value in crew.results():
        found[name] = value
        if value == 4:
            crew.give("more", double, 50)
    assert found == {"0": 0, "1": 2, "2": 4, "more": 100}
    assert not any(p.is_alive() for p in crew.processes.values())


@pytest.mark.parametrize("kind", [BadData, MissingExtra])
def test_an_error_stops_the_others_and_keeps_its_kind(tmp_path, kind):
    crew = Crew(2, idle)
    crew.give("long", work, tmp_path, "long")
    crew.give("bad", refuse, kind)
    crew.give("never", double, 1)
    began = time.monotonic()
    with pytest.raises(kind, match="row 3 is odd" if kind is BadData else "peft"):
        assert dict(crew.results()) == {}
    assert time.monotonic() - began < 15
    assert not started(tmp_path, "long") or (tmp_path / "long was saved").exists()


def test_a_fault_of_ours_shows_where_it_happened():
    crew = Crew(1, idle)
    crew.give("x", double, None)
    with pytest.raises(RuntimeError, match=r"(?s)TypeError.*in a worker process.*in double"):
        list(crew.results())


def test_a_worker_that_dies_is_named():
    crew = Crew(2, idle)
    crew.give("heavy", die)
    with pytest.raises(DiffgraftError, match=r"heavy: a worker process ended with status 9; .*--jobs"):
        list(crew.results())


def test_an_interrupt_lets_each_finish_its_step(tmp_path):
    crew, before = Crew(2, idle), signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    for name in ("a", "b", "c"):
        crew.give(name, work, tmp_path, name)
    thread = interrupt_when(lambda: started(tmp_path, "a") and started(tmp_path, "b"))
    with pytest.raises(KeyboardInterrupt):
        list(crew.results())
    thread.join()
    assert {p.name for p in tmp_path.iterdir() if "saved" in p.name} == {"a was saved", "b was saved"} and not started(tmp_path, "c")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_early_interrupt_starts_nothing(tmp_path):
    crew = Crew(1, idle)
    crew.give("a", work, tmp_path, "a")
    thread = interrupt_when(lambda: crew.processes)
    with pytest.raises(KeyboardInterrupt):
        list(crew.results())
    thread.join()
    assert not any(p.is_alive() for p in crew.processes.values()) and not (tmp_path / "a was saved").exists()
