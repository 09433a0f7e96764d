"""Two methods of a run, seed by seed, as Markdown: each score of both, and their mean difference with its 95 % interval.

python benchmarks/paired.py RUN --methods tgdp "finetune, 300 steps" [--metrics frechet feature_coverage downstream_auc]
"""

import argparse
from pathlib import Path

from diffgraft.pages.records import read_run
from diffgraft.pages.scores import half_interval, mean
from diffgraft.terms import best_way, metric_title, number


def rows(group, names, metrics):
    """A line a score, of the seeds that both methods have."""
    entries = {e.name: e for e in group.entries}
    if any(name not in entries for name in names):
        return
    for metric in metrics:
        a, b = (entries[name].values(metric) for name in names)
        seeds = sorted(set(a) & set(b))
        if not seeds:
            continue
        gaps = [a[s] - b[s] for s in seeds]
        half = half_interval(gaps)
        way = -1 if best_way(metric) == "low" else 1
        both = " | ".join(", ".join(number(v[s]) for s in seeds) for v in (a, b))
        apart = number(mean(gaps)) + ("" if half is None else f" ± {number(half, 2)}")
        yield f"| {group.n_target} | {metric_title(metric)} | {both} | {apart} | {sum(way * g > 0 for g in gaps)} of {len(gaps)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--methods", nargs=2, required=True)
    parser.add_argument("--metrics", nargs="+", default=["frechet", "feature_coverage", "downstream_auc", "energy"])
    args = parser.parse_args()
    groups = read_run(args.run).groups
    unknown = [name for name in args.methods if not any(e.name == name for g in groups for e in g.entries)]
    if unknown:
        raise SystemExit(f"no method '{unknown[0]}' in {args.run}; it has {', '.join(sorted({e.name for g in groups for e in g.entries}))}")
    print(f"| n | score | {' | '.join(args.methods)} | difference | the first is better |")
    print("|---" * 6 + "|")
    for group in groups:
        print("\n".join(rows(group, args.methods, args.metrics)))


if __name__ == "__main__":
    main()
