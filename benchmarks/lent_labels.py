"""What ratios know of labels that the source never saw: the area under the ROC curve of their log odds on held-out people of the Brugada task.

Of clean ratios, with the features of a source model; or, of a run that has learned guides from these, of log h at noise levels.

python benchmarks/lent_labels.py runs/brugada/models/ptb-xl-to-brugada-huca-source-s0 [--n 30 90] [--seeds 0 1 2]
python benchmarks/lent_labels.py runs/brugada --guides
"""

import argparse
from pathlib import Path

import torch

from diffgraft import load, roc
from diffgraft.data import Points
from diffgraft.denoise import noised
from diffgraft.domain import kernel_ratio, lent_ratio, net_features, standardised
from diffgraft.rng import generator
from diffgraft.tasks.brugada import brugada


def known(ratio, test):
    """AUC of log r(x, 1) / r(x, 0), and its standard deviation."""
    yes = torch.ones(test.n, dtype=torch.int64)
    return said(ratio.logit(test.x, yes) - ratio.logit(test.x, 0 * yes), test)


def said(odds, test):
    return f"{roc.area(test.y.numpy() == 1, odds.numpy()):.3f} | {float(odds.std()):.2f}"


@torch.no_grad()
def guided(model, test, level):
    """AUC of log h(x_t, t, 1) / h(x_t, t, 0) at a log-SNR, and its standard deviation."""
    log_h, yes = model.shift.log_h, torch.ones(test.n, dtype=torch.int64)
    x = model.transform.of_data(test.x)
    t = log_h.schedule.time_at(torch.tensor(level, dtype=torch.float64)).to(x).expand(len(x))
    x_t = noised(log_h.schedule, x, t, torch.randn(x.shape, generator=generator(0, "noise")))
    return said(log_h(x_t, t, yes) - log_h(x_t, t, 0 * yes), test)


def of_guides(run, sizes, seeds):
    print("| n | seed | log-SNR -3: AUC | spread | log-SNR 0: AUC | spread | log-SNR 3: AUC | spread |\n|---|---|---|---|---|---|---|---|")
    for n in sizes:
        for seed in seeds:
            model, test = load(run / "models" / f"ptb-xl-to-brugada-huca-n{n}-tgdp-s{seed}"), brugada(n, seed).test
            print(f"| {n} | {seed} | {' | '.join(guided(model, test, level) for level in (-3.0, 0.0, 3.0))} |", flush=True)


def of_clean_ratios(model, sizes, seeds):
    print("| n | seed | one classifier: AUC | spread of log odds | labels by themselves: AUC | spread |\n|---|---|---|---|---|---|")
    pool = None
    for n in sizes:
        for seed in seeds:
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a source model, or with --guides a run")
    parser.add_argument("--guides", action="store_true")
    parser.add_argument("--n", type=int, nargs="+", default=[30, 90])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    if args.guides:
        of_guides(Path(args.model), args.n, args.seeds)
    else:
        of_clean_ratios(load(args.model), args.n, args.seeds)


if __name__ == "__main__":
    main()
