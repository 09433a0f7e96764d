"""Rows on disk instead of in memory: a temporary file without a name, memory-mapped."""

import tempfile
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor


class Spool:
    """Takes float32 rows as they come, and gives them back as one tensor that the system may drop from memory.

    The file has no name from the start, and lives as long as the tensor.

    Args:
        shape: Shape of one row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.n = shape, 0
        self._file = tempfile.TemporaryFile(prefix="diffgraft-")  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, rows: np.ndarray) -> None:
        """Append rows (n, *shape)."""
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self.n += len(rows)

    def tensor(self) -> Tensor:
        """All rows, (n, *shape)."""
        if self.n == 0:
            return torch.empty(0, *self.shape)
        self._file.flush()
        return torch.from_numpy(np.memmap(self._file, np.float32, mode="c", shape=(self.n, *self.shape)))
