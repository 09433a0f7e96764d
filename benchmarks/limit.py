"""How far a perfect learner gets on section 4.1: maximum likelihood within the right family, on the draws of plans/gmm.toml.

It knows that the target has two components, and their covariance; weights and means come from the target points, by EM
started at the truth. What it still scores is the draw's share of any method's error.

    python benchmarks/limit.py [results/gmm]
"""

import argparse
import statistics
from pathlib import Path

import diffgraft as dg
from diffgraft.density import responsibilities
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.metrics.catalog import evaluate
from diffgraft.metrics.truth import score_error
from diffgraft.pages.ratios import baseline
from diffgraft.pages.records import read_run


def maximum_likelihood(x, q, rounds=200):
    """The mixture of q's covariances whose weights and means fit points x best; EM from q."""
    weights, means = q.weights, q.means
    for _ in range(rounds):
        share = responsibilities(x, Mixture(weights, means, q.covs))
        weights, means = share.mean(0), (share.T @ x) / share.sum(0)[:, None]
    return Mixture(weights, means, q.covs)


def scores(n, seed):
    """Score error, KL and energy distance of the fitted family."""
    task = dg.tasks.mixtures.shifted(n, seed)
    fitted = maximum_likelihood(task.data.target.x.double(), task.truth.q)
    found = evaluate(fitted.sample(10_000, seed + 1).x, task.test.x, truth=task.truth, metrics=["kl_generated", "energy"])
    return [score_error(MixtureDenoiser(fitted, task.truth.schedule), task.truth), *(s["value"] for s in found.values())]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("results/gmm"))
    args = parser.parse_args()
    print("    n   score error           KL of the samples     energy distance       score error over the best baseline in hindsight")
    for group in read_run(args.run).groups:
        rows = [scores(group.n_target, seed) for seed in group.seeds]
        base = baseline(group, "score_error").values("score_error")
        ratio = statistics.geometric_mean(row[0] / base[seed] for row, seed in zip(rows, group.seeds, strict=True))
        shown = (f"{statistics.mean(c):.5f} +- {statistics.stdev(c):.5f}" for c in zip(*rows, strict=True))
        print(f"{group.n_target:5}   {'   '.join(shown)}   {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
