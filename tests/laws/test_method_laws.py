"""What holds for every method: one list, the catalog."""

import copy
import itertools
import re
from dataclasses import replace
from functools import partial

import pytest
import torch

import diffgraft as dg
import diffgraft.data
from diffgraft.domain import CleanRatio
from diffgraft.draw import Draw
from diffgraft.errors import BadData, BadModel
from diffgraft.fit import Training
from diffgraft.guide import reweighted
from diffgraft.methods import auto, expected
from diffgraft.methods.catalog import METHODS, describe, name_of
from diffgraft.methods.classify import new_ratio, noised_logits
from diffgraft.methods.paper import cycle_term, guidance_term, paper_loss
from diffgraft.methods.pseudo import PseudoTarget
from diffgraft.methods.start import begin, matching_loss
from diffgraft.plan import make_method
from diffgraft.pretrain import pretrain
from diffgraft.ratio import LogRatio, logistic_loss

QUICK = Training(steps=30, batch_size=32, warmup=5)


INSTANCES = {**METHODS, "dogfit, control": partial(METHODS["dogfit"], control=True)}
"""The catalog, and forms of a method that train or sample in another way."""

NEED_LABELS = ("classifier_free", "model_guidance")
"""Methods that refuse targets without labels."""


def short(name):
    method = INSTANCES[name]()
    brief = {key: 12 for key in ("steps", "classifier_steps") if hasattr(method, key)}
    return replace(method, **brief, **({"effort": 0.01} if hasattr(method, "effort") else {}))


@pytest.fixture(autouse=True)
def little_work(monkeypatch):
    """auto compares two methods and TGDP looks at few images here, which suffices for what any method must do."""
    monkeypatch.setattr(expected, "LOOKS", 1000)
    monkeypatch.setattr(expected, "OWN_LOOKS", 200)
    monkeypatch.setattr(expected, "OF_SIGNALS", 1000)
    monkeypatch.setattr(auto, "CANDIDATES", {name: auto.CANDIDATES[name] for name in ("source", "finetune")})
    monkeypatch.setattr(auto, "LIKELIHOOD_STEPS", 2)
    monkeypatch.setattr(auto, "LOSS_DRAWS", 2)


def world_for(name):
    return "classes" if name in NEED_LABELS else "plain"


def worlds():
    plain = dg.tasks.mixtures.hard(11, dim=3, n_components=5, n_source=200)
    labelled = dg.tasks.mixtures.hard(11, dim=3, n_components=5, labels="classes", n_source=200)
    statements = dg.tasks.mixtures.hard(11, dim=3, n_components=5, labels="multi-hot", n_source=200)
    return {"plain": plain, "classes": labelled, "multi-hot": statements, "images": dg.tasks.digits.label_shift(11)}


WORLDS = worlds()
SOURCES = {}


def source(world):
    if world not in SOURCES:
        SOURCES[world] = pretrain(WORLDS[world].data.source, 0, training=QUICK, settings={"width": 16}, transform=WORLDS[world].transform)
    return SOURCES[world]


def seeded():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("name", INSTANCES)
def test_configuration_round_trip(name):
    method = INSTANCES[name]()
    settings = describe(method)
    known = settings.pop("name")
    assert known == name.split(",")[0] == name_of(method)
    assert make_method(known, {k: v for k, v in settings.items() if v is not None}) == method


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", INSTANCES)
def test_fit_leaves_source_and_data_as_they_were_and_survives_the_folder(name, world, tmp_path):
    if world == "plain":
        world = world_for(name)
    net, data = source(world), WORLDS[world].data
    before, kept = copy.deepcopy(net.state_dict()), copy.deepcopy(data)
    flags = [p.requires_grad for p in net.parameters()]
    model = short(name).fit(net, data, seeded())

    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert flags == [p.requires_grad for p in net.parameters()]
    for a, b in zip((*data.source, *data.target), (*kept.source, *kept.target), strict=True):
        assert a is b is None or torch.equal(a, b)

    dg.save(model, tmp_path / "m")
    draws = [dg.sample(m, 7, steps=3, generator=seeded()) for m in (model, dg.load(tmp_path / "m"))]
    assert torch.equal(*draws)
    assert draws[0].shape == (7, *data.target.x.shape[1:])


@pytest.mark.parametrize("name", INSTANCES)
def test_one_seed_gives_one_model(name):
    models = [short(name).fit(source(world_for(name)), WORLDS[world_for(name)].data, seeded()) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


@pytest.mark.parametrize("name", INSTANCES)
def test_the_global_generator_is_left_alone(name):
    before = torch.get_rng_state()
    short(name).fit(source(world_for(name)), WORLDS[world_for(name)].data, seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", INSTANCES)
def test_samples_follow_the_targets_labels(name):
    data = WORLDS["images"].data
    model = short(name).fit(source("images"), data, seeded())
    assert set(model.prior.values.tolist()) == set(data.target.y.tolist())
    assert float(model.prior.probs.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", INSTANCES)
def test_data_of_another_shape_are_refused_before_any_work(name):
    with pytest.raises(BadData, match=r"shape \(3,\).*\(5,\)"):
        INSTANCES[name]().fit(source("plain"), dg.Data(target=torch.zeros(9, 5)), seeded())


REFUSE_NEW_LABELS = ("time_ratio_weighted",)
"""Methods that train on source points, which bear no such label."""


@pytest.mark.parametrize("name", REFUSE_NEW_LABELS)
def test_unknown_labels_are_refused_before_any_work(name):
    with pytest.raises(BadData, match="takes none"):
        INSTANCES[name]().fit(source("plain"), dg.Data(target=(torch.zeros(9, 3), torch.zeros(9))), seeded())
    with pytest.raises(BadData, match="go up to 12"):
        INSTANCES[name]().fit(source("classes"), dg.Data(target=(torch.zeros(9, 3), torch.full((9,), 12))), seeded())


@pytest.mark.parametrize("name", [name for name in INSTANCES if name not in REFUSE_NEW_LABELS])
def test_new_labels_are_learned(name, tmp_path):
    x, y = torch.randn(40, 3, generator=seeded()), torch.arange(40) % 3
    for world in ("plain", "classes"):
        known = source(world).n_classes
        model = short(name).fit(source(world), dg.Data(source=WORLDS[world].data.source, target=(x, y + known)), seeded())
        assert model.n_classes == known + 3 and set(model.prior.values.tolist()) == {known, known + 1, known + 2}
        assert torch.isfinite(dg.sample(model, 5, steps=3, generator=seeded())).all()


@pytest.mark.parametrize("name", [name for name in INSTANCES if name not in REFUSE_NEW_LABELS])
def test_classes_of_a_target_are_new_to_a_source_of_statements(name):
    x, y = torch.randn(40, 3, generator=seeded()), torch.arange(40) % 2
    known = source("multi-hot").n_classes
    model = short(name).fit(source("multi-hot"), dg.Data(source=WORLDS["multi-hot"].data.source, target=(x, y + known)), seeded())
    assert model.n_classes == known + 2 and set(model.prior.values.tolist()) == {known, known + 1}
    assert torch.isfinite(dg.sample(model, 5, steps=3, generator=seeded())).all()


@pytest.mark.parametrize("name", ["source", "finetune", "tgdp"])
def test_a_statement_by_its_index_is_the_row_of_it_alone(name):
    net, pool = copy.deepcopy(source("multi-hot")), WORLDS["multi-hot"].data.source
    net.prior = diffgraft.data.Prior.fit(pool.y[pool.y[:, 0] == 0])  # statement 0 is new, so that the source runs without a label there
    alone, none = torch.eye(net.n_classes), -torch.ones(net.n_classes)
    target = (torch.randn(40, 3, generator=seeded()), alone[torch.arange(40) % net.n_classes])
    model = short(name).fit(net, dg.Data(source=pool, target=target), seeded())
    by_index, by_row, without = (
        dg.sample(model, y=y, steps=3, generator=seeded()) for y in (torch.tensor([1, -1, 0]), torch.stack([alone[1], none, alone[0]]), none.expand(3, -1))
    )
    torch.testing.assert_close(by_index, by_row)
    assert not torch.equal(by_row[0], without[0])


@pytest.mark.parametrize("name", NEED_LABELS)
def test_methods_that_compare_labels_refuse_targets_without(name):
    with pytest.raises(BadData, match=f"{name} compares .* no labels; use"):
        INSTANCES[name]().fit(source("plain"), WORLDS["plain"].data, seeded())


@pytest.mark.parametrize("name", INSTANCES)
def test_source_data_may_be_absent(name, monkeypatch):
    monkeypatch.setattr("diffgraft.methods.start.STAND_IN", 50)
    for world in (world_for(name), "classes", "multi-hot"):
        model = short(name).fit(source(world), dg.Data(target=tuple(WORLDS[world].data.target)), seeded())
        assert torch.isfinite(dg.sample(model, 5, steps=3)).all()


def test_tgdp_starts_as_the_source_and_every_loss_moves_its_network():
    net, data = source("plain"), WORLDS["plain"].data
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    untrained = dg.methods.TGDP(steps=1, learning_rate=1e-30).fit(net, data, seeded())
    torch.testing.assert_close(untrained(x_t, t), net(x_t, t))


def test_tgdp_on_a_fine_tune_is_the_fine_tune_without_its_guidance():
    net, data = source("classes"), WORLDS["classes"].data
    tgdp = dg.methods.TGDP(base="finetune", steps=20).fit(net, data, seeded())
    x_t, t, y = torch.randn(7, 3), torch.full((7,), 0.3), torch.arange(7) % 3
    bare = reweighted(tgdp, 0.0)(x_t, t, y)
    assert torch.equal(bare, tgdp.base(x_t, t, y)) and not torch.allclose(bare, net(x_t, t, y)) and not torch.allclose(bare, tgdp(x_t, t, y))


def every_loss(guided, log_h, data):
    """Each loss of TGDP as a function of a draw, with ratios that are not flat."""
    source, target = data.source, data.target
    timed = LogRatio(Tilted(), guided.schedule)
    exact = WORLDS["plain"].truth.target if target.y is None else WORLDS["classes"].truth.target
    return {
        "guidance, eq. 8": lambda draw: guidance_term(log_h, CleanRatio(lambda x, y: x[:, 0]), source, draw),
        "cycle, eq. 13": lambda draw: cycle_term(log_h, timed, target, draw),
        "consistency, eq. 14": lambda draw: matching_loss(guided, target, draw),
        "smoothed target": lambda draw: PseudoTarget(target, exact).loss(guided, draw),
        "logistic": lambda draw: logistic_loss(*noised_logits(log_h, guided.schedule, source, target, draw)),
    }


class Tilted(torch.nn.Module):
    def forward(self, x, t, y=None):
        return x[:, 0]


class Flat(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, t, y=None):
        return torch.full((len(x),), self.value)


@pytest.mark.parametrize("world", ["plain", "classes"])
@pytest.mark.parametrize("loss", ["guidance, eq. 8", "cycle, eq. 13", "consistency, eq. 14", "smoothed target", "logistic"])
def test_every_loss_moves_the_guidance_network_and_leaves_the_source(loss, world):
    net, data = copy.deepcopy(source(world)).requires_grad_(False), WORLDS[world].data
    log_h = new_ratio(net, data.target, 0)
    guided = dg.Guided(net, dg.ratio_shift(log_h, net.schedule))
    value = every_loss(guided, log_h, data)[loss](Draw(0, 0, 32))
    assert value.shape == (32,)
    value.sum().backward()
    assert float(log_h.module.head.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("world", ["plain", "classes", "multi-hot", "images"])
def test_the_papers_objective_fits_any_data(world):
    model = dg.methods.TGDP(steps=12, objective="paper").fit(source(world), WORLDS[world].data, seeded())
    assert float(next(p for p in model.shift.log_h.module.get_submodule("head").parameters()).abs().sum()) > 0
    assert torch.isfinite(dg.sample(model, 5, steps=3, generator=seeded())).all()


def losses(**settings):
    """Builds the loss of a TGDP with these settings on fixed networks and data, and evaluates it on one draw."""
    data = WORLDS["plain"].data
    method, start = dg.methods.TGDP(steps=12, **settings), begin(source("plain"), data, seeded(), 0.2)
    log_h = new_ratio(start.source, start.train, 0)
    torch.nn.init.normal_(log_h.module.head.weight, generator=seeded())
    guided = dg.Guided(start.source, dg.ratio_shift(log_h, start.source.schedule))
    if method.objective == "paper":
        return paper_loss(method, guided, log_h, data.source, start, None, None)[0](Draw(0, 0, 16))
    return method._score_loss(guided, log_h, data.source, PseudoTarget(start.train))(Draw(0, 0, 16))


def test_ratios_that_no_float_holds_are_regressed_on_as_the_largest_that_one_does():
    data, net = WORLDS["plain"].data, source("plain")
    log_h = new_ratio(net, data.target, 0)
    huge = [CleanRatio(lambda x, y: torch.full((len(x),), 200.0)), LogRatio(Flat(200.0), net.schedule)]
    terms = guidance_term(log_h, huge[0], data.source, Draw(0, 0, 9)), cycle_term(log_h, huge[1], data.target, Draw(0, 0, 9))
    assert all(bool(torch.isfinite(term).all()) and float(term.detach().min()) > 1e16 for term in terms)


def test_the_papers_objective_is_the_weighed_sum_of_its_parts():
    parts = [losses(objective="paper", **{f"eta_{j}": float(j == k) for j in range(3)}) for k in range(3)]
    assert all(float((a - b).detach().abs().max()) > 1e-3 for a, b in itertools.combinations([*parts, torch.zeros(16)], 2))
    whole = losses(objective="paper", eta_0=2.0, eta_1=3.0, eta_2=5.0)
    torch.testing.assert_close(whole, 2 * parts[0] + 3 * parts[1] + 5 * parts[2])


def test_the_logistic_loss_is_weighed():
    none, one, three = (losses(augment="none", logistic=w) for w in (0.0, 1.0, 3.0))
    assert float((one - none).detach().abs().max()) > 1e-3
    torch.testing.assert_close(three - none, 3 * (one - none))


def test_fits_note_what_they_chose():
    stack = short("tgdp").fit(source("plain"), WORLDS["plain"].data, seeded()).notes
    assert sum(stack["stack"].values()) > 0.9 and stack["select_seconds"] > 0
    ratio = short("importance").fit(source("plain"), WORLDS["plain"].data, seeded()).notes["ratio"]
    assert {"auc", "effective_sample_size", "calibration", "bandwidth"} <= set(ratio)


def test_finetune_learns_from_the_pseudo_target():
    plain, smooth = (dg.methods.Finetune(steps=12, augment=kind).fit(source("plain"), WORLDS["plain"].data, seeded()) for kind in ("none", "pseudo-target"))
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    assert not torch.equal(plain(x_t, t), smooth(x_t, t))
    assert "stack" in smooth.notes and plain.notes == {}


def test_classifier_guidance_is_guided_by_a_probability():
    model = short("classifier_guidance").fit(source("plain"), WORLDS["plain"].data, seeded())
    assert model.shift.log_h.link == "log_c"
    assert float(model.shift.log_h(torch.randn(7, 3), torch.full((7,), 0.3)).max()) < 0


def test_two_denoisers_are_averaged_by_a_weight_of_one_half():
    a, b = source("plain"), short("finetune").fit(source("plain"), WORLDS["plain"].data, seeded())
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    torch.testing.assert_close(dg.Guided(a, dg.toward(b), 0.5)(x_t, t), (a(x_t, t) + b(x_t, t)) / 2)


def test_tgdp_network_is_conditional_where_labels_are_given():
    model = short("tgdp").fit(source("classes"), WORLDS["classes"].data, seeded())
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    torch.nn.init.normal_(model.shift.log_h.module.head.weight)
    assert not torch.equal(model.shift.log_h(x_t, t, torch.zeros(7).long()), model.shift.log_h(x_t, t, torch.ones(7).long()))


# Labels that the domains do not share


def test_labels_missing_in_the_target_are_never_sampled():
    data = WORLDS["classes"].data
    few = data.target.take(data.target.y == data.target.y[0])
    few = dg.data.Points(few.x.repeat(3, 1), few.y.repeat(3))
    model = short("tgdp").fit(source("classes"), dg.Data(source=tuple(data.source), target=tuple(few)), seeded())
    assert set(model.prior.draw(200, 0).tolist()) == {int(few.y[0])}


@pytest.mark.parametrize("name", ["tgdp", "classifier_guidance"])
def test_a_label_unknown_to_the_source_starts_from_its_unconditional_score(name, tmp_path):
    data = WORLDS["classes"].data
    y = torch.where(torch.arange(data.target.n) % 2 == 0, data.target.y, 7)
    net = source("classes")
    model = short(name).fit(net, dg.Data(source=tuple(data.source), target=(data.target.x, y)), seeded())
    x_t, t = torch.randn(5, 3), torch.full((5,), 0.3)
    torch.testing.assert_close(model.base(x_t, t, torch.full((5,), 7)), net(x_t, t, None))
    torch.testing.assert_close(model.base(x_t, t, torch.full((5,), 1)), net(x_t, t, torch.full((5,), 1)))
    assert 7 in model.prior.values.tolist()
    dg.save(model, tmp_path / "model")
    x = dg.sample(dg.load(tmp_path / "model"), y=torch.tensor([7, 1, 7]), steps=3, generator=seeded())
    torch.testing.assert_close(x, dg.sample(model, y=torch.tensor([7, 1, 7]), steps=3, generator=seeded()))


def test_a_source_without_labels_serves_a_labelled_target():
    data = WORLDS["classes"].data
    model = short("tgdp").fit(source("plain"), dg.Data(source=data.source.x, target=tuple(data.target)), seeded())
    y = data.target.y[:5]
    assert model.n_classes == int(data.target.y.max()) + 1
    assert torch.isfinite(dg.sample(model, y=y, steps=3, generator=seeded())).all()


def test_a_source_that_cannot_drop_a_label_is_refused():
    def needs_label(x_t, t, y):
        return x_t * y[:, None]

    stubborn = dg.Net(needs_label, dg.vp(), shape=(3,), n_classes=2)
    with pytest.raises(BadModel, match=r"knows no label '4', and cannot run without a label .* leave such samples out"):
        short("tgdp").fit(stubborn, dg.Data(source=torch.randn(20, 3), target=(torch.randn(9, 3), torch.full((9,), 4))), seeded())
    stubborn = dg.Net(lambda x_t, t, y: x_t * y[:, :1], dg.vp(), shape=(3,), n_classes=3)
    stubborn.layout = dg.data.Layout(labels=("NORM", "AFIB", "STE_"))
    stubborn.prior = dg.data.Prior.fit(torch.eye(3)[:2])
    with pytest.raises(BadModel, match="knows no label 'STE_', and"):
        short("tgdp").fit(stubborn, dg.Data(source=torch.randn(20, 3), target=(torch.randn(9, 3), torch.eye(3).repeat(3, 1))), seeded())


# Data at the limits


@pytest.mark.parametrize("name", [name for name in INSTANCES if name not in NEED_LABELS])
def test_awkward_targets_give_a_model_or_a_clear_line(name):
    g = torch.Generator().manual_seed(3)
    pool = torch.randn(60, 3, generator=g)
    constant, far = torch.randn(12, 3, generator=g), 50 + torch.randn(12, 3, generator=g)
    constant[:, 1] = 2.0
    targets = [constant, far, torch.randn(90, 3, generator=g), torch.zeros(12, 3)]
    targets += [] if name == "auto" else [torch.randn(2, 3, generator=g)]  # which has nothing to hold out, and says so
    for target in targets:
        model = short(name).fit(source("plain"), dg.Data(source=pool, target=target), seeded())
        assert torch.isfinite(dg.sample(model, 20, steps=3, generator=seeded())).all()
    with pytest.raises(BadData, match="at least 2 samples"):
        dg.Data(source=pool, target=pool[:1])


@pytest.mark.parametrize("method", [dg.methods.Importance(steps=12), dg.methods.TGDP(steps=12), dg.methods.TGDP(steps=150, objective="paper")])
def test_domains_that_hardly_overlap_are_warned_of(method):
    pool, far = torch.randn(60, 3, generator=seeded()), 50 + torch.randn(12, 3, generator=seeded())
    notes = method.fit(source("plain"), dg.Data(source=pool, target=far), seeded()).notes
    assert re.search("hardly overlap|100% of the target points lie where the source has none", notes["warnings"][0])
    assert "warnings" not in dg.methods.TGDP(steps=12).fit(source("plain"), dg.Data(source=pool, target=pool[:12] + 0.1), seeded()).notes


# Features that never vary


def with_constant(x, value):
    return torch.cat([x, torch.full((len(x), 1), value)], 1)


def test_a_constant_feature_comes_back_exactly():
    data = WORLDS["plain"].data
    pool = diffgraft.data.Points(with_constant(data.source.x, 4.2))
    net = pretrain(pool, 0, training=QUICK, settings={"width": 16})
    model = short("tgdp").fit(net, dg.Data(source=tuple(pool), target=with_constant(data.target.x, 4.2)), seeded())
    for m in (net, model):
        assert torch.equal(dg.sample(m, n=7, steps=3)[:, 3], torch.full((7,), 4.2))


@pytest.mark.parametrize("columns", [None, ("a", "b", "c", "pressure")])
def test_a_feature_that_only_the_target_varies_is_refused_by_name(columns):
    data = WORLDS["plain"].data
    pool = diffgraft.data.Points(with_constant(data.source.x, 4.2))
    net = pretrain(pool, 0, training=replace(QUICK, steps=2), settings={"width": 16})
    net.layout = diffgraft.data.Layout(columns=columns)
    with pytest.raises(BadData, match=rf"{'pressure' if columns else 'feature 3'} is 4.2 throughout the source, but not in the target"):
        short("finetune").fit(net, dg.Data(source=tuple(pool), target=with_constant(data.target.x, 4.3)), seeded())
