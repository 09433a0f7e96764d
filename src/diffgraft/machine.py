"""How a machine computes a training run: what changes its speed and memory, and no result beyond rounding.

Methods know nothing of it. Whoever trains says it once, for a block: `with on(Machine(precision="bf16")): method.fit(...)`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .errors import BadPlan, one_of

PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class Machine:
    """Settings of a machine.

    Args:
        precision: Autocast: "no", "bf16", or "fp16" with scaled losses.
        accumulate: Parts that a batch is cut into, one after the other.
        checkpointing: Compute activations again in the backward pass instead of keeping them; networks of diffusers know how.
        compiled: Compile the network that is trained by torch.

    Raises:
        BadPlan: An unknown precision, or less than one part.
    """

    precision: str = "no"
    accumulate: int = 1
    checkpointing: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        one_of("precision", self.precision, PRECISIONS)
        if self.accumulate < 1:
            raise BadPlan(f"a batch is cut into at least 1 part, got {self.accumulate}; 1 is the whole batch")

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """Autocast on a kind of device, for a block."""
        import torch  # not above: commands that compute nothing start sooner

        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(device, kinds.get(self.precision), enabled=self.precision in kinds)


PLAIN = Machine()
_current: ContextVar[Machine] = ContextVar("machine", default=PLAIN)


def current() -> Machine:
    """The settings of this block."""
    return _current.get()


@contextmanager
def on(machine: Machine) -> Iterator[None]:
    """Train with these settings inside a block."""
    token = _current.set(machine)
    try:
        yield
    finally:
        _current.reset(token)
