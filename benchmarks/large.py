"""A source of 1,000,000 rows and 50 columns: seconds and peak memory of `inspect` and of `pretrain`, each in a process of its own.

python benchmarks/large.py
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 1_000_000, 50


def main() -> None:
    """Make the data, run both commands, print a line each."""
    with tempfile.TemporaryDirectory() as home:
        source, target = Path(home, "source.npy"), Path(home, "target.npy")
        rng = np.random.default_rng(0)
        whole = np.lib.format.open_memmap(source, mode="w+", dtype=np.float32, shape=(ROWS, COLUMNS))
        for k in range(0, ROWS, 100_000):
            whole[k : k + 100_000] = rng.normal(size=(100_000, COLUMNS))
        np.save(target, rng.normal(0.3, size=(1_000, COLUMNS)).astype(np.float32))
        took("inspect", "inspect", "--source-data", source, "--target-data", target)
        took("pretrain, 300 steps", "pretrain", "--data", source, "--out", Path(home, "model"), "--steps", 300, "--quiet")


def took(name: str, *args: object) -> None:
    """Run a command and print what it took."""
    began = time.monotonic()
    code = f"import sys; sys.argv = {['diffgraft', *map(str, args)]!r}; from diffgraft.cli import main; main()"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{name:<24}{time.monotonic() - began:6.0f} s   {peak:5.2f} GiB at most so far")


if __name__ == "__main__":
    main()
