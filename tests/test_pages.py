"""The report of a run, from a synthetic run folder; nothing here needs torch, and the page must not load it."""

import base64
import json
import math
import re
import runpy
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from diffgraft import terms
from diffgraft.errors import BadData
from diffgraft.pages import clouds, images, pictures, plots, rasters, ratios, scores, words
from diffgraft.pages.records import read_run
from diffgraft.pages.run import report, table

METHODS = ("source", "finetune", "tgdp")
HOSTILE = '<script>alert("x")</script>'
VALUES = {"source": (0.31, 0.33), "finetune": (0.1, 0.103), "tgdp": (0.0512, 0.0534)}
"""Values by method and seed; here tgdp is best beyond noise."""


def record(task="mixtures", label="", n=20, method="tgdp", seed=0, metrics=None, floor=0.004, config=None, number=""):
    label = label or task
    return {
        "schema": 1,
        "id": f"{label}-n{n}-{method}{number}-s{seed}",
        "task": task,
        "label": label,
        "task_config": {"world": "shifted", "n_target": n, "seed": seed, "n_source": 77},
        "n_target": n,
        "method": {"name": method, **(config or {})},
        "seed": seed,
        "metrics": {name: {"value": v, "floor": floor, "n": 40} for name, v in (metrics or {"energy": 0.1}).items()},
        "trained_parameters": 0 if method == "source" else 1234,
        "passes": 1.0,
        "fit_seconds": 2.5 + seed,
        "select_seconds": 0.0,
        "sample_seconds": 0.5,
        "peak_memory": 321,
        "sampler": "ddim",
        "steps": 25,
    }


def write_records(folder, records):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def write_samples(folder, stem, shape, classes=0, seed=0, n=60):
    g = np.random.default_rng(seed)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    labels = {"y": g.integers(0, classes, n)} if classes else {}
    np.savez(folder / "samples" / f"{stem}.npz", X=g.normal(size=(n, *shape)).astype(np.float32), seed=seed, **labels)


def write_plan(folder, methods=METHODS, tasks=("mixtures",), n=20, seeds=(0, 1), name="tiny"):
    lines = [f"name = {json.dumps(name)}", f"seeds = {list(seeds)}"]
    lines += [f"[[task]]\nname = {json.dumps(t)}\nn_target = [{n}]" for t in tasks] + [f"[[method]]\nname = {json.dumps(m)}" for m in methods]
    (folder / "plan.toml").write_text("\n".join(lines) + "\n")


def tiny_run(folder, values=VALUES, seeds=(0, 1), floor=0.004):
    """Two tasks (points in the plane, labelled 1 x 8 x 8 images), three methods, two seeds, everything there."""
    records = [
        record(task, method=m, seed=s, metrics={"energy": values[m][k], "sliced_w2": 2 * values[m][k]}, floor=floor)
        for task in ("mixtures", "digits")
        for k, s in enumerate(seeds)
        for m in METHODS
    ]
    write_records(folder, records)
    write_plan(folder, tasks=("mixtures", "digits"), seeds=seeds)
    (folder / "run.json").write_text(json.dumps({"arguments": ["run", "p.toml"], "seeds": list(seeds), "versions": {"torch": "9.9"}, "device": "abacus"}))
    for task, shape, classes in (("mixtures", (2,), 0), ("digits", (1, 8, 8), 3)):
        for stem in [r["id"] for r in records if r["task"] == task] + [f"{task}-n20-s{s}-{part}" for s in seeds for part in ("test", "target", "source")]:
            write_samples(folder, stem, shape, classes, seed=len(stem))
    lines = [
        {"id": f"{t}-n20-{m}-s0", "stage": "net", "step": k, "loss": 1 / k, "held_out": 2 / k}
        for t in ("mixtures", "digits")
        for m in METHODS
        for k in (1, 5, 9)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


@pytest.fixture
def run(tmp_path):
    return tiny_run(tmp_path / "run")


class Tags(HTMLParser):
    """Tags, attributes, and whether every element that was opened is closed."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.seen, self.open, self.broken = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open += [tag] if tag not in self.VOID else []

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.broken += [] if self.open and self.open.pop() == tag else [tag]


def html(folder):
    return report(folder).read_text()


def starred(text):
    """Values in cells marked best."""
    return re.findall(r'<td class="best"><data value="([^"]+)"', text)


def groups(folder):
    return read_run(folder).groups


def blocks(folder):
    return table(folder).split("\n\n")


# the page as a whole


def test_report_is_one_file_and_the_same_each_time(run):
    before = {p.name for p in run.iterdir()}
    out = report(run)
    first = out.read_bytes()
    assert out == run / "report.html"
    assert {p.name for p in run.iterdir()} - before == {"report.html"}
    assert report(run).read_bytes() == first


def test_page_loads_nothing_and_is_well_formed(run):
    text = html(run)
    tags = Tags(text)
    assert not tags.open and not tags.broken
    assert not re.search(r"https?://|<script|@import|url\(", text)
    targets = [a[k] for _, a in tags.seen for k in ("src", "href") if k in a]
    assert targets and all(t.startswith(("#", "data:image/png;base64,")) for t in targets)
    assert not {tag for tag, _ in tags.seen} & {"script", "link", "iframe", "object", "form"}
    assert not [a for _, a in tags.seen for k in a if k.startswith("on")]


def test_links_lead_somewhere(run):
    tags = Tags(html(run)).seen
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in tags if tag == "a"} <= set(ids)


def test_every_picture_has_words_and_every_head_a_scope(run):
    tags = Tags(html(run)).seen
    pictures_ = [a for tag, a in tags if tag == "svg"]
    assert len(pictures_) >= 2 * (2 + 6 + 3)
    assert all(a.get("role") == "img" and len(a.get("aria-label", "")) > 8 for a in pictures_)
    assert all(a.get("scope") in ("col", "row") for tag, a in tags if tag == "th")


def test_particles_stand_among_the_costs(tmp_path):
    records = [record(method="source"), *({**record(seed=s), "particles": 500, "effective_share": [1.0, 0.83 - s / 10, 0.91]} for s in (0, 1))]
    text = html(write_records(tmp_path, records))
    assert '<data value="500.0">500</data><small>smallest effective share 0.730</small>' in text and "few of a group decide" in text
    plain = html(write_records(tmp_path / "plain", [record()]))
    assert "effective share" not in plain and 'title="particles"' not in plain


def test_page_holds_every_method_and_value(run):
    text = html(run)
    for method, values in VALUES.items():
        assert text.count(f"</span>{method}") >= 6
        for v in values:
            assert f'<data value="{v}">{v:.6g}</data>' in text
            assert f'<data value="{2 * v}">{2 * v:.6g}</data>' in text
        assert f'<data value="{sum(values) / 2}">' in text
    assert text.count("0.0523") >= 2 and text.count("<small>± 0.0016</small>") == 2
    assert "1,234" in text and "abacus" in text and "9.9" in text and "diffgraft run p.toml" in text and "[[method]]" in text


def test_pages_need_no_torch(run):
    code = (
        "import sys; from diffgraft.pages.run import report, table; report(sys.argv[1]); table(sys.argv[1]); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'matplotlib', 'sklearn', 'pandas'}), "
        "sorted(m for m in sys.modules if m.startswith('diffgraft.') and not m.startswith('diffgraft.pages')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['diffgraft.ecg', 'diffgraft.ecg.leads', 'diffgraft.entries', 'diffgraft.errors', 'diffgraft.files', 'diffgraft.terms']"


def test_template_and_style_lie_in_the_package():
    home = Path(plots.__file__).parent
    assert (home / "page.html.j2").is_file() and (home / "page.css").is_file()


# what is marked best


CASES = [
    # clear; seeds disagree too much; the gap is under the floor; one seed over and under the floor
    ({"source": (0.5, 0.52), "finetune": (0.3, 0.32), "tgdp": (0.1, 0.12)}, (0, 1), 0.01, "tgdp"),
    ({"source": (0.5, 0.52), "finetune": (0.3, 0.12), "tgdp": (0.1, 0.12)}, (0, 1), 0.01, None),
    ({"source": (0.5, 0.52), "finetune": (0.11, 0.13), "tgdp": (0.1, 0.12)}, (0, 1), 0.02, None),
    ({"source": (0.5,), "finetune": (0.30,), "tgdp": (0.1,)}, (0,), 0.19, "tgdp"),
    ({"source": (0.5,), "finetune": (0.28,), "tgdp": (0.1,)}, (0,), 0.19, None),
    ({"source": (0.1,), "finetune": (0.28,), "tgdp": (0.5,)}, (0,), 0.01, "source"),
]


@pytest.mark.parametrize(("values", "seeds", "floor", "winner"), CASES)
def test_best_only_beyond_noise(tmp_path, values, seeds, floor, winner):
    run = tiny_run(tmp_path / "run", values, seeds, floor)
    found = starred(html(run))
    # the starred cell holds the winner's mean; sliced_w2 is twice energy, so its gap is beyond noise wherever energy's is
    mean = sum(values[winner]) / len(seeds) if winner else None
    energy = [v for v in found if float(v) == mean]
    assert len(energy) == (2 if winner else 0)
    line = next(x for x in table(run).splitlines() if winner and x.startswith(winner)) if winner else ""
    assert ("*" in line) == bool(winner)
    for group in groups(run):
        best = scores.best(group, "energy")
        assert (best.name if best else None) == winner


def test_a_noisy_third_method_prevents_the_star(tmp_path):
    values = {"tgdp": (0.10, 0.12), "finetune": (0.20, 0.22), "source": (0.05, 0.45)}
    (group, _) = groups(tiny_run(tmp_path / "run", values))
    assert scores.best(group, "energy") is None
    assert [e.name for e in scores.leaders(group, "energy")] == ["tgdp", "source"]


def test_higher_is_better_turns_the_order(tmp_path):
    rows = [record(method=m, seed=s, metrics={"coverage": v + 0.01 * s}) for m, v in (("source", 0.4), ("tgdp", 0.9)) for s in (0, 1)]
    (group,) = groups(write_records(tmp_path, rows))
    assert scores.best(group, "coverage").name == "tgdp"
    assert "best baseline" not in html(tmp_path)


def test_one_seed_decides_nothing_where_the_floor_is_no_error(tmp_path):
    (group,) = groups(write_records(tmp_path, [record(method=m, metrics={"coverage": v}) for m, v in (("source", 0.4), ("tgdp", 0.9))]))
    assert scores.best(group, "coverage") is None


def test_a_score_that_ranks_nothing_is_never_best(tmp_path):
    rows = [record(method=m, seed=s, metrics={"average_likelihood": v}) for m, v in (("source", 0.1), ("tgdp", 0.9)) for s in (0, 1)]
    text = html(write_records(tmp_path, rows))
    assert not starred(text) and "not ranked" in text


def test_at_the_floor_is_marked(tmp_path):
    text = html(tiny_run(tmp_path / "run", {**VALUES, "tgdp": (0.003, 0.0035)}))
    assert text.count('<span title="at the floor">') == 2  # energy of both tasks; twice as much is above the floor


# numbers


def named(group, name):
    return next(e for e in group.entries if e.name == name)


def test_ratio_is_the_geometric_mean_of_paired_ratios(tmp_path):
    values = {"source": (0.4, 0.4), "finetune": (0.1, 0.4), "tgdp": (0.2, 0.2)}
    run = tiny_run(tmp_path / "run", values)
    group = groups(run)[0]
    r = ratios.ratio(named(group, "tgdp"), named(group, "finetune"), "energy")
    half = 12.706204736 * math.log(4) / 2  # t(0.975, 1) times the standard error of log 2 and log 1/2
    assert r.mean == pytest.approx(1.0)
    assert (r.low, r.high) == pytest.approx((math.exp(-half), math.exp(half)))
    r = ratios.ratio(named(group, "source"), named(group, "finetune"), "energy")
    assert r.mean == pytest.approx(2.0)
    assert "over finetune" in html(run) and 'value="2.0"' in re.sub(r'value="(1\.99999\d*|2\.0000\d*)"', 'value="2.0"', html(run))


def test_the_baseline_is_the_best_in_hindsight_of_each_score(tmp_path):
    values = {"source": (1.0, 0.1), "scratch": (0.4, 0.9), "finetune": (0.8, 0.3), "tgdp": (0.2, 0.2)}
    rows = [record(method=m, seed=s, metrics={"energy": e + s, "mmd": k + s, "coverage": 0.5}) for m, (e, k) in values.items() for s in (0, 1)]
    (group,) = groups(write_records(tmp_path, rows))
    assert [ratios.baseline(group, m).name for m in ("energy", "mmd")] == ["scratch", "finetune"]  # the source is none of them
    made = ratios.ratio_table(group)
    assert [(c.id, c.note) for c in made.columns] == [("energy", "over scratch"), ("mmd", "over finetune")]
    assert [row.cells[0].note for row in made.rows if row.name == "scratch"] == ["baseline"]
    assert "Against the best baseline in hindsight" in html(tmp_path)


def test_a_fine_tune_on_the_pseudo_target_is_no_baseline(tmp_path):
    runs = {"plain": (0.4, "none"), "smoothed": (0.1, "pseudo-target")}
    rows = [{**record(method="finetune", number=name, metrics={"energy": e}, config={"augment": a}), "method_label": name} for name, (e, a) in runs.items()]
    (group,) = groups(write_records(tmp_path, rows))
    assert len(group.entries) == 2 and ratios.baseline(group, "energy").name == "plain"


def test_an_interval_on_one_side_of_one_is_marked(tmp_path):
    values = {"scratch": (1.0, 2.0, 4.0), "tgdp": (0.5, 1.0, 2.1), "source": (0.9, 2.05, 3.9), "finetune": (3.0, 6.0, 12.0)}
    rows = [record(method=m, seed=s, metrics={"energy": v}) for m, vs in values.items() for s, v in enumerate(vs)]
    made = ratios.ratio_table(groups(write_records(tmp_path, rows))[0])
    assert {row.name: row.cells[0].mark for row in made.rows} == {"scratch": "", "tgdp": "below", "source": "", "finetune": "above"}
    assert "0.508" in [row.cells[0].text for row in made.rows] and '<td class="below"><data value="0.508' in html(tmp_path)


def test_methods_that_share_the_lead_are_all_marked(tmp_path):
    tiny_run(tmp_path / "run", {"tgdp": (0.10, 0.12), "finetune": (0.20, 0.22), "source": (0.05, 0.45)})
    lines = {line.split()[0]: line for line in blocks(tmp_path / "run")[1].splitlines()[2:5]}
    assert {name: line.count("~") for name, line in lines.items()} == {"source": 2, "finetune": 0, "tgdp": 2}
    assert html(tmp_path / "run").count('<span title="cannot be told from the best">~</span>') == 8 + 6  # two tasks; two mean ranks, four ranks


def test_cost_of_sampling_is_relative_to_the_source_of_the_same_seed(tmp_path):
    seconds = {"source": (2.0, 4.0), "tgdp": (5.0, 12.0)}
    rows = [{**record(method=m, seed=s), "sample_seconds": v[s]} for m, v in seconds.items() for s in (0, 1)]
    text = html(write_records(tmp_path, rows))
    assert '<data value="2.75">2.75</data>' in text and '<data value="1.0">1.00</data>' in text and "relative to source" in text
    assert "relative to source" not in html(write_records(tmp_path / "alone", rows[2:]))


def test_ratio_refuses_what_has_no_logarithm(tmp_path):
    (group, _) = groups(tiny_run(tmp_path / "run", {**VALUES, "tgdp": (-0.001, 0.1)}))
    assert ratios.ratio(named(group, "tgdp"), named(group, "finetune"), "energy") is None


def test_pairs_are_by_seed_not_by_place(tmp_path):
    rows = [record(method="finetune", seed=s, metrics={"energy": v}) for s, v in ((0, 1.0), (1, 2.0))]
    rows += [record(method="tgdp", seed=s, metrics={"energy": v}) for s, v in ((1, 1.0), (0, 0.5))]
    (group,) = groups(write_records(tmp_path, rows))
    r = ratios.ratio(named(group, "tgdp"), named(group, "finetune"), "energy")
    assert (r.mean, r.low, r.high) == pytest.approx((0.5, 0.5, 0.5))
    (group,) = groups(write_records(tmp_path, [r for r in rows if (r["method"]["name"], r["seed"]) != ("tgdp", 0)]))
    r = ratios.ratio(named(group, "tgdp"), named(group, "finetune"), "energy")
    assert (r.mean, r.low) == (pytest.approx(0.5), None)


def test_spread_and_interval():
    assert scores.spread([1.0]) is None and scores.half_interval([1.0]) is None
    assert scores.spread([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert scores.half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302652729 / 3**0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123456, "0.0123"), (999.6, "1,000"), (12345.6, "12,346"), (-0.5, "-0.500"), (float("nan"), "nan"), (1e-12, "1.00e-12"), (2.5e11, "2.50e11")],
)
def test_numbers_as_written(value, text):
    assert terms.number(value) == text


# what may be missing or odd


def test_hostile_names_are_escaped(tmp_path):
    rows = [
        {**record(label=HOSTILE, method=m, metrics={HOSTILE: 0.1, "energy": 0.2}), "task": HOSTILE, "task_config": {HOSTILE: HOSTILE}}
        for m in ("source", HOSTILE)
    ]
    write_records(tmp_path, rows)
    write_plan(tmp_path, (HOSTILE, "source"), (HOSTILE,), name=HOSTILE)
    facts = {"arguments": [HOSTILE], "device": HOSTILE, "versions": {HOSTILE: HOSTILE}, "hashes": {HOSTILE: {"weights": {HOSTILE: HOSTILE}, "data": HOSTILE}}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "log.jsonl").write_text(json.dumps({"id": rows[1]["id"], "stage": HOSTILE, "step": 3, "loss": 1.0, "held_out": None}) + "\n")
    text = html(tmp_path)
    assert "<script" not in text and text.count("&lt;script&gt;") > 15
    tags = Tags(text)
    assert not tags.open and not tags.broken


def test_a_record_without_samples(run):
    (run / "samples" / "mixtures-n20-tgdp-s0.npz").unlink()
    (run / "samples" / "digits-n20-finetune-s0.npz").write_bytes(b"PK not a zip file")
    text = html(run)
    assert "No samples to show of tgdp:" in text and "No samples to show of finetune:" in text
    assert 'aria-label="Scatter of finetune' in text and 'aria-label="Scatter of tgdp' not in text


def test_without_log_samples_plan_and_facts(tmp_path):
    whole = tiny_run(tmp_path / "whole")
    bare = write_records(tmp_path / "bare", [json.loads(line) for line in (whole / "records.jsonl").read_text().splitlines()])
    text = html(bare)
    assert text.count("No training log.") == 2 and text.count("No pictures:") == 2
    assert "<h1>bare</h1>" in text and table(bare) == table(whole)
    assert html(whole).count("Training curves of") == 6


def test_a_damaged_log_or_facts_are_left_out(run):
    (run / "log.jsonl").write_text('{"id": \n{"id": "x"}\n')
    (run / "run.json").write_text("{")
    (run / "plan.toml").write_text("= 3")
    assert html(run).count("No training log.") == 2


def test_the_date_is_that_of_the_start_in_one_form(tmp_path):
    write_records(tmp_path, [record()])
    for started, date in (("2026-02-03T04:05:06+02:00", "2026-02-03 02:05 UTC"), ("2026-02-03T04:05:06+00:00", "2026-02-03 04:05 UTC")):
        (tmp_path / "run.json").write_text(json.dumps({"started": started}))
        assert f"{date} · 1 record<" in html(tmp_path).replace("\n", "")
    (tmp_path / "run.json").write_text(json.dumps({"started": HOSTILE}))
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC · 1 record", html(tmp_path)) and "not recorded" not in html(tmp_path)


def test_a_table_that_was_cut_shows_its_caption_once(tmp_path):
    fifteen = dict.fromkeys(list(terms.METRICS)[:15], 0.1)
    text = html(write_records(tmp_path, [record(method=m, metrics=fifteen) for m in ("source", "tgdp")]))
    captions = re.findall(r'class="scroll( more)?" tabindex="0" role="region" aria-label="Scores, mixtures', text)
    assert captions == ["", " more", " more"]


def test_one_seed_has_no_spread(tmp_path):
    text = html(tiny_run(tmp_path / "run", seeds=(0,)))
    assert "There is one seed" in text and "One seed, so there is no interval" in text and "±" not in text


def test_a_failed_score_is_named(tmp_path):
    run = tiny_run(tmp_path / "run", {**VALUES, "finetune": (float("nan"), 0.1)})
    assert "finetune has no finite score on energy distance and sliced Wasserstein." in html(run)
    assert "nan" in table(run)


def test_an_unfinished_run_says_so(run):
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])  # the last was cut off by a kill
    text = html(run)
    assert "11 of 12 records" in text and "No record yet of tgdp, seed 1: the run is not finished." in text


def test_a_method_that_comes_twice_is_called_by_its_settings(tmp_path):
    names = ["tgdp (weight 1)", "tgdp (weight 0.5)", "Ours"]
    configs = [{"weight": 1.0, "steps": 5}, {"weight": 0.5, "steps": 5}, {"weight": 0.5, "steps": 50}]
    rows = [{**record(config={**c, "held_out": 0.2}, number=f"-{k}"), "method_label": name} for k, (name, c) in enumerate(zip(names, configs, strict=True))]
    write_records(tmp_path, rows)
    body = 'name = "p"\nseeds = [0]\n[[task]]\nname = "mixtures"\nn_target = [20]\n'
    entries = ["weight = 1.0\nsteps = 5", "weight = 0.5\nsteps = 5", 'weight = 0.5\nsteps = 50\nlabel = "Ours"']
    (tmp_path / "plan.toml").write_text(body + "".join(f'[[method]]\nname = "tgdp"\n{e}\n' for e in entries))
    (group,) = groups(tmp_path)
    assert [e.name for e in group.entries] == names and not group.missing
    text = html(tmp_path)
    assert "<dt>Ours</dt>\n<dd>The method tgdp with weight 0.5 and steps 50.</dd>" in text and "<dt>tgdp (weight 1)</dt>" not in text
    assert text.count("<small>tgdp</small>") == 2  # beside its name, in scores and costs
    assert [line.split("  ")[0] for line in table(tmp_path).splitlines()[2:5]] == names


def test_tasks_come_in_the_plans_order_whichever_ended_first(tmp_path):
    write_records(tmp_path, [record(label="b", n=50), record(label="new", n=9), record(label="a", n=100), record(label="a", n=10)])
    tasks = "".join(f'[[task]]\nname = "mixtures"\nlabel = "{name}"\nn_target = {sizes}\n' for name, sizes in (("a", [10, 100]), ("b", [50])))
    (tmp_path / "plan.toml").write_text(f'name = "p"\nseeds = [0]\n{tasks}[[method]]\nname = "tgdp"\n')
    assert [(g.label, g.n_target) for g in groups(tmp_path)] == [("a", 10), ("a", 100), ("b", 50), ("new", 9)]


def test_a_method_with_fewer_seeds_says_so(tmp_path):
    rows = [record(method=m, seed=s) for m, seeds in (("source", (0, 1, 2)), ("tgdp", (0, 2))) for s in seeds]
    text = html(write_records(tmp_path, rows))
    assert text.count("</span>tgdp<small>2 of 3 seeds</small>") == 3 and "3 of 3" not in text


def test_older_records_of_a_method_that_comes_twice_are_kept_apart(tmp_path):
    (group,) = groups(write_records(tmp_path, [record(config={"weight": 1.0}), record(config={"weight": 0.5}, number="-2")]))
    assert [e.name for e in group.entries] == ["tgdp", "tgdp-2"]


def test_what_is_missing_follows_sizes_seeds_and_profile(tmp_path):
    (tmp_path / "plan.toml").write_text(
        'name = "p"\nseeds = [0, 1]\nprofile = "quick"\n[[task]]\nname = "mixtures"\nworld = "hard"\nn_target = [20, 30]\nseeds = [7, 8]\n'
        '[[method]]\nname = "source"\n[[method]]\nname = "tgdp"\nn_target = [30]\nsteps = 50\n[[method]]\nname = "tgdp"\nsteps = 90\n'
    )
    write_records(tmp_path, [record(label="mixtures-hard", method="source", n=30, seed=7)])  # of two sizes the one nearest to 100
    (group,) = groups(tmp_path)
    assert group.missing == ["tgdp (steps 5), seed 7", "tgdp (steps 9), seed 7"]


def test_labels_stand_everywhere(tmp_path):
    names = {"source": "Nothing done", "tgdp": "Ours"}
    rows = [{**record(label="two-modes", method=m), "task_label": "Two modes", "method_label": name} for m, name in names.items()]
    text = html(write_records(tmp_path, rows))
    assert "<h2>Two modes, 20 target points</h2>" in text and "Nothing done" in text and "two-modes, 20" not in text
    assert table(tmp_path).startswith("Two modes, n = 20") and "the plain source" in words.summary(read_run(tmp_path), [])


@pytest.mark.parametrize(
    ("shape", "classes", "label", "panels"),
    [
        ((2,), 0, "Scatter of", 5),
        ((5,), 4, "Distribution of feature", 5),
        ((5,), 4, "Scatter of", 15),
        ((1,), 0, "Distribution of feature", 1),
        ((3, 30), 0, "A signal of", 3),
        ((3, 4, 4), 0, "40 images of", 5),
        ((1, 8, 8), 50, "40 images of", 5),
    ],
)
def test_samples_are_drawn_as_suits_their_shape(tmp_path, shape, classes, label, panels):
    rows = [record(method=m) for m in ("source", "tgdp")]
    for stem in [r["id"] for r in rows] + [f"mixtures-n20-s0-{part}" for part in ("test", "target", "source")]:
        write_samples(tmp_path, stem, shape, classes, seed=len(stem))
    text = html(write_records(tmp_path, rows))
    assert text.count(f'aria-label="{label}') == panels
    assert ("Shares of labels" in text) == bool(classes)


def test_images_stand_under_their_label(tmp_path):
    x = np.zeros((7, 1, 8, 8), np.float32)
    y = np.array([2, 0, 2, 2, 0, 2, 2])
    x[:, 0, 0, 0] = 1 + np.arange(7)
    cloud = clouds.Cloud(x, y)
    assert images.by_label(cloud, [0, 1, 2]).T.tolist() == [[1, 4, -1, -1, -1], [-1] * 5, [0, 2, 3, 5, 6]]


def test_points_outside_the_frame_are_counted(run):
    file = run / "samples" / "mixtures-n20-tgdp-s0.npz"
    x = np.load(file)["X"]
    x[0], x[1:3], x[3] = 1e6, -1e6, np.nan
    np.savez(file, X=x)
    assert "60 points, 4 outside the frame" in html(run)


def test_multi_hot_labels_are_counted_by_column():
    assert pictures._shares(np.array([[1, 0, 1], [1, 0, 0]]), 3) == [1.0, 0.0, 0.5]
    assert pictures._shares(np.array([0, 2, 2, -1]), 3) == [0.25, 0.0, 0.5]


def test_png_holds_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    data, chunks, at = rasters.png(pixels), {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + size
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(5, 1 + 7 * 4)
    assert (rows[:, 0] == 0).all() and (rows[:, 1:].reshape(5, 7, 4) == pixels).all()
    assert struct.unpack(">2I5B", chunks[b"IHDR"]) == (7, 5, 8, 6, 0, 0, 0)


@pytest.mark.parametrize(
    ("lo", "hi", "log"),
    [(0.0, 1.0, False), (-3.1, 7.4, False), (0.0013, 0.0019, False), (1e-5, 3.0, True), (0.16, 1.1, True), (2.1, 2.9, True), (1e-30, 1e30, True)],
)
def test_ticks_lie_inside_and_are_few(lo, hi, log):
    ticks = plots.Axis(lo, hi, 0.0, 100.0, log).ticks()
    assert 2 <= len(ticks) <= 8 and ticks == sorted(ticks)
    assert all(lo <= t <= hi and 0 <= plots.Axis(lo, hi, 0.0, 100.0, log)(t) <= 100 for t in ticks)


# fields


def write_field(folder, stem, **changes):
    x, y = np.linspace(-2, 2, 5), np.linspace(0, 3, 4)
    exact = np.outer(y, x)
    field = {"x": x, "y": y, "learned": exact + 0.25, "exact": exact, "title": np.array("log h at t = 0.1"), "source": np.zeros((9, 2)), **changes}
    (folder / "fields").mkdir(exist_ok=True)
    np.savez(folder / "fields" / f"{stem}.npz", **{k: v for k, v in field.items() if v is not None})


def pixels_of(text):
    """Pixels (H, W, 4) of each PNG of a page."""
    found = []
    for data in re.findall(r"data:image/png;base64,([^\"]+)", text):
        raw = base64.b64decode(data)
        width, height = struct.unpack(">2I", raw[16:24])
        size = struct.unpack(">I", raw[33:37])[0]
        found.append(np.frombuffer(zlib.decompress(raw[41 : 41 + size]), np.uint8).reshape(height, 1 + 4 * width)[:, 1:].reshape(height, width, 4))
    return found


def test_fields_are_pairs_of_maps_on_one_scale(tmp_path):
    write_records(tmp_path, [record(seed=s) for s in (0, 1)])
    for stem in ("mixtures-n20-tgdp-s0-t1", "mixtures-n20-tgdp-s1-t1", "mixtures-n20-truth", "other-n20-tgdp-s0"):
        write_field(tmp_path, stem, title=np.array(stem))
    text = html(tmp_path)
    assert "Mean absolute difference of learned and exact over the frame: 0.250, where the exact values run from -6.00 to 6.00." in text
    assert [stem in text for stem in ("tgdp-s0-t1.", "tgdp-s1-t1.", "n20-truth.", "other-n20")] == [True, False, True, False]  # the first seed is enough
    assert "Small dots: source points." in text and Tags(text).broken == []
    learned, exact, bar = pixels_of(text)[:3]
    assert learned.shape == exact.shape == (4, 5, 4)
    assert exact[0, -1].tolist() == [*rasters.ABOVE, 255] and exact[0, 0].tolist() == [*rasters.BELOW, 255]  # the largest y is on top
    assert (exact[-1, :, 3] == 0).all() and (exact[:, 2, 3] == 0).all() and (learned[:, 2, 3] > 0).all()
    assert bar[0, 0].tolist() == [*rasters.BELOW, 255] and bar[0, -1].tolist() == [*rasters.ABOVE, 255] and bar[0, 64, 3] == 0


def test_values_off_the_scale_and_no_numbers_are_told(tmp_path):
    write_records(tmp_path, [record()])
    learned = np.outer(np.linspace(0, 3, 4), np.linspace(-2, 2, 5)) * 3
    learned[0, 0] = np.nan
    write_field(tmp_path, "mixtures-n20-tgdp-s0", learned=learned, source=None)
    text = html(tmp_path)
    assert "% of the learned values lie beyond the colour scale" in text and "Grey: not a finite number." in text and "dots:" not in text
    assert pixels_of(text)[0][-1, 0].tolist() == list(rasters.NO_NUMBER)


@pytest.mark.parametrize(
    "bad", [{"x": None}, {"exact": np.zeros((5, 4))}, {"x": np.zeros(5)}, {"source": np.zeros(3)}, {"title": HOSTILE}, {"exact": np.zeros((4, 5))}]
)
def test_odd_fields_are_left_out_or_escaped(tmp_path, bad):
    write_records(tmp_path, [record()])
    write_field(tmp_path, "mixtures-n20-tgdp-s0", **bad)
    text = html(tmp_path)
    drawn = "title" in bad or bad.get("exact", np.ones(1)).shape == (4, 5)
    assert ("<h3>Landscapes</h3>" in text) == drawn and "<script" not in text
    (tmp_path / "fields" / "mixtures-n20-tgdp-s0.npz").write_bytes(b"PK")
    assert "<h3>Landscapes</h3>" not in html(tmp_path)


# pictures of several sizes, curves of one seed, warnings


def test_scatters_share_their_frame_over_sizes(tmp_path):
    rows = [record(n=n, method=f"m{k}") for n in (10, 100) for k in range(12)]
    for k, stem in enumerate([r["id"] for r in rows] + [f"mixtures-n{n}-s0-{part}" for n in (10, 100) for part in ("test", "target", "source")]):
        write_samples(tmp_path, stem, (2,), seed=k)
    file = tmp_path / "samples" / "mixtures-n100-s0-source.npz"
    np.savez(file, X=np.load(file)["X"] * 10)
    text = html(write_records(tmp_path, rows))
    frames = {tuple(re.findall(r">(-?[0-9.]+)</text>", part.split("</svg>")[0])) for part in text.split('aria-label="Scatter of')[1:]}
    assert len(frames) == 1 and text.count('aria-label="Scatter of') == 2 * 15 and text.count('class="panels samples many') == 2
    order = re.findall('aria-label="Scatter of ([^,]+),', text)[:4]
    assert order == ["source data", "training target", "held-out target", "m0"]


def test_curves_are_of_the_first_seed_with_a_log(tmp_path):
    write_records(tmp_path, [record(seed=s) for s in (0, 1, 2)])
    log = [
        {"id": f"mixtures-n20-tgdp-s{s}", "stage": stage, "step": k, "loss": 1 / k, "held_out": 2 / k}
        for s in (1, 2)
        for stage in ("ratio", "net")
        for k in (1, 4)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in log))
    text = html(tmp_path)
    assert re.findall('aria-label="(Training[^"]*)"', text) == [f"Training curves of tgdp, network {stage}, 4 steps" for stage in ("ratio", "net")]
    assert "Loss by training step (seed 1)." in text and text.count('class="held-out"') == text.count('class="loss"') == 2


def test_each_warning_comes_once_with_what_it_concerns(tmp_path):
    notes = {"warnings": ["few <points>", "few <points>"], "select_seconds": 1.0}
    rows = [{**record(seed=s, n=n), "notes": notes} for n, s in ((10, 0), (10, 1), (100, 1))] + [
        {**record(method="lora", n=10), "notes": {"warnings": ["rank"]}}
    ]
    text = html(write_records(tmp_path, rows))
    assert words.warnings(read_run(tmp_path)) == [
        ("few <points>", ["tgdp on mixtures, n = 10, seeds 0 and 1", "tgdp on mixtures, n = 100, seed 1"]),
        ("rank", ["lora on mixtures, n = 10, seed 0"]),
    ]
    assert text.count("few &lt;points&gt;") == 1 and 'href="#warnings"' in text
    assert "warnings" not in html(write_records(tmp_path / "none", [record()]))


# words


def test_summary_says_who_wins_and_when_the_source_does(tmp_path):
    say = words.summary(read_run(tiny_run(tmp_path / "a")), [])
    assert "On mixtures with 20 target points, tgdp scores best on every metric." in say and "2 seeds" in say
    say = words.summary(read_run(tiny_run(tmp_path / "b", {**VALUES, "source": (0.01, 0.011)})), [])
    assert "the plain source scores best on every metric" in say and "Adapting made the score worse on every metric, whatever the method." in say
    say = words.summary(read_run(tiny_run(tmp_path / "c", dict.fromkeys(METHODS, (0.2, 0.2)))), [])  # nobody can be told apart
    assert (
        "the plain source, finetune and tgdp lead on every metric and cannot be told apart. No method is shown to improve on the plain source on any metric."
        in say
    )


def test_of_many_ties_that_of_the_judging_score_is_named():
    ties = {"lora and tgdp": ["energy", "mmd"], "tgdp and source": ["recall"], "all": ["density"]}
    assert words._gathered(ties, "energy") == {"lora and tgdp": ["energy"], "several methods": ["mmd", "recall", "density"]}
    assert words._gathered(ties, "score_error") == {"several methods": ["energy", "mmd", "recall", "density"]}
    assert words._gathered(dict(list(ties.items())[:2]), "energy") == dict(list(ties.items())[:2])


def test_shortfalls(tmp_path):
    lines = words.shortfalls(groups(tiny_run(tmp_path / "a", {"source": (0.2, 0.2), "finetune": (0.4, 0.4), "tgdp": (0.1, 0.3)}))[0])
    assert any(
        line.startswith("No method comes near the floor on energy distance: the best mean, of the plain source, is 0.200; the floor is 0.00400")
        for line in lines
    )
    assert "finetune is worse than the plain source on energy distance (2.00 times its score) and sliced Wasserstein (2.00 times its score)." in lines
    assert "tgdp cannot be told from the plain source on energy distance and sliced Wasserstein." in lines
    assert words.shortfalls(groups(tiny_run(tmp_path / "b", {"source": (0.2, 0.2), "finetune": (0.004, 0.004), "tgdp": (0.004, 0.004)}))[0]) == []


def test_methods_that_equal_the_source_on_the_same_scores_share_a_line(tmp_path):
    rows = [
        record(method=m, metrics={"energy": e, "mmd": k}, floor=0.1)
        for m, e, k in (("source", 0.2, 0.2), ("lora", 0.25, 0.2), ("tgdp", 0.2, 0.2), ("cep", 0.01, 0.2))
    ]
    lines = words.shortfalls(groups(write_records(tmp_path, rows))[0])
    assert lines == [
        "lora and tgdp cannot be told from the plain source on energy distance and kernel distance.",
        "cep cannot be told from the plain source on kernel distance.",
    ]


def test_a_method_that_returned_the_source_is_named(tmp_path):
    rows = [record(method="source"), {**record(method="finetune"), "trained_parameters": 0}]
    lines = words.shortfalls(groups(write_records(tmp_path, rows))[0])
    assert "finetune has exactly the source's scores and no trained parameter: it returned the source as it was." in lines


def test_directions_agree_with_the_metrics():
    catalog = pytest.importorskip("diffgraft.metrics.catalog")
    assert not set(catalog.METRICS) ^ set(terms.METRICS), "a metric without words, or words without a metric: see terms.py"
    assert {name: terms.best_way(name) for name in catalog.METRICS} == {name: m.best for name, m in catalog.METRICS.items()}
    assert all(terms.direction(name) for name in catalog.METRICS)
    assert {name: text.perfect for name, text in terms.METRICS.items() if text.perfect} == {n: m.perfect for n, m in catalog.METRICS.items() if m.perfect}


def test_a_score_that_is_perfect_above_zero_is_judged_by_its_distance_from_that(tmp_path):
    values = {"source": (0.90, 0.91), "tgdp": (0.70, 0.71)}
    rows = [record(method=m, seed=s, metrics={"two_sample": v[s]}, floor=0.51) for m, v in values.items() for s in (0, 1)]
    (group,) = groups(write_records(tmp_path, rows))
    assert scores.best(group, "two_sample").name == "tgdp"
    assert any("a factor of 20" in line for line in words.shortfalls(group))  # .205 above one half, the floor .01


def test_log_densities_are_ranked_but_have_no_ratio(tmp_path):
    values = {"source": (1.0, 1.1), "tgdp": (3.0, 3.1)}
    rows = [record(method=m, seed=s, metrics={"held_out_likelihood": v[s]}, floor=60.0) for m, v in values.items() for s in (0, 1)]
    (group,) = groups(write_records(tmp_path, rows))
    assert scores.best(group, "held_out_likelihood").name == "tgdp"
    assert not any("factor" in line or "times" in line for line in words.shortfalls(group)) and "best baseline" not in html(tmp_path)


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_a_floor_that_one_seed_lacks_is_that_of_the_others(tmp_path, unknown):
    rows = [record(seed=s, metrics={"energy": 0.1}, floor=floor) for s, floor in ((0, unknown), (1, 0.02))]
    (found,) = read_run(write_records(tmp_path / "run", rows)).groups
    assert found.floors("energy") == [0.02] and scores.floor(found, "energy") == 0.02


def test_a_floor_that_is_not_known_is_a_dash(tmp_path):
    rows = [record(method=m, metrics={"held_out_likelihood": -1.0}, floor=float("nan")) for m in ("source", "tgdp")]
    text = table(write_records(tmp_path, rows))
    assert next(line.split() for line in text.splitlines() if line.startswith("floor"))[1] == "-" and Tags(html(tmp_path)).broken == []


# the table


def test_table_reads_in_a_terminal(run):
    lines = [line for block in blocks(run)[1:] for line in [*block.splitlines(), ""]]
    assert lines[0] == "mixtures, n = 20, 2 seeds"
    assert lines[1].split() == ["energy", "sliced_w2", "parameters", "passes", "fit", "s"]
    assert [line.split()[0] for line in lines[2:6]] == ["source", "finetune", "tgdp", "floor"]
    assert lines[4].split() == ["tgdp", "0.0523", "+-", "0.0016*", "0.105", "+-", "0.0031*", "1,234", "1.0", "3.0"]
    assert lines[5].split() == ["floor", "0.00400", "0.00400"]
    assert lines[7] == "digits, n = 20, 2 seeds" and all(line == line.rstrip() and len(line) <= 100 for line in lines)


def test_a_wide_table_is_cut_to_the_terminal(tmp_path):
    rows = [record(method=m, seed=s, metrics=dict.fromkeys(terms.METRICS, 0.123456 * (s + 1))) for m in ("source", "time_ratio_weighted") for s in (0, 1)]
    text = table(write_records(tmp_path, rows))
    assert max(map(len, text.splitlines())) <= 100
    assert all(name in text for name in (*terms.METRICS, "parameters", "passes", "fit s"))
    assert text.count("time_ratio_weighted") > 1
    assert Tags(html(tmp_path)).broken == []


def test_rows_follow_the_plan(tmp_path):
    write_records(tmp_path, [record(method=m, seed=0) for m in ("tgdp", "source", "finetune")])
    write_plan(tmp_path, METHODS, seeds=(0,))
    assert [line.split()[0] for line in table(tmp_path).splitlines()[2:5]] == list(METHODS)


# errors


@pytest.mark.parametrize("make", ["missing", "empty", "no records", "not json", "other schema", "not a record", "a file"])
@pytest.mark.parametrize("call", [report, table])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, make, call):
    folder = tmp_path / "run"
    if make == "a file":
        folder.write_text("")
    elif make != "missing":
        folder.mkdir()
    content = {"no records": "", "not json": "{]\n{}\n", "other schema": json.dumps({**record(), "schema": 99}) + "\n", "not a record": '{"id": "x"}\n'}
    if make in content:
        (folder / "records.jsonl").write_text(content[make])
    with pytest.raises(BadData) as error:
        call(folder)
    message = str(error.value)
    assert "\n" not in message and str(folder) in message
    assert ("no such folder" in message) == (make in ("missing", "a file"))
    assert re.search(r"diffgraft run|make the run again|use the version", message)
    assert not (tmp_path / "run" / "report.html").exists()


GAP = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "gap_closed.py"))


def gaps(records, best, metric="energy"):
    """Lines of the benchmark of the gap that is closed, of every group."""
    groups = GAP["group"](records, {})
    return [line for g in groups for line in GAP["lines"](groups, g, metric, best, "source")]


def test_the_share_of_the_gap_that_is_closed():
    values = {"source": (0.5, 0.6), "finetune": (0.3, 0.2), "tgdp": (0.1, 0.1)}
    rows = [record(method=m, seed=s, metrics={"energy": v[s]}, floor=None if s else 0.1) for m, v in values.items() for s in (0, 1)]
    assert "| finetune | 50 % | 80 % | 65 % ± 21 |" in gaps(rows, "tgdp") and not any("tgdp |" in line for line in gaps(rows, "tgdp"))
    assert {"| finetune | 50 % | – | 50 % |", "| tgdp | 100 % | – | 100 % |"} <= set(gaps(rows, "floor"))
    assert "| tgdp | – | – | – |" in gaps(
        [r for r in rows if r["method"]["name"] != "finetune"] + [record(method="finetune", metrics={"energy": 0.7})], "finetune"
    )


def test_a_yardstick_of_another_size_and_one_seed_stands_in_and_is_told_of():
    rows = [record(method=m, seed=s, metrics={"energy": v}) for m, v in (("source", 0.5), ("tgdp", 0.2)) for s in (0, 1)]
    told = gaps([*rows, record(method="finetune", n=900, metrics={"energy": 0.1})], "finetune")
    assert "| tgdp | 75 % | 75 % | 75 % ± 0 |" in told and "finetune at seeds 0, 1: the mean of n = 900, seeds 0.\n" in told
    assert sum(line.startswith("**") for line in told) == 1
