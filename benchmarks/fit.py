"""What TGDP costs on section 4.1: selection, fit, and guided sampling beside the source alone.

python benchmarks/fit.py [--n 10 100 1000] [--draws 5] [--seeds 0] [--steps 2500] [--width 64] [--depth 3]
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    for name in ("steps", "width", "depth"):
        parser.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    method = dg.methods.TGDP(**{name: getattr(args, name) for name in ("steps", "width", "depth") if getattr(args, name)})
    print(f"section 4.1, {torch.get_num_threads()} threads")
    print("seed      n   selection s   fit s   score error   sampling relative to the source at 64 and 10,000 samples")
    for seed in args.seeds:
        source = None
        for n in args.n:
            task = dg.tasks.mixtures.shifted(n, seed)
            source = source or pretrain(task.data.source, seed, transform=task.transform)
            report(method, source, task, seed, args.draws)


def report(method, source, task, seed, draws):
    """Fit once and print a line."""
    began = time.perf_counter()
    model = method.fit(source, task.data, torch.Generator().manual_seed(seed))
    fit, select = time.perf_counter() - began, model.notes["select_seconds"]
    small, large = (cost_of_sampling(source, model, m, draws) for m in (64, 10_000))
    error = score_error(model, task.truth)
    print(f"{seed:4}  {task.data.target.n:5}   {select:11.1f}   {fit - select:5.1f}   {error:11.5f}   {small:.2f}  {large:.2f}", flush=True)


if __name__ == "__main__":
    main()
