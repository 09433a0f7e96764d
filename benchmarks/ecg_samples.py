"""Which statements the samples of a run of SYNTHETIC electrocardiograms fail to show, and how much of the Fréchet distance that is.

    python benchmarks/ecg_samples.py RUN [--n 50]

Of each method and seed: the Fréchet distance to all held-out records, that of everything but one statement, the share of that statement's samples
that show it, and the squared distance between mean features of each statement. A sample shows a statement where it lies beyond the middle
between the mean features of held-out records with it and of those without; the last line of a seed says how many of these do.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import diffgraft as dg
from diffgraft.files import read_lines
from diffgraft.metrics.transport import frechet
from diffgraft.tasks.dipole import STATEMENTS

RARE = STATEMENTS.index("PVC")


def shown(seen: Tensor, real: Tensor, y: Tensor, statement: int) -> Tensor:
    """Which features (n, F) lie nearer to those of real records with a statement than to those without, (n,)."""
    with_it, without = real[y == statement].mean(0), real[y != statement].mean(0)
    return (seen - (with_it + without) / 2) @ (with_it - without) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=50, help="target records")
    given = parser.parse_args()
    records = [r for r in read_lines(given.run / "records.jsonl") if r["n_target"] == given.n]
    name = STATEMENTS[RARE]
    print(f"| seed | method | Fréchet | without {name} | {name} shown | {' | '.join(STATEMENTS)} |")
    print("|---" * (5 + len(STATEMENTS)) + "|")
    for seed in sorted({r["seed"] for r in records}):
        task = dg.tasks.ecg.synthetic(given.n, seed, n_source=200)  # the held-out records do not depend on the source
        assert task.features is not None and task.test.y is not None
        real, y_real = task.features(task.test.x), task.test.y
        for r in (r for r in records if r["seed"] == seed):
            with np.load(given.run / "samples" / f"{r['id']}.npz") as file:
                x, y = torch.from_numpy(file["X"]), torch.from_numpy(file["y"])
            seen = task.features(x.float())
            both = f"{frechet(seen, real):.2f} | {frechet(seen[y != RARE], real[y_real != RARE]):.2f}"
            far = [float((seen[y == k].mean(0) - real[y_real == k].mean(0)).square().sum()) for k in range(len(STATEMENTS))]
            share = float(shown(seen[y == RARE], real, y_real, RARE).double().mean())
            print(f"| {seed} | {r['method_label']} | {both} | {share:.0%} | {' | '.join(f'{v:.1f}' for v in far)} |", flush=True)
        print(f"| {seed} | held-out records | | | {float(shown(real[y_real == RARE], real, y_real, RARE).double().mean()):.0%} |", flush=True)


if __name__ == "__main__":
    main()
