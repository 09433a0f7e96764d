"""Ranks over several tasks: from records whose order is known, their bootstrap, and what page and terminal make of them."""

import inspect
import itertools
import json
import re

import numpy as np
import pytest

from diffgraft import terms
from diffgraft.pages import overview, ranks, reading
from diffgraft.pages.records import read_run
from diffgraft.pages.run import table
from test_pages import HOSTILE, Tags, html, record, write_records


def rows_of(values, metric="energy", floor=0.0, sizes=(10, 20)):
    """Records from {method: {size: scores by seed}}, or {method: scores by seed} where all sizes have the same."""
    rows = []
    for method, by_size in values.items():
        for n, scores in (by_size if isinstance(by_size, dict) else dict.fromkeys(sizes, by_size)).items():
            rows += [record(method=method, n=n, seed=s, metrics={metric: v}, floor=floor) for s, v in enumerate(scores)]
    return rows


def ranked(folder, values, **more):
    return ranks.overview(read_run(write_records(folder, rows_of(values, **more))))


def told(ov):
    """Mean rank by method, in the order of the table."""
    return {s.entry.name: s.mean for s in ov.standings}


KNOWN = {"source": {10: (0.3, 0.31), 20: (0.1, 0.11)}, "finetune": {10: (0.2, 0.21), 20: (0.3, 0.31)}, "tgdp": {10: (0.1, 0.11), 20: (0.2, 0.21)}}


# ranks


def test_ranks_that_are_known(tmp_path):
    ov = ranked(tmp_path, KNOWN)
    assert told(ov) == {"tgdp": 1.5, "source": 2.0, "finetune": 2.5}
    assert {s.entry.name: s.ranks for s in ov.standings} == {"tgdp": [1, 2], "source": [3, 1], "finetune": [2, 3]}


def test_equal_scores_share_their_places(tmp_path):
    ov = ranked(tmp_path, {"source": (0.3, 0.3), "finetune": (0.1, 0.2), "tgdp": (0.1, 0.2)})
    assert told(ov) == {"finetune": 1.5, "tgdp": 1.5, "source": 3.0}
    assert [s.first for s in ov.standings] == [0.5, 0.5, 0.0]
    assert [s.level for s in ov.standings] == [True, True, False]


def test_one_group_has_no_overview(tmp_path):
    write_records(tmp_path, rows_of(KNOWN, sizes=(10,))[:2] + rows_of({"tgdp": {10: (0.1, 0.1)}}))
    assert ranks.overview(read_run(tmp_path)) is None
    assert "All tasks together" not in html(tmp_path) + table(tmp_path) and 'class="paged"' not in html(tmp_path)


def test_a_group_with_one_method_compares_nothing(tmp_path):
    assert ranked(tmp_path, {"source": {10: (0.3,), 20: (0.3,)}, "tgdp": {10: (0.1,)}}) is None


@pytest.mark.parametrize(
    ("metrics", "judge"),
    [(("sliced_w2", "energy", "score_error"), "score_error"), (("mmd", "energy"), "energy"), (("memorisation", "mmd"), "mmd"), (("memorisation",), None)],
)
def test_which_score_judges(tmp_path, metrics, judge):
    (group,) = read_run(write_records(tmp_path, [record(metrics=dict.fromkeys(metrics, 0.1))])).groups
    assert ranks.judge(group) == judge


def test_where_higher_is_better_the_highest_is_first(tmp_path):
    assert told(ranked(tmp_path, {"source": (0.3, 0.3), "tgdp": (0.9, 0.8)}, metric="coverage")) == {"tgdp": 1.0, "source": 2.0}


def test_a_score_that_failed_is_last(tmp_path):
    assert told(ranked(tmp_path, {"source": (float("nan"), 0.1), "tgdp": (0.9, 0.8), "lora": (0.2, 0.2)})) == {"lora": 1.0, "tgdp": 2.0, "source": 3.0}


def test_a_method_that_is_missing_somewhere_disturbs_no_rank(tmp_path):
    values = {**KNOWN, "lora": {10: (0.15, 0.16)}}
    ov = ranked(tmp_path, values)
    assert told(ov) == {"tgdp": 1.5, "source": 2.0, "finetune": 2.5, "lora": None}
    last = ov.standings[-1]
    assert last.ranks == [2.0, None] and (last.low, last.first, last.level) == (None, None, False)
    assert [c.text for c in overview.task_table(ov).rows[-1].cells] == ["2", "–"]
    assert overview.summary_table(ov).rows[-1].note == "1 of 2 tasks" and "has no mean rank" in html(tmp_path)


def test_where_few_methods_are_everywhere_all_are_ranked(tmp_path):
    values = {"source": (0.3, 0.3), "tgdp": {10: (0.1, 0.1)}, "lora": {10: (0.2, 0.2)}, "cep": {20: (0.5, 0.5)}}
    assert told(ranked(tmp_path, values)) == {"tgdp": 1.0, "lora": 2.0, "source": 2.0, "cep": 2.0}
    assert list(ranks.compared(np.array([[True, True], [True, True], [True, False]]))) == [True, True, False]
    assert list(ranks.compared(np.array([[True, True], [True, False], [True, False]]))) == [True, True, True]


def test_methods_are_ranked_on_the_seeds_that_all_have(tmp_path):
    values = {"source": (0.1, 0.9), "tgdp": (0.2,)}  # over all its seeds the source is worse
    ov = ranked(tmp_path, values)
    assert told(ov) == {"source": 1.0, "tgdp": 2.0} and [j.seeds for j in ov.judged] == [[0], [0]]


def test_without_a_common_seed_each_method_keeps_its_own(tmp_path):
    rows = [record(method=m, n=n, seed=s, metrics={"energy": v}) for n in (10, 20) for m, s, v in (("source", 0, 0.3), ("source", 1, 0.1), ("tgdp", 2, 0.25))]
    ov = ranks.overview(read_run(write_records(tmp_path, rows)))
    assert told(ov) == {"source": 1.0, "tgdp": 2.0} and not ov.resampled


# the bootstrap


def test_what_is_better_on_every_seed_is_first_in_every_draw(tmp_path):
    base = (1.0, 100.0, 0.1, 30.0)  # seeds differ far more than methods
    ov = ranked(tmp_path, {"source": base, "tgdp": tuple(v - 0.01 for v in base)})
    first, last = ov.standings
    assert (first.entry.name, first.first, first.low, first.high, first.level) == ("tgdp", 1.0, 1.0, 1.0, True)
    assert (last.first, last.low, last.high, last.level) == (0.0, 2.0, 2.0, False)


def test_the_interval_holds_possible_ranks_and_the_rank_itself(tmp_path):
    g = np.random.default_rng(4)
    ov = ranked(tmp_path, {m: {n: tuple(g.uniform(size=3)) for n in (10, 20, 30)} for m in ("source", "tgdp", "lora", "cep")})
    possible = {sum(p) / 3 for p in itertools.product(np.arange(1, 4.5, 0.5), repeat=3)}
    for s in ov.standings:
        assert {s.mean, s.low, s.high} <= possible and s.low <= s.mean <= s.high
    assert sum(s.first for s in ov.standings) == pytest.approx(1.0)


def test_draws_agree_with_all_draws_counted_out(tmp_path):
    """Two seeds, one for each method: of four draws one has seed 0 twice, one seed 1 twice, and two are a tie."""
    ov = ranked(tmp_path, {"source": {10: (0.0, 1.0), 20: (1.0, 1.0)}, "tgdp": {10: (1.0, 0.0), 20: (1.0, 1.0)}})
    assert [s.mean for s in ov.standings] == [1.5, 1.5] and [(s.low, s.high) for s in ov.standings] == [(1.25, 1.75)] * 2
    assert [s.first for s in ov.standings] == pytest.approx([0.5, 0.5], abs=0.05)  # three standard errors


def test_overview_is_the_same_each_time(tmp_path):
    g = np.random.default_rng(0)
    values = {m: tuple(g.uniform(size=4)) for m in ("source", "tgdp", "lora")}
    made = [ranked(tmp_path / str(k), values) for k in range(2)]
    assert [(s.low, s.high, s.first) for s in made[0].standings] == [(s.low, s.high, s.first) for s in made[1].standings]


def test_one_seed_has_ranks_without_an_interval(tmp_path):
    ov = ranked(tmp_path, {"source": (0.3,), "tgdp": (0.1,)})
    assert told(ov) == {"tgdp": 1.0, "source": 2.0} and not ov.resampled
    assert all(s.low is s.high is s.first is None and not s.level for s in ov.standings)
    text = html(tmp_path)
    assert "There is one seed, so whether another would change this order is not known." in text and "One seed, so there is no interval." in text
    assert "share of draws" not in text and 'class="interval"' not in text and "90 %" not in table(tmp_path)


# source data


def test_every_method_says_whether_it_learns_from_source_points():
    catalog = pytest.importorskip("diffgraft.methods.catalog")
    assert set(terms.SOURCE_POINTS) == set(terms.METHODS) == set(catalog.METHODS)
    by_settings = {"finetune", "domain_guidance", "auto"}  # they ask for source points under some settings, or have others that do
    asks = {name: "source_pool(" in inspect.getsource(inspect.getmodule(kind)) for name, kind in catalog.METHODS.items()}
    assert {k: v for k, v in asks.items() if k not in by_settings} == {k: v for k, v in terms.SOURCE_POINTS.items() if k not in by_settings}


@pytest.mark.parametrize(
    ("method", "settings", "needs"),
    [
        ("finetune", {}, "none"),
        ("finetune", {"augment": "none", "rehearsal": 0.0}, "none"),
        ("finetune", {"augment": "pseudo-target"}, "data or samples"),
        ("finetune", {"rehearsal": 0.5}, "data or samples"),
        ("domain_guidance", {"augment": "pseudo-target"}, "data or samples"),
        ("domain_guidance", {"augment": "pseudo-target", "tune": "lora"}, "none"),
        ("tgdp", {"augment": "none"}, "data or samples"),
        ("a stranger", {}, "–"),
    ],
)
def test_source_data_follows_the_settings(method, settings, needs):
    assert terms.source_data(method, settings) == needs


# what page and terminal show


def test_costs_are_medians_over_all_records(tmp_path):
    rows = rows_of({"source": (0.3, 0.3, 0.3), "tgdp": (0.1, 0.1, 0.1)})
    for k, r in enumerate(r for r in rows if r["method"]["name"] == "tgdp"):
        r.update(fit_seconds=float(k), select_seconds=10.0 * (k == 5), trained_parameters=100 * k, passes=2.0)
    ov = ranks.overview(read_run(write_records(tmp_path, rows)))
    assert [ov.standings[0].median(key) for key in ("trained_parameters", "seconds", "passes")] == [250, 2.5, 2.0]
    (row, _) = overview.summary_table(ov).rows
    assert [c.text for c in row.cells[2:]] == ["250", "2.5", "2.0", "data or samples"]


def test_the_page_begins_with_the_overview(tmp_path):
    text = html(write_records(tmp_path, rows_of(KNOWN)))
    assert text.index('href="#overview"') < text.index('id="overview"') < text.index('id="task-1"')
    assert '<data value="1.5">1.5</data>' in text and 'aria-label="Mean rank by method: tgdp 1.5 (1.5 to 1.5)' in text
    assert text.count('class="interval"') == 3 and text.count('class="paged"') == 2 and not Tags(text).broken
    marks = {row.name: [c.mark for c in row.cells] for row in overview.task_table(ranks.overview(read_run(tmp_path))).rows}
    assert marks == {"tgdp": ["best", ""], "source": ["", "best"], "finetune": ["", ""]}


def test_methods_that_noise_hides_are_marked_level(tmp_path):
    ov = ranked(tmp_path, {"source": (9.2, 9.1), "finetune": (0.2, 0.1), "tgdp": (0.1, 0.19)})
    assert [[c.mark for c in row.cells] for row in overview.task_table(ov).rows] == [["level", "level"], ["level", "level"], ["", ""]]


def test_the_head_names_the_score_that_judges(tmp_path):
    rows = rows_of({"source": {10: (0.3,)}, "tgdp": {10: (0.1,)}}, metric="score_error") + rows_of({"source": {20: (0.3,)}, "tgdp": {20: (0.1,)}})
    ov = ranks.overview(read_run(write_records(tmp_path, rows)))
    assert [c.note for c in overview.task_table(ov).columns] == ["n = 10, score error", "n = 20, energy distance"]


def test_hostile_names_are_escaped(tmp_path):
    rows = [{**r, "label": HOSTILE, "method_label": HOSTILE + r["method"]["name"]} for r in rows_of(KNOWN)]
    text = html(write_records(tmp_path, rows))
    assert "<script" not in text and not Tags(text).broken and 'id="overview"' in text


def test_the_terminal_shows_ranks_first(tmp_path):
    lines = table(write_records(tmp_path, rows_of(KNOWN))).split("\n\n")[0].splitlines()
    assert lines[0] == "All tasks together, ranks on each and their mean, 2 seeds"
    assert lines[1].split() == ["mean", "rank", "90", "%", "first", "parameters", "fit", "s", "passes", "source", "data", "#1", "#2"]
    assert lines[2].split() == ["tgdp", "1.5*", "1.5", "to", "1.5", "100", "%", "1,234", "3.0", "1.0", "data", "or", "samples", "1*", "2"]
    assert lines[-2:] == ["#1: mixtures, n = 10, energy distance", "#2: mixtures, n = 20, energy distance"]
    assert all(len(line) <= 100 for line in lines)


# words


def said(folder, values, **more):
    return " ".join(reading.reading(ranked(folder, values, **more)))


def test_reading_of_a_clear_leader(tmp_path):
    text = said(tmp_path, {"source": (0.9, 0.91), "finetune": (0.4, 0.42), "tgdp": (0.1, 0.105)})
    assert text == (
        "Over 2 tasks tgdp ranks best beyond noise, with a mean rank of 1.0 (90 % interval 1.0 to 1.0) among 3 methods; "
        "next is finetune with 2.0 (90 % interval 2.0 to 2.0). In the median over tasks the score of tgdp is 0.25 times that of finetune; "
        "it is better beyond noise on 2 of 2 tasks and worse on none. Plain finetune is among the best on no task."
    )


def test_reading_where_noise_decides_nothing(tmp_path):
    values = {"source": (0.9, 0.91), "finetune": (0.1, 0.2), "tgdp": (0.19, 0.1)}
    rows = [{**r, "passes": 2.0 if r["method"]["name"] == "tgdp" else 1.0} for r in rows_of(values)]
    text = " ".join(reading.reading(ranks.overview(read_run(write_records(tmp_path, rows)))))
    assert "tgdp has the lowest mean rank, 1.0 (90 % interval 1.0 to 2.0) among 3 methods, but finetune cannot be told from it." in text
    assert "it is neither better nor worse beyond noise on any task." in text
    assert "Of the methods that share its lead, finetune takes the fewest network passes a step (1.0, not 2.0)." in text
    assert "Plain finetune shares the lead on mixtures with 10 target points and mixtures with 20 target points." in text


def test_reading_where_the_fine_tune_leads(tmp_path):
    text = said(tmp_path, {"source": (0.9, 0.91), "finetune": (0.1, 0.105), "tgdp": (0.4, 0.42)})
    assert (
        "finetune ranks best beyond noise" in text and "the score of tgdp is 4.0 times that of finetune; it is better beyond noise on none of 2 tasks" in text
    )
    assert "Plain finetune is best on mixtures with 10 target points and mixtures with 20 target points." in text


def test_the_plain_fine_tune_is_the_one_called_by_its_id(tmp_path):
    rows = rows_of({"source": (0.3, 0.3), "tgdp": (0.1, 0.1)})
    for name, config in (("pseudo", {"augment": "pseudo-target"}), ("short", {"steps": 10}), ("finetune", {})):
        rows += [{**record(method="finetune", n=n, seed=s, config=config), "method_label": name} for n in (10, 20) for s in (0, 1)]
    assert reading.plain_finetune(ranks.overview(read_run(write_records(tmp_path, rows)))).entry.name == "finetune"
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows[:-4]))
    ov = ranks.overview(read_run(tmp_path))
    assert reading.plain_finetune(ov).entry.name == "short"
    assert re.search(r"The plain fine-tune, short, ", " ".join(reading.reading(ov)))


def test_without_a_fine_tune_or_ratios_the_words_say_less(tmp_path):
    assert len(reading.reading(ranked(tmp_path / "a", {"source": (0.9, 0.91), "tgdp": (0.1, 0.11)}))) == 1
    text = said(tmp_path / "b", {"source": (0.9, 0.91), "finetune": (0.2, 0.2), "tgdp": (-0.1, -0.11)})
    assert "Against finetune, tgdp is better beyond noise on 2 of 2 tasks and worse on none." in text


def test_one_method_with_few_seeds_does_not_take_the_others_seeds():
    shared_seeds = ranks.shared_seeds
    assert shared_seeds([{0, 1, 2}, {0, 1, 2}, {0}]) == [0, 1, 2]
    assert shared_seeds([{0, 1}, {1, 2}, {1}]) == [1]  # no two have all of the commonest
    assert shared_seeds([{0}, {1}]) == []
