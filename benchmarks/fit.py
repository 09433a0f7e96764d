"""What TGDP costs on section 4.1: selection, fit, and guided sampling beside the source alone.

python benchmarks/fit.py [--n 10 100 1000] [--draws 5]
"""

import argparse
import statistics
import time

import torch

import diffgraft as dg
from diffgraft.metrics.truth import score_error
from diffgraft.pretrain import pretrain


def seconds(model, n, generator_seed=0):
    """Of drawing n samples in 25 steps."""
    began = time.perf_counter()
    dg.sample(model, n, steps=25, generator=torch.Generator().manual_seed(generator_seed))
    return time.perf_counter() - began


def cost_of_sampling(source, model, n, draws):
    """Median time of the model over that of the source, taken in turns."""
    pairs = [(seconds(source, n, k), seconds(model, n, k)) for k in range(draws)]
    return statistics.median(b / a for a, b in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = None
    print(f"section 4.1, seed {args.seed}, {torch.get_num_threads()} threads")
    print("    n   selection s   fit s   score error   sampling relative to the source at 64 and 10,000 samples")
    for n in args.n:
        task = dg.tasks.mixtures.shifted(n, args.seed)
        source = source or pretrain(task.data.source, args.seed, transform=task.transform)
        began = time.perf_counter()
        model = dg.methods.TGDP().fit(source, task.data, torch.Generator().manual_seed(args.seed))
        fit = time.perf_counter() - began
        select = model.notes["select_seconds"]
        small, large = (cost_of_sampling(source, model, m, args.draws) for m in (64, 10_000))
        print(f"{n:5}   {select:11.1f}   {fit - select:5.1f}   {score_error(model, task.truth):11.5f}   {small:.2f}  {large:.2f}", flush=True)


if __name__ == "__main__":
    main()
