"""What share of the gap between the source and the best sampler each method closes: (worst - method) / (worst - best), of energy and Frechet distance.

    python benchmarks/gap_closed.py RUN/records.jsonl --best "finetune, 1,000 steps" [--worst source]

0 is as far off as the worst, 1 as near as the best, below 0 farther off, above 1 nearer. The best is a method of the run, by the label that its
plan gives it, or `floor`, what real data score. A method is paired by seed; where it has no record of a seed, or of a size at all, as a
yardstick of many target points and one seed has, the mean of those that it has stands in, which lines below a table tell. At another size
held-out data may be others, so mind the floors. A dash: the best is no better than the worst.
"""

import argparse
import math
from pathlib import Path

from diffgraft.files import read_lines
from diffgraft.pages.records import Group, as_number, group
from diffgraft.pages.scores import mean, spread
from diffgraft.terms import metric_title, number

METRICS = ("energy", "frechet")
FLOOR = "floor"
Seeds = dict[int, float]


def scores(g: Group, name: str, metric: str) -> Seeds:
    """A method's score of each seed of a group, or the floor's; none where it was not run."""
    if name == FLOOR:
        return {r["seed"]: as_number(r["metrics"][metric].get("floor")) for r in g.records if metric in r["metrics"]}
    return next((e.values(metric) for e in g.entries if e.name == name), {})


def end(groups: list[Group], g: Group, name: str, metric: str) -> tuple[Seeds, str]:
    """An end of the gap at each seed of a group, and in words what stands in where it has no record."""
    own = scores(g, name, metric)
    lacking = [seed for seed in g.seeds if seed not in own]
    if not lacking:
        return own, ""
    others = {o.n_target: found for o in groups if o.label == g.label and o is not g and (found := scores(o, name, metric))}
    there = {g.n_target: own} if own else others
    value = mean([v for found in there.values() for v in found.values()])
    told = "; ".join(f"n = {n}, seeds {', '.join(map(str, found))}" for n, found in there.items())
    return {**own, **dict.fromkeys(lacking, value)}, f"{name} at seeds {', '.join(map(str, lacking))}: the mean of {told or 'nothing'}"


def share(worst: float, value: float, best: float) -> float:
    """What share of the gap is closed; nan where there is none."""
    return (worst - value) / (worst - best) if worst > best else math.nan


def closed(groups: list[Group], g: Group, metric: str, best: str, worst: str) -> tuple[dict[str, Seeds], list[str]]:
    """The share that each method of a group closes at each seed, and what stands in for records that are missing."""
    (low, one), (high, two) = (end(groups, g, name, metric) for name in (best, worst))
    found = {e.name: {seed: share(high[seed], v, low[seed]) for seed, v in e.values(metric).items()} for e in g.entries if e.name not in (best, worst)}
    return found, [told for told in (one, two) if told]


def cell(values: list[float]) -> str:
    """Mean and spread of shares, in percent."""
    known = [100 * v for v in values if not math.isnan(v)]
    sd = spread(known)
    return (f"{mean(known):.0f} %" if known else "–") + (f" ± {number(sd, 2)}" if sd is not None else "")


def lines(groups: list[Group], g: Group, metric: str, best: str, worst: str) -> list[str]:
    """One table; none of a group that holds nothing but the ends."""
    found, told = closed(groups, g, metric, best, worst)
    if not found:
        return []
    head = [f"**{g.title}, n = {g.n_target}, {metric_title(metric)}**; 0 % is {worst}, 100 % is {best}", ""]
    head += [f"| method | {' | '.join(f'seed {seed}' for seed in g.seeds)} | mean |", "|---" * (2 + len(g.seeds)) + "|"]
    rows = [f"| {name} | {' | '.join(cell([by[s]] if s in by else []) for s in g.seeds)} | {cell(list(by.values()))} |" for name, by in found.items()]
    return [*head, *rows, "", *(f"{line}.\n" for line in told), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, help="records.jsonl of a run folder")
    parser.add_argument("--best", required=True, help="label of a method, or floor")
    parser.add_argument("--worst", default="source", help="label of a method")
    given = parser.parse_args()
    groups = group(read_lines(given.records), {})
    known = {e.name for g in groups for e in g.entries} | {FLOOR}
    if unknown := {given.best, given.worst} - known:
        parser.error(f"no method {', '.join(map(repr, sorted(unknown)))}; there are {', '.join(map(repr, sorted(known)))}")
    for g in groups:
        for metric in METRICS:
            if metric in g.metrics:
                print(*lines(groups, g, metric, given.best, given.worst), sep="\n", end="")


if __name__ == "__main__":
    main()
