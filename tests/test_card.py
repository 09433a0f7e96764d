"""The model card: only what is known, correct Markdown, and a snippet that runs."""

import json
import math
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import diffgraft as dg
from diffgraft.card.card import card, classes, snippet
from diffgraft.card.markdown import code, plain
from diffgraft.card.noted import CANDIDATES, noted
from diffgraft.data import Layout, Prior
from diffgraft.density import candidates
from diffgraft.guide import Steered
from diffgraft.job import origin_of
from diffgraft.methods.finetune import Finetune
from diffgraft.methods.tgdp import TGDP
from diffgraft.nets.catalog import build, ratio_net
from diffgraft.ratio import LogRatio

HOSTILE = "a | b\n# <script>*x*</script> `c` [d](e)"


def net(shape=(3,), n_classes=0, name="mlp", **settings):
    model = dg.Net(build(name, shape, dg.vp(), n_classes, width=8, **({"depth": 2} if name == "mlp" else {}), **settings), dg.vp(), "eps", shape)
    if n_classes:
        model.prior = Prior(torch.tensor([0, n_classes - 1]), torch.tensor([0.5, 0.5]))
    return model


def guided(n_classes=0):
    log_h = LogRatio(ratio_net((3,), dg.vp(), n_classes, width=8, depth=2), dg.vp())
    base = net(n_classes=n_classes)
    return dg.Guided(base, dg.ratio_shift(log_h, dg.vp())).like(base)


MODELS = {
    "net": lambda: net(),
    "labelled net": lambda: net(n_classes=3),
    "images": lambda: net((1, 8, 8), 2, "unet"),
    "ratio": lambda: guided(),
    "labelled ratio": lambda: guided(3),
    "toward": lambda: dg.Guided(dg.drop_label(net(n_classes=3)), dg.toward(net(n_classes=3)), 2.0),
    "steered": lambda: Steered(net(n_classes=3, steered=True), 1.5),
    "another schedule": lambda: dg.Guided(net(), dg.toward(dg.with_schedule(net(), dg.vp())), 1.5),
}


def saved(folder, model, **origin):
    dg.save(model, folder, origin=origin)
    return (folder / "README.md").read_text(), json.loads((folder / "config.json").read_text())


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def tables(text):
    """Rows of cells of each table."""
    found = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", row)[1:-1] for row in part.strip().splitlines()] for part in found]


@pytest.mark.parametrize("name", MODELS)
def test_the_snippet_runs_beside_the_model(tmp_path, monkeypatch, name):
    folder = tmp_path / 'a "model" of mine'
    text, config = saved(folder, MODELS[name]())
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(text, "python")
    names = {}
    exec(compile(block, "card", "exec"), names)
    assert names["x"].shape == (16, *config["shape"]) and torch.isfinite(names["x"]).all()
    assert ("y=" in block) == bool(names["model"].n_classes) and ("weight=" in block) == (config["model"]["kind"] in ("guided", "steered"))


def test_the_command_runs_beside_the_model(tmp_path):
    text, _ = saved(tmp_path / "my model", net(n_classes=3))
    (block,) = blocks(text, "bash")
    for line in block.splitlines():
        line = line.replace("diffgraft", f"{sys.executable} -m diffgraft", 1)
        subprocess.run(line, shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["one_label.npz", "samples.npz"]


def test_a_network_of_the_users_own_has_to_be_given(tmp_path, monkeypatch):
    class Own(nn.Linear):
        def forward(self, x_t, t):
            return super().forward(x_t)

    text, _ = saved(tmp_path / "m", dg.Net(Own(3, 3), dg.vp(), shape=(3,)))
    monkeypatch.chdir(tmp_path)
    names = {"net": Own(3, 3)}
    exec(blocks(text, "python")[0], names)
    assert names["x"].shape == (16, 3) and not blocks(text, "bash") and "`net` is the network" in text


def test_without_a_shape_the_snippet_only_loads(tmp_path, monkeypatch):
    class Own(nn.Linear):
        def forward(self, x_t, t):
            return super().forward(x_t)

    text, _ = saved(tmp_path / "m", dg.Net(Own(3, 3), dg.vp()))
    monkeypatch.chdir(tmp_path)
    names = {"net": Own(3, 3)}
    exec(blocks(text, "python")[0], names)
    assert "x" not in names and "A diffusion model of samples." in text and "Shape of a sample" not in text


def test_every_fact_has_its_row_and_nothing_else_has(tmp_path):
    model = guided(2)
    model.layout = Layout(columns=("acid", "su|gar", "pH"), labels=("white", "red"), label_column="kind")
    data = dg.Data(source=(torch.randn(31, 3), torch.arange(31) % 2), target=(torch.randn(7, 3), torch.arange(7) % 2))
    facts = {**origin_of(TGDP(steps=70, held_out=0.1), data, 5, {"outside": 0.25}), "fit_seconds": 2.345, "source": "white-model", "target": "red.csv"}
    text, config = saved(tmp_path / "m", model, **facts)
    rows = {a.strip(): b.strip() for a, b in tables(text)[0][2:]}
    assert rows["Method"] == "`tgdp`" and rows["Settings other than the defaults"] == "steps = 70, held\\_out = 0.1"
    assert rows["Features"] == "acid, su\\|gar, pH" and rows["Labels"] == "0 white, 1 red" and rows["Label column"] == "kind"
    assert (rows["Target samples"], rows["Source samples"], rows["Seed"], rows["Seconds of fitting"]) == ("7", "31", "5", "2.3")
    assert rows["Source model"] == "white-model" and rows["Target data"] == "red.csv" and rows["Shape of a sample"] == "3"
    assert rows["SHA-256 of the target data"] == f"`{config['origin']['data']['target']}`" != rows["SHA-256 of the source data"]
    assert "adapted by `tgdp` to 7 target samples beside 31 source samples." in text and "Transfer Guided Diffusion Process" in text
    assert "25% of the target points lie where the source has none." in text and "Guidance moves the source's samples." in text
    bare, _ = saved(tmp_path / "bare", net())
    assert [a.strip() for a, _ in tables(bare)[0][2:]] == ["Built as", "Shape of a sample", "Written by"]
    assert "## Scores" not in bare and "noted" not in bare and "A diffusion model of rows of 3 features." in bare
    assert not re.search(r"TODO|not recorded|unknown|None|nan", text + bare)


def test_what_a_fit_tells_of_itself():
    target = torch.randn(7, 3)
    facts = origin_of(Finetune(steps=9), dg.Data(target=target), 3, {"warnings": ["few points"]})
    assert facts["changed"] == {"steps": 9} and facts["method"]["name"] == "finetune" and facts["n_target"] == 7 and "n_source" not in facts
    assert list(facts["data"]) == ["target"] and facts["notes"] == {"warnings": ["few points"]}
    other = origin_of(Finetune(), dg.Data(source=target, target=target + 1), 3, {})
    assert other["data"]["source"] == facts["data"]["target"] != other["data"]["target"] and other["changed"] == {}


def test_scores_have_floors_directions_and_counts(tmp_path):
    metrics = {
        "energy": {"value": 0.0123456, "floor": 0.004, "n": 1500},
        "coverage": {"value": 0.9, "floor": math.nan, "n": 0},
        "mine": {"value": 3.0},
        "plain": 2.0,
    }
    text, _ = saved(tmp_path / "m", net(), metrics=metrics)
    heads, _, *rows = ([cell.strip() for cell in row] for row in tables(text)[1])
    assert heads == ["score", "value", "floor", "which way", "points"]
    assert rows[0] == ["energy distance (`energy`)", "0.0123", "0.00400", "lower is better", "1,500"]
    assert rows[1] == ["coverage (`coverage`)", "0.900", "", "higher is better", ""]
    assert rows[2] == ["mine (`mine`)", "3.00", "", "", ""] and rows[3][:2] == ["plain (`plain`)", "2.00"]


def test_notes_are_sentences():
    found = {
        "warnings": ["the domains | hardly overlap"],
        "stack": {"0: moved 1": 0.5, "0: placed 2": 0.5, "1: moved 20": 0.75, "1: kernels x1": 0.25},
        "ratio": {"auc": 0.75, "effective_sample_size": 698.0, "calibration": [[0.1, 0.2, 3]]},
        "own_share": 0.5,
        "chosen_method": "finetune",
        "table": [1, 2],
    }
    lines = noted(found).splitlines()
    assert lines[0] == "- **Warning:** the domains \\| hardly overlap."
    assert "62% source clusters, moved towards the target points, 25% new clusters" in lines[1] and "12% a small cluster at every target point" in lines[1]
    assert "ROC curve of 0.750" in lines[2] and "rests on 698 source points" in lines[3] and lines[4].startswith("- 50% of the points")
    assert lines[5:] == ["- chosen method: finetune."] and noted({}) == ""


def test_every_candidate_of_a_smoothed_target_has_words():
    names = candidates(50, dg.tasks.mixtures.shifted().truth.p, 0)
    (line,) = noted({"stack": {f"3: {name}": 1.0 for name in names}}).splitlines()
    for words in CANDIDATES.values():
        assert f"% {words}" in line
    assert line.count("%") == len(CANDIDATES)


def test_a_source_model_is_called_one(tmp_path):
    text, _ = saved(tmp_path / "m", net((1, 8, 8), 2, "unet"), method="pretrain", n_source=1234, seed=0, data="ab12")
    assert "A diffusion model of 8 x 8 images with 1 channel, trained on 1,234 samples: a source model to adapt." in text
    assert "| SHA-256 of the training data | `ab12` |" in text and "transfer-learning" not in text and '- "images"' in text


@pytest.mark.parametrize("name", ["mlp", "sssd"])
def test_a_network_is_called_by_its_name(tmp_path, name):
    model = net((3,) if name == "mlp" else (3, 32), name=name)
    dg.save(model, tmp_path / "m")
    assert f"network {name} (width 8" in (tmp_path / "m" / "README.md").read_text()


def test_files_stand_with_their_hashes(tmp_path):
    text, config = saved(tmp_path / "m", guided())
    rows = [[cell.strip() for cell in row] for row in tables(text)[-1][2:]]
    assert {row[0]: row[2] for row in rows} == {f"`{name}`": f"`{value}`" for name, value in config["files"].items()}
    assert [row[1] for row in rows] == ["the frozen source network", "the learned log ratio", "data units, and how often each label occurs"]


def test_hostile_names_break_neither_tables_nor_front_matter(tmp_path):
    model = net(n_classes=2)
    model.layout = Layout(columns=(HOSTILE,) * 3, labels=(HOSTILE,) * 2, label_column=HOSTILE)
    origin = {"method": {"name": HOSTILE}, "changed": {HOSTILE: HOSTILE}, "task": HOSTILE, "source": HOSTILE, "metrics": {HOSTILE: {"value": 1.0}}}
    dg.save(model, tmp_path / "m", origin={**origin, "notes": {"warnings": [HOSTILE], HOSTILE: HOSTILE}, "n_target": "many", "fit_seconds": "long"})
    text = card(json.loads((tmp_path / "m" / "config.json").read_text()), HOSTILE)
    assert all(len({len(row) for row in part}) == 1 for part in tables(text)) and len(tables(text)) == 3
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in re.sub(r"(?<!\\)`[^`]*`", "", prose).replace("\\<", "") and prose.count("\\<script") > 8
    assert [line for line in prose.splitlines() if line.startswith("# ")] == ["# a \\| b \\# \\<script\\>\\*x\\*\\</script\\> \\`c\\` \\[d\\](e)"]
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head == {"library_name": "diffgraft", "tags": ["diffusion", "tabular"]}


def test_front_matter_names_the_method_and_the_kind_of_data(tmp_path):
    yaml = pytest.importorskip("yaml")
    text, _ = saved(tmp_path / "m", guided(), method={"name": "tgdp"})
    assert text.startswith("---\n")
    assert yaml.safe_load(text.split("---\n")[1]) == {"library_name": "diffgraft", "tags": ["diffusion", "transfer-learning", "tabular", "tgdp"]}


def test_labels_are_found_in_the_tree():
    assert (
        classes({"kind": "guided", "base": {"kind": "with_schedule", "base": {"kind": "net", "n_classes": 4}}, "shift": {"kind": "ratio", "module": {}}}) == 4
    )
    assert classes({"kind": "drop_label", "base": {"kind": "net", "n_classes": 4}}) == 0
    assert "import torch" not in snippet({"shape": [3], "model": {"kind": "net", "n_classes": 0}}, "m")


def test_markdown_of_any_text():
    assert plain("a\nb  c") == "a b c" and plain("x_y") == "x\\_y" and code("a`b\nc") == "`a'b c`"
