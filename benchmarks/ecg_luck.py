"""How much of a shift few SYNTHETIC electrocardiograms tell, at best: what is left of the energy distance with a ratio by their true latents.

    python benchmarks/ecg_luck.py [--n 50] [--seeds 0 1 2 3 4 5]

No method can know the latents of the target records that it sees (statement, heart rate, axis, gain, noise). A ratio by their means, with
shares of statements shrunk towards the source's by as many records as there are statements, is what could be known if it did. Source
records are weighted by it, and by the exact ratio; 100 % is what they are without weights.
"""

import argparse

import torch
from torch import Tensor, bincount, cdist

from diffgraft import rng
from diffgraft.tasks.dipole import SOURCE, SPREADS, STATEMENTS, TARGET, Latents, draw, log_ratio, render

SHOWN, HELD_OUT, SAMPLES = 3000, 1500, 256


def standing(u: Latents) -> Tensor:
    """Latents beside the statement, in spreads from the source's means, (n, 4)."""
    return ((u.numbers - torch.tensor(SOURCE.means)) / torch.tensor(SPREADS)).double()


def by_latents(seen: Latents, source: Latents) -> Tensor:
    """log r at source latents, (n,), of the means and shares of latents that were seen."""
    counts, known = (bincount(u.statement, minlength=len(STATEMENTS)).double() for u in (seen, source))
    shares = (counts + len(STATEMENTS) * known / known.sum()) / (counts.sum() + len(STATEMENTS))
    return (shares / (known / known.sum())).log()[source.statement] + standing(source) @ standing(seen).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    given = parser.parse_args()
    source, held_out = draw(SOURCE, SHOWN, 1), draw(TARGET, HELD_OUT, 2)
    x, real = (render(u, seed, samples=SAMPLES).flatten(1) for u, seed in ((source, 3), (held_out, 4)))
    across, within, among = (cdist(a, b).double() for a, b in ((x, real), (x, x), (real, real)))
    floor = among.sum() / (HELD_OUT * (HELD_OUT - 1))

    def energy(log_r: Tensor) -> float:
        w = log_r.double().softmax(0)
        return float(2 * (w @ across).mean() - (w @ within @ w) / (1 - w.square().sum()) - floor)

    none = energy(torch.zeros(SHOWN))
    print(f"exact ratio: {energy(log_ratio(source)) / none:.0%} of the energy distance left")
    for seed in given.seeds:
        seen = draw(TARGET, given.n, rng.split(rng.split(seed, "target"), "latents"))  # as the task draws them
        off = " ".join(f"{float(v):+.2f}" for v in standing(seen).mean(0))
        print(f"seed {seed}: {energy(by_latents(seen, source)) / none:.0%} left; rate, axis, gain, noise {off} spreads from the source")


if __name__ == "__main__":
    main()
