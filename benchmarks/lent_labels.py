"""What a clean ratio knows of labels that the source never saw: the area under the ROC curve of its log odds on held-out people of the Brugada task.

python benchmarks/lent_labels.py runs/brugada/models/ptb-xl-to-brugada-huca-source-s0 [--n 30 90] [--seeds 0 1 2]
"""

import argparse

import torch

from diffgraft import load, roc
from diffgraft.data import Points
from diffgraft.domain import kernel_ratio, lent_ratio, net_features, standardised
from diffgraft.rng import generator
from diffgraft.tasks.brugada import brugada


def known(ratio, test):
    """AUC of log r(x, 1) / r(x, 0), and its standard deviation."""
    yes = torch.ones(test.n, dtype=torch.int64)
    odds = ratio.logit(test.x, yes) - ratio.logit(test.x, 0 * yes)
    return f"{roc.area(test.y.numpy() == 1, odds.numpy()):.3f} | {float(odds.std()):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--n", type=int, nargs="+", default=[30, 90])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    model = load(args.model)
    print("| n | seed | one classifier: AUC | spread of log odds | labels by themselves: AUC | spread |\n|---|---|---|---|---|---|")
    pool = None
    for n in args.n:
        for seed in args.seeds:
            task = brugada(n, seed)
            if pool is None:
                x = model.transform.of_data(task.data.source.x)
                looks = standardised(net_features(model), Points(x[torch.randperm(len(x), generator=generator(0, "features"))[:5000]]))
                pool = looks(x)
            target, test = (Points(looks(model.transform.of_data(part.x)), part.y) for part in (task.data.target, task.test))
            rows = torch.randint(target.n, (len(pool),), generator=generator(seed, "lent"))
            source = Points(pool, target.y[rows])
            joint = known(kernel_ratio(source, target, seed, weight=1.0, labels_lent=True), test)
            print(f"| {n} | {seed} | {joint} | {known(lent_ratio(source, target, seed, weight=1.0), test)} |", flush=True)


if __name__ == "__main__":
    main()
