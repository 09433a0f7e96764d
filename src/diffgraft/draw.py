"""The random numbers of one training step: a function of the seed and the step alone, cut over processes."""

import torch
from torch import Tensor

from . import rng
from .data import Points, View
from .schedule import Schedule


class Draw:
    """The random numbers of one step, this process's share of them.

    Args:
        seed: Of the run.
        step: Of the loop; held-out checks use -1, so that they see the same numbers each time.
        batch_size: Over all processes.
    """

    def __init__(self, seed: int, step: int, batch_size: int, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.seed, self.step, self.batch_size, self.device = seed, step, batch_size, device
        self.share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def _generator(self, name: str) -> torch.Generator:
        return rng.generator(self.seed, name, self.step)

    def uniform(self, name: str) -> Tensor:
        """Numbers (b,), uniform on [0, 1)."""
        return torch.rand(self.batch_size, generator=self._generator(name))[self.share].to(self.device)

    def index(self, n: int, name: str) -> Tensor:
        """Rows (b,) of n, drawn with replacement."""
        return torch.randint(n, (self.batch_size,), generator=self._generator(name))[self.share]

    def rows(self, pool: Points | View, name: str) -> Points:
        """A batch from a pool, drawn with replacement."""
        chosen = pool.take(self.index(pool.n, name))
        return Points(chosen.x.to(self.device), None if chosen.y is None else chosen.y.to(self.device))

    def times(self, schedule: Schedule) -> Tensor:
        """Times (b,), uniform on [t_min, t_max], one in each of B equal strata."""
        u = (torch.arange(self.batch_size) + torch.rand(self.batch_size, generator=self._generator("times"))) / self.batch_size
        return (schedule.t_min + (schedule.t_max - schedule.t_min) * u[self.share]).to(self.device)

    def noise(self, x: Tensor, name: str = "eps") -> Tensor:
        """Standard normal noise, shaped like this process's batch `x`."""
        return torch.randn(self.batch_size, *x.shape[1:], generator=self._generator(name))[self.share].to(x)

    def drop(self, y: Tensor | None, probability: float) -> Tensor | None:
        """Labels with a share of them replaced by none."""
        if y is None or probability == 0:
            return y
        keep = self.uniform("drop").to(y.device) >= probability
        return torch.where(keep if y.ndim == 1 else keep[:, None], y, -1)
