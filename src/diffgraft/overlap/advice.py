"""Which method a comparison of two data sets speaks for, and the comparison in plain words.

The thresholds stand here and nowhere else. `advise` decides from the numbers of a report (see `overlap.inspect`) alone.
"""

from typing import Any

Report = dict[str, Any]

LEAST = 10
"""Fewer points than this can neither be told from the other domain nor be held out: two a fold of cross-validation."""
APART = 0.99
"""Where a held-out classifier errs on less than one pair in a hundred, the log ratio is an extrapolation almost everywhere."""
LEAST_POINTS = 20
"""A ratio that rests on fewer source points than this has a relative error of a fifth or more (1 / sqrt 20)."""
MOST_OUTSIDE = 0.5
"""Guidance weighs what the source makes; where it never makes most of the target, no weight helps."""
LEVEL = 0.05
"""Chance of calling any feature shifted where none is; each is tested at this over their number."""
COVERED = 0.5
"""Share of the target points that must have a label common enough for a look within labels to say something."""
SHOWN = 8
"""Rows of a table, and names in a list, that are printed."""

HEADLINES = {
    "tgdp": "use tgdp: the target overlaps the source, so a density ratio can carry the transfer",
    "finetune": "use finetune: a density ratio cannot carry this transfer",
    "more_data": "collect more data first",
    "source": "use the source model as it is",
}


def advise(report: Report) -> tuple[str, list[str]]:
    """The advice, "tgdp", "finetune", "more_data" or "source", and its reasons, a sentence each.

    Args:
        report: All other entries of what `overlap.inspect` returns.
    """
    for domain in ("target", "source"):
        if (n := report["sizes"][domain]) < LEAST:
            return "more_data", [f"{n} {domain} points are too few to compare or to learn from; {LEAST} are the least, 50 a good start."]
    if not _shifted(report):
        return "source", [_no_shift(report)]
    if _labels_only(report):
        return "source", [_only_labels(report)]
    against = [sentence for fails, sentence in _conditions(report) if fails]
    return ("finetune", against) if against else ("tgdp", [sentence for _, sentence in _conditions(report)])


def significant(report: Report) -> list[str]:
    """Features whose shift is beyond chance, after Bonferroni."""
    return [row["feature"] for row in report["shifts"] if row["p"] < LEVEL / len(report["shifts"])]


def _shifted(report: Report) -> bool:
    return report["classifier"]["auc_interval"][0] > 0.5 or bool(significant(report))


def _no_shift(report: Report) -> str:
    low, high = report["classifier"]["auc_interval"]
    none = f"none of {len(report['shifts'])} features differs beyond chance"
    return f"No shift was found: {_auc(report['classifier'])} holds 0.5 and {none}; with so few points one of AUC {0.5 + (high - low) / 2:.2f} may go unseen."


def _labels_only(report: Report) -> bool:
    """Whether a classifier tells the domains apart within no label, where that can be judged for most of the target."""
    within = report["within_labels"]
    if within is None or report["labels"]["new"]:
        return False
    return within["auc_interval"][0] <= 0.5 and within["target_points"] >= COVERED * report["sizes"]["target"]


def _only_labels(report: Report) -> str:
    return f"Only the frequencies of labels differ: within labels {_auc(report['within_labels'])} holds 0.5; sample the source with the target's labels."


def _conditions(report: Report) -> list[tuple[bool, str]]:
    """What a ratio method needs, whether it is amiss, and the sentence with its number."""
    c, size = report["classifier"], report["effective_sample_size"]
    share, basis = outside_share(report), min(size["judged"], size["points"])
    apart, few, out = c["auc"] > APART, basis < LEAST_POINTS, share > MOST_OUTSIDE
    of = f"{size['share']:.1%} of the source, {size['points']:.0f} of {report['sizes']['source']} points"
    if size["judged"] < LEAST_POINTS:
        of = f"{size['judged']:.0f} of {size['of']} source points"
    return [
        (apart, f"A classifier tells target from source with {_auc(c)}{', so they hardly overlap' if apart else ''} (0.5: no shift, above {APART}: apart)."),
        (few, f"The ratio rests on {of}; {'fewer than the' if few else 'at least the'} {LEAST_POINTS} that are needed."),
        (out, f"{share:.0%} of the target points lie where the source has none; {'more' if out else 'no more'} than {MOST_OUTSIDE:.0%} may."),
    ]


def outside_share(report: Report) -> float:
    """The larger of the shares of target points outside of the source's support."""
    return max(report["outside"]["density"] or 0.0, report["outside"]["neighbours"])


def _auc(scored: Report) -> str:
    low, high = scored["auc_interval"]
    return f"AUC {scored['auc']:.3f} (95 % interval {low:.3f} to {high:.3f})"


def say(report: Report) -> list[str]:
    """The advice, its reasons, and what else to mind, in plain words, a line each."""
    lines = [f"{report['advice']}: {HEADLINES[report['advice']]}"]
    lines += [f"  - {reason}" for reason in report["reasons"]]
    if report["advice"] == "finetune" and report["outside"]["density"] is not None:
        lines.append("  - On a table like this one learn from the smoothed target: --method finetune --set augment=pseudo-target.")
    return lines + [f"  ! {caution}" for caution in _cautions(report)]


def _cautions(report: Report) -> list[str]:
    found, repeats, columns = [], report["duplicates"], report["columns"]
    if n := repeats["across"]["rows"]:
        a, b = repeats["across"]["first"][0]
        found.append(f"{n} target rows stand in the source too (source row {a} is target row {b}): drop them from the source, or they are no test of transfer.")
    if n := repeats["target"]["rows"]:
        a, b = repeats["target"]["first"][0]
        found.append(f"{n} target rows repeat an earlier one (row {b} is row {a}): drop them before splitting, or held-out points leak.")
    if n := repeats["source"]["rows"]:
        found.append(f"{n} source rows repeat an earlier one.")
    for domain in ("source", "target"):
        if names := columns["constant"][domain]:
            found.append(f"Constant in the {domain}: {_some(names)}.")
    found += [f"{name} takes {k} values: samples will be continuous." for name, k in list(columns["discrete"].items())[:SHOWN]]
    if report["labels"] and report["labels"]["new"]:
        found.append(f"Labels that the source lacks: {_some(report['labels']['new'])}.")
    return found


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def tables(report: Report) -> list[str]:
    """The report's numbers as aligned lines."""
    return [*_sizes(report), "", *_numbers(report), "", *_shift_table(report), *_label_table(report), *_extreme_table(report)]


def _sizes(report: Report) -> list[str]:
    sizes, repeats = report["sizes"], report["duplicates"]
    judged, shape = sizes["judged"], " x ".join(str(k) for k in sizes["shape"])
    rows = [f"{domain:<24}{sizes[domain]:>10}{judged[domain]:>10}{repeats[domain]['rows']:>12}" for domain in ("source", "target")]
    return [f"{'samples of ' + shape:<24}{'rows':>10}{'judged':>10}{'repeated':>12}", *rows, f"{'in both':<44}{repeats['across']['rows']:>12}"]


def _numbers(report: Report) -> list[str]:
    c, size, out, within = (report[key] for key in ("classifier", "effective_sample_size", "outside", "within_labels"))
    scored = [("AUC of a classifier", c)] if c["auc"] is not None else []
    scored += [("AUC within labels", within)] if within else []
    lines = [f"{name:<36}{s['auc']:>8.3f}   95 % interval {s['auc_interval'][0]:.3f} to {s['auc_interval'][1]:.3f}" for name, s in scored]
    predicted, true, _ = c["calibration"][-1]
    lines.append(f"{'error of its probabilities':<36}{c['calibration_error']:>8.3f}   top tenth {predicted:.3f}, in truth {true:.3f}")
    lines.append(f"{'effective sample size':<36}{size['judged']:>8.1f}   of {size['of']} source points, {size['share']:.2%}")
    lines += [f"{f'target outside source, by {how}':<36}{out[how]:>8.1%}" for how in ("density", "neighbours") if out[how] is not None]
    return lines


def _shift_table(report: Report) -> list[str]:
    beyond, rows = significant(report), report["shifts"]
    wide = max([len(row["feature"]) for row in rows[:SHOWN]] + [12]) + 2
    lines = [f"{'shifted most':<{wide}}{'mean':>10}{'std':>10}{'KS':>10}{'p':>10}"]
    for row in rows[:SHOWN]:
        moved, wider = ("constant" if row[key] is None else f"{row[key]:{form}}" for key, form in (("mean_difference", "+.2f"), ("std_ratio", ".2f")))
        lines.append(f"{row['feature']:<{wide}}{moved:>10}{wider:>10}{row['ks']:>10.3f}{row['p']:>10.2g}{'  *' if row['feature'] in beyond else ''}")
    return [*lines, f"mean: difference in source standard deviations; std: target over source; *: beyond chance, {len(beyond)} of {len(rows)}"]


def _label_table(report: Report) -> list[str]:
    if not report["labels"]:
        return []
    counts = [report["labels"][domain] or {} for domain in ("source", "target")]
    within = (report["within_labels"] or {"by_label": {}})["by_label"]
    names = sorted({*counts[0], *counts[1]}, key=lambda name: (-counts[1].get(name, 0), -counts[0].get(name, 0)))
    wide = max(12, *(len(name) + 2 for name in names[: 2 * SHOWN]))
    lines = ["", f"{'label':<{wide}}{'source':>10}{'target':>10}{'AUC':>10}"]
    for name in names[: 2 * SHOWN]:
        lines.append(
            f"{name:<{wide}}{counts[0].get(name, 0):>10}{counts[1].get(name, 0):>10}{format(within[name]['auc'], '.3f') if name in within else '':>10}"
        )
    return lines + ([f"and {len(names) - 2 * SHOWN} more"] if len(names) > 2 * SHOWN else [])


def _extreme_table(report: Report) -> list[str]:
    rows = report["outside"]["extreme"]
    lines = [f"{row['row']:<12}{row['distance']:>10.2f}  {row['feature']} at z = {row['z']:+.1f}" for row in rows]
    return ["", f"{'target row':<12}{'distance':>10}  farthest from the source, 1 is usual at most", *lines] if rows else []
