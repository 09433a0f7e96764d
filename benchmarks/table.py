"""Tables of a run's records as Markdown: mean +- standard deviation over seeds, and paired ratios to the best baseline.

python benchmarks/table.py results/gmm [--metrics score_error kl_model energy]
"""

import argparse
from pathlib import Path

from diffgraft.pages.ratios import baseline, ratio
from diffgraft.pages.records import read_run
from diffgraft.pages.scores import mean, spread
from diffgraft.terms import metric_title, number


def cell(values):
    """Mean and spread of one score."""
    sd = spread(values)
    return f"{number(mean(values))}" + (f" ± {number(sd, 2)}" if sd is not None else "")


def rows(group, metrics):
    """Lines of one table; the ratio is that of the first metric."""
    base = baseline(group, metrics[0])
    yield f"**{group.title}, n = {group.n_target}**" + (f"; ratios over {base.name}" if base else "")
    yield ""
    yield f"| method | seeds | {' | '.join(map(metric_title, metrics))} | ratio, 95 % interval |"
    yield "|---" * (3 + len(metrics)) + "|"
    for e in group.entries:
        r = ratio(e, base, metrics[0]) if base else None
        shown = "1" if e is base else "" if r is None else number(r.mean) + (f" ({number(r.low)} to {number(r.high)})" if r.low is not None else "")
        scores = (cell(list(e.values(m).values())) if e.values(m) else "" for m in metrics)
        yield f"| {e.name} | {len(e.records)} | {' | '.join(scores)} | {shown} |"
    yield f"| floor | | {' | '.join(number(mean(f)) if (f := group.floors(m)) else '' for m in metrics)} | |"
    yield ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--metrics", nargs="+", default=["score_error", "kl_generated", "kl_model", "energy"])
    args = parser.parse_args()
    groups = read_run(args.run).groups
    known = sorted({m for group in groups for m in group.metrics})
    if unknown := [m for m in args.metrics if m not in known]:
        raise SystemExit(f"no score '{unknown[0]}' in {args.run}; --metrics takes {', '.join(known)}")
    for group in groups:
        print("\n".join(rows(group, args.metrics)))


if __name__ == "__main__":
    main()
