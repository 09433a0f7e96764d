"""Plans: every mistake is reported at once, with the nearest valid key."""

import tomllib
from pathlib import Path

import pytest

from diffgraft.errors import BadPlan
from diffgraft.experiment import jobs
from diffgraft.nets.sssd import PAPER
from diffgraft.plan import check_plan, make_method, parse_changes, read_plan, reduced, to_toml

PLANS = Path(__file__).parent.parent / "plans"


def raw(**changes):
    return {"name": "p", "task": [{"name": "mixtures", "n_target": [7, 11]}], "method": [{"name": "source"}, {"name": "tgdp"}], **changes}


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda p: p.name)
def test_plans_of_the_repository_are_valid(path):
    plan = read_plan(path)
    assert check_plan(tomllib.loads(to_toml(plan))) == plan


def test_every_setting_is_written_out():
    plan = check_plan(raw())
    assert plan.task[0]["world"] == "shifted" and plan.task[0]["n_source"] == 10_000
    assert plan.method[1]["held_out"] == 0.2 and "logistic" not in plan.method[1]


def test_all_mistakes_at_once():
    bad = raw(
        sead=[1],
        samples="many",
        source={"stpes": 4},
        task=[{"name": "mixtures", "worlds": "hard"}, {"name": "mixture"}, {"name": "mixtures", "world": "harder"}, {"name": "digits", "n_target": [1]}],
        method=[{"name": "tgdp", "wieght": 2.0}, {"name": "tgpd"}, {"name": "finetune", "steps": "long"}],
    )
    with pytest.raises(BadPlan) as error:
        check_plan(bad)
    lines = str(error.value).splitlines()
    for expected in (
        "plan: unknown key 'sead'; did you mean 'seeds'?",
        "plan.samples: input should be a valid integer, got 'many'",
        "plan.source: unknown key 'stpes'; did you mean 'steps'?",
        "[[task]] mixtures: unknown key 'worlds'",
        "[[task]]: unknown name 'mixture'; did you mean 'mixtures'?",
        "[[task]] mixtures: unknown world 'harder'; did you mean 'hard'?",
        "[[task]] digits: n_target must be whole numbers of at least 2, got [1]",
        "[[method]] tgdp: unknown key 'wieght'; did you mean 'weight'?",
        "[[method]]: unknown name 'tgpd'; did you mean 'tgdp'?",
        "[[method]] finetune.steps: input should be a valid integer, got 'long'",
    ):
        assert any(expected in line for line in lines), (expected, lines)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_interval": [-6.0, -2.0]}, r"^plan\.label_interval: it bounds a label_weight, and there is none; give one$"),
        ({"label_weight": 1.5, "label_interval": [2.0, -6.0]}, r"^plan\.label_interval takes two bounds in log-SNR, the smaller one first, got"),
        ({"label_weight": 1.5, "particles": 9, "sampler": "ddpm"}, r"^plan\.label_weight: particles follow a ratio alone; drop"),
    ],
)
def test_label_weights_that_cannot_be(changes, said):
    with pytest.raises(BadPlan, match=said):
        check_plan(raw(**changes))


def test_a_value_of_several_kinds_is_told_of_in_one_line():
    with pytest.raises(BadPlan, match=r"^tgdp\.weight: input should be a valid number, or input should be 'calibrated', got 'calibratd'$"):
        make_method("tgdp", {"weight": "calibratd"})


@pytest.mark.parametrize("missing", ["name", "task", "method"])
def test_missing_parts_are_named(missing):
    bad = raw()
    del bad[missing]
    with pytest.raises(BadPlan, match=f"'{missing}' is missing"):
        check_plan(bad)


@pytest.mark.parametrize("bad", [raw(task="mixtures"), raw(task=[1]), raw(method=[]), raw(method=[{}]), raw(sampler="dmpp"), raw(source={"net": "mpl"})])
def test_odd_shapes_are_one_line_each(bad):
    with pytest.raises(BadPlan):
        check_plan(bad)


def test_particles_need_the_sampler_that_takes_noise():
    with pytest.raises(BadPlan, match=r'^plan\.particles: .*which dpmpp_2m does not take; set sampler = "ddpm"$'):
        check_plan(raw(particles=50))
    with pytest.raises(BadPlan, match=r"^plan\.particles: .*got 1$"):
        check_plan(raw(particles=1, sampler="ddpm"))
    plan = check_plan(raw(particles=50, sampler="ddpm"))
    assert "particles = 50" in to_toml(plan) and "particles" not in to_toml(check_plan(raw()))


def test_changes_reach_every_level(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text('name = "p"\n[[task]]\nname = "mixtures"\n[[method]]\nname = "tgdp"\n')
    plan = read_plan(file, ["samples=50", "source.steps=3", "method.tgdp.weight=0.5", "task.mixtures.n_target=[9]", "name=q"], seeds=[4])
    assert (plan.samples, plan.source.steps, plan.method[0]["weight"], plan.task[0]["n_target"], plan.name, plan.seeds) == (50, 3, 0.5, [9], "q", [4])
    with pytest.raises(BadPlan, match=r"no \[\[method\]\] named 'finetune'"):
        read_plan(file, ["method.finetune.steps=3"])


@pytest.mark.parametrize(("text", "says"), [("name = ", "not valid TOML"), (None, "cannot be read")])
def test_files_that_cannot_be_read(tmp_path, text, says):
    if text is not None:
        (tmp_path / "p.toml").write_text(text)
    with pytest.raises(BadPlan, match=says):
        read_plan(tmp_path / "p.toml")


def test_values_of_changes():
    assert parse_changes(["a=1", "b=0.5", "c=x y", "d=[1, 2]", "e=true"]) == {"a": 1, "b": 0.5, "c": "x y", "d": [1, 2], "e": True}
    with pytest.raises(BadPlan, match="KEY=VALUE"):
        parse_changes(["steps"])


def test_jobs_have_distinct_ids():
    plan = check_plan(raw(seeds=[0, 5], method=[{"name": "tgdp"}, {"name": "tgdp", "weight": 0.5}]))
    ids = [job.id for job in jobs(plan)]
    assert len(ids) == len(set(ids)) == 8
    assert ids[:2] == ["mixtures-shifted-n7-tgdp-weight-1-s0", "mixtures-shifted-n7-tgdp-weight-0-5-s0"]


def tgdp(**settings):
    return {"name": "tgdp", **settings}


def at(n, *methods, **changes):
    """Names and ids of the methods of a plan at a size."""
    found = [job for job in jobs(check_plan(raw(method=list(methods), **changes))) if job.n_target == n]
    return [job.method_label for job in found], [job.id.removeprefix(f"mixtures-shifted-n{n}-").removesuffix("-s0") for job in found]


@pytest.mark.parametrize(
    ("methods", "called"),
    [
        ([tgdp(), {"name": "finetune"}], ["tgdp", "finetune"]),
        ([tgdp(steps=5, width=8), tgdp(steps=9)], ["tgdp (steps 5, width 8)", "tgdp (steps 9, width default)"]),
        ([tgdp(), tgdp(label="Ours, w = 2!", weight=2.0)], ["tgdp", "Ours, w = 2!"]),
        ([tgdp(weight=1.0), tgdp(weight=-1.0)], ["tgdp (weight 1)", "tgdp (weight -1)"]),
        ([tgdp(), tgdp(), tgdp()], ["tgdp", "tgdp 2", "tgdp 3"]),
    ],
)
def test_methods_are_called_by_what_sets_them_apart(methods, called):
    names, ids = at(7, *methods)
    assert names == called
    assert len(set(ids)) == len(ids) and all(set(id) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for id in ids)


def test_a_method_runs_at_its_own_sizes_only():
    short, long = tgdp(steps=5, n_target=7), tgdp(steps=9, n_target=[11])
    assert at(7, short, long)[0] == at(11, short, long)[0] == ["tgdp"]  # never side by side, so one name
    assert [j.method["steps"] for j in jobs(check_plan(raw(method=[short, long])))] == [5, 9]
    assert at(7, short, long, tgdp(steps=20))[0] == ["tgdp (steps 5)", "tgdp (steps 20)"]
    assert at(7, {**short, "label": "tuned"}, {**long, "label": "tuned"})[0] == ["tuned"]


def test_a_task_has_its_own_seeds_and_label():
    task = {"name": "mixtures", "n_target": [7]}
    plan = check_plan(raw(seeds=[0, 1], task=[{**task, "label": "Two modes", "seeds": [5]}, {**task, "n_target": [8]}]))
    found = [(job.task_label, job.label, job.seed) for job in jobs(plan) if job.method["name"] == "source"]
    assert found == [("Two modes", "two-modes", 5), ("mixtures-shifted", "mixtures-shifted", 0), ("mixtures-shifted", "mixtures-shifted", 1)]
    assert check_plan(tomllib.loads(to_toml(plan))) == plan


def test_tasks_share_a_name_only_with_equal_settings():
    def called(*tasks):
        return [job.task_label for job in jobs(check_plan(raw(task=[{"name": "mixtures", **t} for t in tasks], method=[{"name": "source"}])))]

    assert called({"n_target": [7]}, {"n_target": [8], "seeds": [4]}) == ["mixtures-shifted"] * 2
    assert called({"n_target": [7]}, {"n_target": [8], "n_source": 50}) == ["mixtures-shifted (n source 10000)", "mixtures-shifted (n source 50)"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": [tgdp(label="a b"), tgdp(label="A-B")]}, "two entries are called"),
        ({"method": [tgdp(), tgdp(label="tgdp")]}, "two entries are called 'tgdp'"),
        ({"method": [tgdp(label="?!")]}, "label must be a text with a letter or digit"),
        ({"method": [tgdp(n_target=[1])]}, "n_target must be whole numbers of at least 2"),
        ({"method": [tgdp(seeds=[-1])]}, "seeds must be whole numbers"),
        ({"task": [{"name": "mixtures", "seeds": []}]}, "seeds must be whole numbers"),
        (
            {"task": [{"name": "mixtures", "label": "x", "n_target": 7}, {"name": "mixtures", "label": "x", "n_target": 8, "n_source": 9}]},
            "two entries are called 'x'",
        ),
    ],
)
def test_labels_sizes_and_seeds_are_checked(changes, says):
    with pytest.raises(BadPlan, match=says.replace("[", r"\[").replace("?", r"\?")):
        check_plan(raw(**changes))


def test_given_seeds_replace_those_of_tasks(tmp_path):
    (tmp_path / "p.toml").write_text('name = "p"\n[[task]]\nname = "mixtures"\nseeds = [7]\n[[method]]\nname = "source"\n')
    assert [job.seed for job in jobs(read_plan(tmp_path / "p.toml"))] == [7]
    assert [job.seed for job in jobs(read_plan(tmp_path / "p.toml", seeds=[1, 2]))] == [1, 2]


def test_the_quick_profile_keeps_the_size_nearest_to_100():
    sizes = [10, 80, 1000]
    plan = reduced(check_plan(raw(profile="quick", task=[{"name": "mixtures", "n_target": sizes, "seeds": [5, 6]}, {"name": "tabular", "n_target": [50]}])))
    assert [(e["n_target"], e.get("seeds")) for e in plan.task] == [([80], [5]), ([50], None)]
    auto = reduced(check_plan(raw(profile="quick", method=[{"name": "auto"}]))).method[0]
    assert auto["effort"] == 0.1


def test_the_quick_profile_is_a_tenth():
    plan = reduced(check_plan(raw(profile="quick", seeds=[3, 4])))
    assert (plan.seeds, plan.samples, plan.steps, plan.method[1]["steps"]) == ([3], 1000, 15, 250)
    assert [reduced(check_plan(raw(profile="quick", steps=steps))).steps for steps in (10, 50)] == [10, 15]
    drawn = [reduced(check_plan(raw(profile="quick", task=[{"name": "mixtures", "n_source": n}]))).task[0]["n_source"] for n in (500, 10_000)]
    assert drawn == [500, 4_000]


def test_methods_by_name():
    assert make_method("tgdp", {"weight": 2.0}).weight == 2.0
    with pytest.raises(BadPlan, match="did you mean 'tgdp'"):
        make_method("tdgp", {})
    with pytest.raises(BadPlan, match="did you mean 'weight'"):
        make_method("tgdp", {"weigth": 1.0})


def test_a_network_by_its_preset():
    plan = check_plan(raw(source={"net": "sssd", "preset": "paper", "depth": 2}))
    assert plan.source.of_net == {**PAPER, "depth": 2} and check_plan(raw()).source.of_net == {}
    assert check_plan(raw(source={"net": "dit", "patch": 4})).source.of_net == {"patch": 4}
    assert check_plan(raw(source={"net": "sssd", "preset": "small", "kind": "s4d"})).source.of_net == {"kind": "s4d"}
    for source, says in (
        ({"net": "sssd", "kind": "s5"}, "source.kind"),
        ({"net": "sssd", "preset": "papr"}, "did you mean 'paper'"),
        ({"net": "mlp", "preset": "paper"}, "has no preset 'paper'; leave it out"),
        ({"net": "unet", "depth": 3, "patch": 4}, "net 'unet' has no 'depth', 'patch'; leave it out"),
    ):
        with pytest.raises(BadPlan, match=says):
            check_plan(raw(source=source))


def test_plans_of_recordings_run_on_two_folders(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(
        'name = "p"\n[source]\nsteps = 5\n[[task]]\nname = "ecg"\nn_target = [7]\n'
        '[[task]]\nname = "ecg"\nlabel = "known"\nknown_ratio = true\n[[method]]\nname = "source"\n'
    )
    assert read_plan(file, ["source.path=a", "target.path=b", "task.ecg.seconds=2.5"]).task[0]["seconds"] == 2.5
    plan = read_plan(file, ["source.path=a", "target.path=b"])
    (task,) = plan.task
    assert (task["world"], task["source"], task["target"], task["n_target"]) == ("folders", "a", "b", [7])
    assert plan.source.path is None and plan.source.steps == 5
    file.write_text("label_weight = 1.5\nlabel_interval = [-6.0, -2.75]\nlabels = 'test'\n" + file.read_text())
    found, asked = read_plan(file, ["source.path=a", "target.path=b"]), read_plan(file, ["source.path=a", "target.path=b", "labels=test", "label_weight=2"])
    assert read_plan(file).label_weight == 1.5 and read_plan(file).labels == "test"
    assert (found.label_weight, found.label_interval, found.labels) == (None, None, "target")
    assert (asked.label_weight, asked.label_interval, asked.labels) == (2.0, None, "test")
    for changes in (["target.path=b"], ["source.path=a", "target.path=b", "target.rate=3"]):
        with pytest.raises(BadPlan, match=r"give source\.path, the source's folder, beside it"):
            read_plan(file, changes)
