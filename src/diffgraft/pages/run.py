"""The report of a run: its records as one page, and as a table for the terminal.

Scores come from the records; `scores`, `ratios` and `ranks` add means, spreads, ratios and ranks, and no more. What is drawn of samples comes from their files.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import terms
from ..files import atomic_file
from . import classifiers, clouds, glossary, overview, pictures, ranks, tables, words
from .curves import curve_figure
from .embedding import map_figure
from .fields import field_figures
from .neighbours import neighbour_figures
from .physiology import physiology_figures
from .ratios import ratio_table
from .reading import reading
from .records import Group, Run, read_run
from .template import filled
from .terminal import block, overview_block

SLICE = 5
"""Most metrics side by side on the page."""
NARROW = 8
"""Most columns of ranks side by side."""
LEGEND = "* better than every other method beyond noise; ~ cannot be told from the best\nfloor: what real data score against real data"


def report(folder: str | Path) -> Path:
    """Write RUN/report.html, one file that needs no other, from the records of a run.

    Args:
        folder: The run folder.

    Returns:
        Path of the page.

    Raises:
        BadData: No such folder, no records, or records of another format.
    """
    run = read_run(folder)
    out = run.folder / "report.html"
    page = render(run)
    with atomic_file(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def table(folder: str | Path) -> str:
    """The comparison table of a run as plain text: a block a task and target size, methods as rows, the floor last.
    Where there are several blocks, the ranks over all of them come first.

    A star marks a method that is better than every other beyond noise; a tilde, those that share the lead.

    Args:
        folder: The run folder.

    Raises:
        BadData: No such folder, no records, or records of another format.
    """
    run = read_run(folder)
    ov = ranks.overview(run)
    return "\n\n".join([*([overview_block(ov)] if ov else []), *map(block, run.groups), LEGEND])


def render(run: Run) -> str:
    """The page of a run, as HTML."""
    ov = ranks.overview(run)
    metrics = dict.fromkeys(m for g in run.groups for m in g.metrics)
    methods = dict.fromkeys(str(r["method"]["name"]) for g in run.groups for r in g.records)
    return filled(
        "page.html.j2",
        run=run,
        overall=overall(ov) if ov else None,
        sections=sections(run),
        warnings=words.warnings(run),
        summary=words.summary(run, reading(ov) if ov else []),
        finished=words.finished(run),
        far=words.FAR,
        several=any(len(g.seeds) > 1 for g in run.groups),
        methods=[(m, terms.METHODS[m]) for m in methods if m in terms.METHODS],
        named=words.own_names(run),
        metrics=[(m, terms.metric_text(m), terms.metric_title(m), terms.direction(m)) for m in metrics],
        command=shlex.join(["diffgraft", *map(str, run.facts["arguments"])]) if run.facts["arguments"] else "",
        again=shlex.join(["diffgraft", "run", "plan.toml", "--out", f"{run.folder.resolve().name}-again"]),
    )


def overall(ov: ranks.Overview) -> dict[str, object]:
    """What the page shows of all groups together."""
    return {
        "tasks": len(ov.judged),
        "summary": overview.summary_table(ov),
        "figure": overview.rank_figure(ov),
        "places": overview.task_table(ov).slices(NARROW),
        "all_ranked": len(ov.ranked) == len(ov.standings),
        "resampled": ov.resampled,
        "single": any(len(j.seeds) < 2 for j in ov.judged),
        "seeds": overview.seeds_text(ov),
        "draws": f"{ranks.DRAWS:,}",
    }


def sections(run: Run) -> list[dict[str, object]]:
    """Everything that the page shows, group by group."""
    found = [clouds.shown(run, group) for group in run.groups]
    alike = {label: [d for g, d in zip(run.groups, found, strict=True) if d and g.label == label] for label in {g.label for g in run.groups}}
    return [section(run, group, data, alike[group.label]) for group, data in zip(run.groups, found, strict=True)]


def _of_labels(records: Sequence[Mapping[str, Any]]) -> str:
    """How often samples have which label, and how they are led by it, where that is not the usual way."""
    drawn = "; labels as frequent as in the held-out data" if any(record.get("labels") == "test" for record in records) else ""
    led = next((record for record in records if "label_weight" in record), None)
    if led is None:
        return drawn
    within = "" if led["label_interval"] is None else " where log-SNR is {:g} to {:g}".format(*led["label_interval"])
    return f"{drawn}; led by their labels, weight {led['label_weight']:g}{within}"


def section(run: Run, group: Group, data: clouds.Shown | None, alike: list[clouds.Shown]) -> dict[str, object]:
    """Everything that the page shows of a group; `alike` are the samples of its task at every size."""
    first = group.records[0]
    ratios, worth = ratio_table(group), classifiers.classifier_table(group)
    labels = _of_labels(group.records)
    return {
        "group": group,
        "what": glossary.task_text(str(first["task"]), first.get("task_config") or {}, first.get("account")),
        "verdict": words.verdict(group),
        "shortfalls": words.shortfalls(group),
        "scores": tables.score_table(group).slices(SLICE),
        "classifiers": worth,
        "heading": classifiers.heading(group, worth) if worth else "",
        "protocol": classifiers.protocol_text(group, worth) if worth else "",
        "ratios": ratios.slices(SLICE) if ratios else [],
        "costs": tables.cost_table(group),
        "records": tables.record_table(group).slices(SLICE),
        "score_figure": pictures.score_figure(group),
        "samples": pictures.sample_figures(data, alike) if data else [],
        "neighbours": neighbour_figures(data) if data else [],
        "lacking": data.lacking if data else [e.name for e in group.entries],
        "labels": pictures.label_figure(data) if data else None,
        "physiology": physiology_figures(data) if data else [],
        "map": map_figure(run, group),
        "fields": field_figures(run, group),
        "curves": curve_figure(run, group),
        "sampler": f"{first.get('sampler', 'unknown sampler')}, {terms.count(first['steps'], 'step')}{labels}" if "steps" in first else "",
    }
