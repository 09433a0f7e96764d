"""The family around TGDP: two-model guidance, guidance learned into one network, ratios in parts. Each against a closed form."""

import math
from dataclasses import replace

import pytest
import torch

import diffgraft as dg
from diffgraft.costs import counted_passes, trained_parameters
from diffgraft.data import Points
from diffgraft.denoise import Denoiser
from diffgraft.draw import Draw
from diffgraft.errors import BadData, BadModel, BadPlan
from diffgraft.fit import Training, train
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.guide import Steered, interval, reweighted
from diffgraft.methods import auto
from diffgraft.methods.cep import contrastive
from diffgraft.methods.control import control_loss, drawn_weights, unguided_loss
from diffgraft.methods.lead import guided_by_source, limited
from diffgraft.methods.offset import matched_strength, offset_loss, own_strength
from diffgraft.methods.start import begin
from diffgraft.methods.telescoping import telescoping_loss
from diffgraft.nets.adapters import WithoutAdapter
from diffgraft.nets.catalog import build, ratio_net, steered
from diffgraft.particles import effective_share, grouped, systematic
from diffgraft.pretrain import pretrain
from diffgraft.ratio import LogRatio
from diffgraft.samplers import Grid
from diffgraft.sharpness import sharpness_warning, widest

QUICK = Training(steps=30, batch_size=32, warmup=5)
WORLD = dg.tasks.mixtures.hard(11, dim=3, n_components=5, labels="classes", n_source=200)
SOURCE = pretrain(WORLD.data.source, 0, training=QUICK, settings={"width": 16})
TWO_MODELS = ("DomainGuidance", "ClassifierFree", "Autoguidance")


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


def gaussian(mean, variance, dim=1):
    mean, cov = torch.full((1, dim), float(mean), dtype=torch.float64), variance * torch.eye(dim, dtype=torch.float64)[None]
    return Mixture(torch.ones(1, dtype=torch.float64), mean, cov)


def denoiser(mean, variance, dim=1, schedule=None):
    return MixtureDenoiser(gaussian(mean, variance, dim), schedule or dg.vp())


def calls(model):
    """Counts the calls of a model."""
    seen = []
    model.register_forward_hook(lambda *args: seen.append(1))
    return seen


# Two models, one weight


@pytest.mark.parametrize("name", TWO_MODELS)
def test_a_weight_of_one_is_the_tuned_network_alone_and_zero_the_guide(name):
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    model = getattr(dg.methods, name)(steps=12, weight=1.0).fit(SOURCE, WORLD.data, seeded())
    base, tuned = calls(model.base), calls(model.shift.tuned)
    assert torch.equal(model(x_t, t, y), model.shift.tuned(x_t, t, y)) and not base
    tuned.clear()
    zero = reweighted(model, 0.0)
    assert torch.equal(zero(x_t, t, y), model.base(x_t, t, y))
    assert not tuned or name == "ClassifierFree"  # it has one network in both places
    twice = reweighted(model, 2.0)(x_t, t, y)
    torch.testing.assert_close(twice, 2 * model.shift.tuned(x_t, t, y) - model.base(x_t, t, y))


def test_domain_guidance_starts_from_the_source_without_its_label():
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    model = dg.methods.DomainGuidance(steps=12, weight=0.0).fit(SOURCE, WORLD.data, seeded())
    assert torch.equal(model(x_t, t, y), SOURCE(x_t, t, None)) and not torch.equal(model(x_t, t, y), SOURCE(x_t, t, y))


def test_domain_guidance_tunes_as_finetune_does():
    tuned = dg.methods.Finetune(steps=12).fit(SOURCE, WORLD.data, seeded())
    led = dg.methods.DomainGuidance(steps=12).fit(SOURCE, WORLD.data, seeded())
    assert all(torch.equal(a, b) for a, b in zip(tuned.parameters(), led.shift.tuned.parameters(), strict=True))


@pytest.mark.parametrize("name", TWO_MODELS)
def test_outside_its_interval_a_method_takes_one_pass(name):
    schedule = SOURCE.schedule
    model = getattr(dg.methods, name)(steps=12, weight=3.0, interval=[-1.0, 1.0]).fit(SOURCE, WORLD.data, seeded())
    x_t, y, base = torch.randn(7, 3, generator=seeded()), torch.arange(7) % SOURCE.n_classes, calls(model.base)
    for log_snr, inside in ((-3.0, False), (0.0, True), (3.0, False)):
        base.clear()
        t = schedule.time_at(torch.tensor(log_snr)).expand(7)
        assert torch.equal(model(x_t, t, y), model.shift.tuned(x_t, t, y)) != inside and bool(base) == inside


@pytest.mark.parametrize("bounds", [[1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 1.0, 2.0]])
def test_an_interval_has_two_bounds_in_order(bounds):
    with pytest.raises(BadPlan, match="two bounds in log-SNR"):
        limited(1.5, bounds)


def scaled(c):
    return lambda x_t, t: c * x_t


def test_guidance_covers_every_channel():
    a, b = (dg.Net(scaled(c), dg.vp(), "x0", shape=(4, 5, 3)) for c in (1.0, 2.0))
    x_t = torch.ones(2, 4, 5, 3)
    assert torch.equal(guided_by_source(a, b, 1.0)(x_t, torch.tensor(0.5)), 2 * x_t)
    assert torch.equal(dg.Guided(a, dg.toward(b), 3.0)(x_t, torch.tensor(0.5)), 4 * x_t)


def test_two_models_of_different_spaces_are_refused():
    a, b = (dg.Net(lambda x_t, t: x_t, dg.vp(), shape=shape) for shape in ((3,), (4,)))
    with pytest.raises(BadModel, match=r"one shape, got \(3,\) and \(4,\)"):
        guided_by_source(a, b, 1.5)
    b = dg.Net(lambda x_t, t: x_t, dg.vp(), shape=(3,))
    b.transform = dg.Transform(torch.tensor(1.0), torch.tensor(2.0))
    with pytest.raises(BadModel, match="standardise their data differently"):
        guided_by_source(a, b, 1.5)


def test_a_source_that_cannot_drop_its_label_is_refused():
    stubborn = dg.Net(lambda x_t, t, y: x_t * y[:, None], dg.vp(), shape=(3,), n_classes=2)
    with pytest.raises(BadModel, match="must run without a label"):
        guided_by_source(stubborn.like(SOURCE), SOURCE, 1.0)


def test_models_under_two_schedules_are_brought_to_one():
    p, q = denoiser(0, 1, schedule=dg.rectified()), denoiser(1, 0.25)
    p.shape = q.shape
    model = guided_by_source(p, q, 0.0)
    x_t, t = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], torch.tensor(0.4, dtype=torch.float64)
    torch.testing.assert_close(model(x_t, t), denoiser(0, 1)(x_t, t), rtol=1e-9, atol=1e-9)


# Few parameters


@pytest.mark.parametrize("name", ["LoRA", "DiffFit"])
def test_few_parameters_start_as_the_source(name):
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    still = getattr(dg.methods, name)(steps=1, learning_rate=1e-30).fit(SOURCE, WORLD.data, seeded())
    assert torch.equal(still(x_t, t, y), SOURCE(x_t, t, y))
    moved = getattr(dg.methods, name)(steps=12, held_out=0.0).fit(SOURCE, WORLD.data, seeded())
    assert not torch.equal(moved(x_t, t, y), SOURCE(x_t, t, y))
    assert 0 < trained_parameters(moved, SOURCE) < sum(p.numel() for p in SOURCE.parameters())


def test_a_low_rank_fine_tune_keeps_the_source_inside():
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    moved = dg.methods.LoRA(steps=12, held_out=0.0).fit(SOURCE, WORLD.data, seeded())
    assert torch.equal(WithoutAdapter(moved)(x_t, t, y), SOURCE(x_t, t, y))
    moved(x_t, t, y)  # on again
    assert not torch.equal(moved(x_t, t, y), SOURCE(x_t, t, y))
    changes = [m.weight - m.parametrizations.weight.original for m in moved.module.modules() if hasattr(m, "parametrizations")]
    assert max(int(torch.linalg.matrix_rank(c)) for c in changes) <= 8


def test_a_merged_lora_is_the_same_function_without_an_adapter(tmp_path):
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    moved, merged = (dg.methods.LoRA(steps=12, held_out=0.0, merge=merge).fit(SOURCE, WORLD.data, seeded()) for merge in (False, True))
    torch.testing.assert_close(merged(x_t, t, y), moved(x_t, t, y))
    assert {name: p.shape for name, p in merged.named_parameters()} == {name: p.shape for name, p in SOURCE.named_parameters()}
    dg.save(merged, tmp_path / "m")
    assert torch.equal(dg.load(tmp_path / "m")(x_t, t, y), merged(x_t, t, y))


def test_domain_guidance_by_a_low_rank_fine_tune_holds_one_set_of_weights(tmp_path):
    x_t, t, y = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % SOURCE.n_classes
    model = dg.methods.DomainGuidance(steps=12, tune="lora", rank=2, weight=2.0, held_out=0.0).fit(SOURCE, WORLD.data, seeded())
    size = sum(p.numel() for p in SOURCE.parameters())
    assert size < sum(p.numel() for p in model.parameters()) < 1.5 * size
    assert torch.equal(reweighted(model, 0.0)(x_t, t, y), SOURCE(x_t, t, None))
    torch.testing.assert_close(model(x_t, t, y), 2 * model.shift.tuned(x_t, t, y) - SOURCE(x_t, t, None))
    dg.save(model, tmp_path / "m")
    again = dg.load(tmp_path / "m")
    assert torch.equal(again(x_t, t, y), model(x_t, t, y)) and sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in model.parameters())
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == 2  # one network, one transform


@pytest.mark.parametrize("tune", ["lora", "finetune"])
def test_new_labels_are_led_by_the_source_as_it_was(tune, tmp_path):
    x_t, t, k = torch.randn(6, 3, generator=seeded()), torch.full((6,), 0.3), SOURCE.n_classes
    data = dg.Data(source=WORLD.data.source, target=(WORLD.data.target.x, WORLD.data.target.y + k))
    model = dg.methods.DomainGuidance(steps=40, tune=tune, weight=2.0, held_out=0.0).fit(SOURCE, data, seeded())
    a, b = (torch.full((6,), label) for label in (k, k + 1))
    for label in (a, b):
        assert torch.equal(reweighted(model, 0.0)(x_t, t, label), SOURCE(x_t, t, None))
    tuned = model.shift.tuned
    assert tuned.n_classes > k and not torch.allclose(tuned(x_t, t, a), tuned(x_t, t, b))
    dg.save(model, tmp_path / "m")
    assert torch.equal(dg.load(tmp_path / "m")(x_t, t, a), model(x_t, t, a))


def test_a_network_without_plain_layers_takes_no_adapter():
    net = dg.Net(torch.nn.PReLU(), dg.vp(), shape=(3,))
    for name in ("LoRA", "DiffFit"):
        with pytest.raises(BadModel, match="use finetune"):
            getattr(dg.methods, name)(steps=12).fit(net, dg.Data(source=torch.randn(20, 3), target=torch.randn(9, 3)), seeded())


# More labels, fewer labels, the source's own points


def test_a_new_label_begins_as_no_label():
    x_t, t, k = torch.randn(6, 3, generator=seeded()), torch.full((6,), 0.3), SOURCE.n_classes
    target = (WORLD.data.target.x, WORLD.data.target.y + k)
    still = dg.methods.Finetune(steps=1, learning_rate=1e-30).fit(SOURCE, dg.Data(source=WORLD.data.source, target=target), seeded())
    assert still.n_classes == k + int(WORLD.data.target.y.max()) + 1
    assert torch.equal(still(x_t, t, torch.full((6,), k)), SOURCE(x_t, t, None)) and torch.equal(still(x_t, t, None), SOURCE(x_t, t, None))
    for label in range(k):
        assert torch.equal(still(x_t, t, torch.full((6,), label)), SOURCE(x_t, t, torch.full((6,), label)))


def test_a_network_of_the_users_own_gets_no_new_labels():
    net = dg.Net(torch.nn.Bilinear(3, 1, 3), dg.vp(), shape=(3,))
    net.module.forward = lambda x_t, t: x_t
    with pytest.raises(BadModel, match="more labels than the 0 that it knows"):
        dg.methods.Finetune(steps=2).fit(net, dg.Data(source=torch.randn(20, 3), target=(torch.randn(9, 3), torch.zeros(9))), seeded())


def test_rehearsal_mixes_source_points_in():
    method = dg.methods.Finetune(rehearsal=0.25)
    start = begin(SOURCE, WORLD.data, seeded(), 0.0, new_labels=True)
    mixed = method._rehearsed(start, WORLD.data)
    own = (mixed.x[:, None] == start.train.x).all(-1).any(1)
    assert mixed.n == 10_000 and float(own.double().mean()) == 0.75 and len(mixed.y) == mixed.n
    plain, rehearsed = (dg.methods.Finetune(steps=12, rehearsal=r).fit(SOURCE, WORLD.data, seeded()) for r in (0.0, 0.5))
    assert not torch.equal(weights(plain), weights(rehearsed))
    with pytest.raises(BadPlan, match="a share of source points"):
        dg.methods.Finetune(rehearsal=1.0).fit(SOURCE, WORLD.data, seeded())


def test_labels_are_dropped_as_often_as_asked():
    fits = [dg.methods.Finetune(steps=12, label_dropout=p).fit(SOURCE, WORLD.data, seeded()) for p in (0.0, 0.1, 1.0)]
    assert torch.equal(weights(fits[1]), weights(dg.methods.Finetune(steps=12).fit(SOURCE, WORLD.data, seeded())))
    assert not torch.equal(weights(fits[0]), weights(fits[1]))
    rows = [key for key in SOURCE.module.state_dict() if key.endswith("label.table.weight")]
    table, before = fits[2].module.state_dict()[rows[0]], SOURCE.module.state_dict()[rows[0]]
    assert torch.equal(table[:-1], before[:-1])  # no label was ever seen


# Where the guided density cannot be normalised


def test_the_widest_direction_is_found():
    g = seeded()
    a = torch.randn(20_000, 5, generator=g) * torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0])
    b = torch.randn(20_000, 5, generator=g) * torch.tensor([1.0, 2.0, 1.0, 1.0, 0.3])
    turn = torch.linalg.qr(torch.randn(5, 5, generator=g))[0]
    assert widest(a @ turn, b @ turn) == pytest.approx(4.0, rel=0.05)
    assert widest(a, a) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("variance", "weight", "warned"), [(4.0, 1.5, True), (4.0, 1.3, False), (4.0, 1.0, False), (0.25, 3.0, False), (1.7, 3.0, True)])
def test_a_weight_without_a_density_is_warned_of(variance, weight, warned):
    # N(0, v) ^ w / N(0, 1) ^ (w - 1) needs w / v > w - 1
    p, q = denoiser(0, 1, 2), denoiser(0, variance, 2)
    notes = sharpness_warning(p, q, weight)
    assert bool(notes) == warned == (weight > 1 and weight / variance <= (weight - 1))
    if warned:
        assert "use a weight below" in notes["warnings"][0]


# Guidance learned into one network


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["DogFit", "ModelGuidance"])
def test_at_a_weight_of_one_it_is_fine_tuning_step_for_step(name):
    tuned = dg.methods.Finetune(steps=12).fit(SOURCE, WORLD.data, seeded())
    learned = getattr(dg.methods, name)(steps=12, weight=1.0).fit(SOURCE, WORLD.data, seeded())
    assert torch.equal(weights(tuned), weights(learned))
    other = getattr(dg.methods, name)(steps=12, weight=1.5, **({"late": 0.0} if name == "DogFit" else {}), held_out=0.0).fit(SOURCE, WORLD.data, seeded())
    assert not torch.equal(weights(dg.methods.Finetune(steps=12, held_out=0.0).fit(SOURCE, WORLD.data, seeded())), weights(other))


class Line(Denoiser):
    """D = a x_t + b at one noise level."""

    def __init__(self, schedule):
        super().__init__(schedule, (1,))
        self.a, self.b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))

    def forward(self, x_t, t, y=None):
        return self.a * x_t + self.b


class AtOneTime(Draw):
    def times(self, schedule):
        return torch.full((self.batch_size,), 0.4)


@pytest.mark.parametrize(
    ("weight", "strength", "acts_like"), [(1.5, own_strength, 2.0), (1.25, own_strength, 1 / 0.75), (1.5, matched_strength, 1.5), (3.0, matched_strength, 3.0)]
)
def test_the_weight_that_an_offset_acts_like(weight, strength, acts_like):
    # the aim contains the network: D = D* + s (D - D_guide), so D = D_guide + (D* - D_guide) / (1 - s)
    source, target = denoiser(0, 1), denoiser(1, 0.25)
    x = gaussian(1, 0.25).sample(4000, 0).x.float()
    schedule, line = dg.vp(), Line(dg.vp())
    t = torch.tensor(0.4)
    guide = lambda x_t, t: source(x_t.double(), t.double()).float()  # noqa: E731
    loss = offset_loss(line, guide, Points(x), strength(weight))
    optimizer = torch.optim.SGD(line.parameters(), lr=0.3)
    for step in range(600):
        (loss(AtOneTime(0, step, 4000)).mean() / schedule.log_snr(t).exp()).backward()
        optimizer.step()
        optimizer.zero_grad()
    at = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    p, q = source(at, t.double()), target(at, t.double())
    found = ((line(at.float(), t).detach().double() - p) * (q - p)).sum() / ((q - p) ** 2).sum()
    assert float(found) == pytest.approx(acts_like, rel=0.06)


def test_an_offset_is_left_out_outside_its_bounds_and_where_the_label_is_dropped():
    model = dg.Net(lambda x_t, t, y: x_t, dg.vp(), "x0", shape=(3,), n_classes=2)
    pool = Points(torch.randn(50, 3, generator=seeded()), torch.ones(50, dtype=torch.int64))
    plain, led, never = (offset_loss(model, lambda x_t, t: 0 * x_t, pool, *s)(Draw(0, 0, 64)) for s in ((0.0,), (0.5,), (0.5, [90.0, 91.0])))
    assert torch.equal(plain, never) and not torch.equal(plain, led)
    dropped = Draw(0, 0, 64).drop(pool.y[:1].expand(64), 0.1) < 0
    assert dropped.any() and torch.equal(plain[dropped], led[dropped])


def test_weights_that_cannot_be_learned_are_refused():
    with pytest.raises(BadPlan, match=r"must lie in \(0, 2\), got 2"):
        dg.methods.DogFit(weight=2.0, matched=False).fit(SOURCE, WORLD.data, seeded())
    with pytest.raises(BadPlan, match="above 0"):
        dg.methods.DogFit(weight=0.0).fit(SOURCE, WORLD.data, seeded())


# Guidance learned at every weight


def control(source=SOURCE, data=WORLD.data, **settings):
    return dg.methods.DogFit(**{"steps": 12, "control": True, **settings}).fit(source, data, seeded())


@pytest.mark.parametrize("world", ["classes", "images"])
def test_at_first_every_weight_is_the_source(world):
    images = dg.tasks.digits.label_shift(11)
    source = SOURCE if world == "classes" else dg.Net(build("unet", (1, 8, 8), dg.vp(), 10, width=8), dg.vp(), "v", (1, 8, 8)).eval()
    still = control(source, WORLD.data if world == "classes" else images.data, steps=1, learning_rate=1e-30)
    x_t, t, y = torch.randn(7, *source.shape, generator=seeded()), torch.full((7,), 0.3), torch.arange(7) % source.n_classes
    for w in (1.0, 1.5, 4.0):
        assert torch.equal(reweighted(still, w)(x_t, t, y), source(x_t, t, y))


class SteeredLine(Line):
    """D = a x_t + b + (w - 1) (c x_t + d)."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.c, self.d = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))

    def forward(self, x_t, t, y=None, w=None):
        plain = super().forward(x_t, t)
        return plain if w is None else plain + (w[:, None] - 1) * (self.c * x_t + self.d)


def acts_like(led, p, q):
    """The weight of the way from p to q that explains an answer best."""
    return float(((led - p) * (q - p)).sum() / ((q - p) ** 2).sum())


def test_a_weight_that_is_an_input_acts_like_itself():
    # an aim with the offset at its own weight, in place of that at 1, would compound: 2 where 1.5 is asked for, without end at 2
    source, target = denoiser(0, 1), denoiser(1, 0.25)
    x, schedule, line, t = gaussian(1, 0.25).sample(4000, 0).x.float(), dg.vp(), SteeredLine(dg.vp()), torch.tensor(0.4)
    loss = control_loss(line, lambda x_t, t: source(x_t.double(), t.double()).float(), Points(x))
    optimizer = torch.optim.SGD(line.parameters(), lr=0.3)
    for step in range(1500):
        (loss(AtOneTime(0, step, 4000)).mean() / schedule.log_snr(t).exp()).backward()
        optimizer.step()
        optimizer.zero_grad()
    at = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    p, q = source(at, t.double()), target(at, t.double())
    with torch.no_grad():
        found = [acts_like(line(at.float(), t, None, torch.full((5,), w)).double(), p, q) for w in (1.0, 1.5, 2.0)]
    assert found == pytest.approx([1.0, 1.5, 2.0], rel=0.06)


def test_one_network_learns_every_weight():
    g = seeded()
    source = pretrain(Points(torch.randn(4000, 1, generator=g)), 0, training=replace(QUICK, steps=300, batch_size=256), settings={"width": 32, "depth": 2})
    target = dg.Data(target=1 + torch.randn(4000, 1, generator=g) / 2)
    model = control(source, target, steps=2000, late=0.0, held_out=0.0, learning_rate=5e-3)
    x, t = torch.linspace(-1.5, 1.5, 50)[:, None], source.schedule.time_at(torch.tensor(0.0)).expand(50)
    p, q = source(x, t).detach(), reweighted(model, 1.0)(x, t)
    exact = denoiser(1, 0.25)(x.double(), t.double())
    assert float((q - exact).abs().mean()) < 0.25 * float((p - exact).abs().mean())
    found = [acts_like(reweighted(model, w)(x, t), p, q) for w in (1.5, 2.0, 3.0)]
    assert found == pytest.approx([1.5, 2.0, 3.0], rel=0.12)


def test_rows_at_a_weight_of_one_learn_as_in_fine_tuning():
    start = begin(SOURCE, WORLD.data, seeded(), 0.0)
    net = dg.Net(steered(SOURCE.module, SOURCE.schedule), SOURCE.schedule, shape=(3,))
    torch.nn.init.normal_(net.module.lead.weight, generator=seeded())
    draw, guide = Draw(0, 0, 256), lambda x_t, t: 0 * x_t
    plain, w = offset_loss(net, guide, start.train, 0.0)(draw), drawn_weights(draw)
    for loss in (control_loss(net, guide, start.train)(draw), unguided_loss(net, guide, start.train)(draw)):
        assert torch.equal(loss[w == 1], plain[w == 1]) and not torch.isclose(loss[w > 1], plain[w > 1]).all()


def test_weights_to_learn_from_are_one_for_a_half_and_rarely_above_two():
    w = drawn_weights(Draw(0, 0, 100_000))
    assert float((w == 1).double().mean()) == pytest.approx(0.5, abs=0.01) and float(w.min()) == 1
    above = w[w > 1]
    assert float(above.mean()) == pytest.approx(4 / 3, abs=0.01) and float((above > 2).double().mean()) == pytest.approx(math.exp(-3), abs=0.005)


def test_an_offset_of_any_weight_is_left_out_where_it_does_not_count():
    start = begin(SOURCE, WORLD.data, seeded(), 0.0)
    net = dg.Net(steered(SOURCE.module, SOURCE.schedule), SOURCE.schedule, shape=(3,))  # its answer is the same at every weight
    draw, guide = Draw(0, 5, 256), lambda x_t, t: 0 * x_t
    plain = offset_loss(net, guide, start.train, 0.0)(draw)
    for settings in (([90.0, 91.0],), (None, 6)):  # outside the interval, before it sets in
        assert torch.equal(control_loss(net, guide, start.train, *settings)(draw), plain)
    led, dropped = control_loss(net, guide, start.train, None, 5)(draw), draw.drop(draw.rows(start.train, "rows").y, 0.1) < 0
    assert dropped.any() and torch.equal(led[dropped], plain[dropped]) and not torch.equal(led, plain)


def test_what_a_network_amounts_to_without_its_guidance_is_judged():
    # a perfect answer at every weight is as good as the target's denoiser
    source, target = denoiser(0, 1), denoiser(1, 0.25)
    pool, draw = Points(gaussian(1, 0.25).sample(500, 0).x), Draw(0, -1, 256)

    class Perfect(Denoiser):
        def forward(self, x_t, t, y=None, w=None):
            p, q = source(x_t, t), target(x_t, t)
            return q if w is None else p + w[:, None] * (q - p)

    plain = offset_loss(target, source, pool, 0.0)(draw)
    torch.testing.assert_close(unguided_loss(Perfect(dg.vp(), (1,)), source, pool)(draw), plain, rtol=1e-4, atol=1e-4)


def test_a_weight_is_chosen_in_sampling_at_one_pass_and_kept_in_the_folder(tmp_path):
    model = control(held_out=0.0, late=0.0, weight=1.25)
    dg.save(model, tmp_path / "m")
    again = dg.load(tmp_path / "m")
    assert again.weight == model.weight == 1.25
    draws = {}
    for w in (None, 1.25, 1.5):
        with counted_passes(model) as passes:
            draws[w] = dg.sample(model, 7, steps=3, weight=w, generator=seeded())
        assert torch.equal(draws[w], dg.sample(again, 7, steps=3, weight=w, generator=seeded()))
        assert w is not None or passes(None) == 1
    assert torch.equal(draws[None], draws[1.25]) and not torch.equal(draws[1.25], draws[1.5])
    assert reweighted(model, 1.5).base is model.base


def test_outside_its_interval_a_learned_weight_is_one(tmp_path):
    model = control(held_out=0.0, late=0.0, weight=2.0, interval=[-1.0, 1.0])
    dg.save(model, tmp_path / "m")
    x_t, y = torch.randn(3, 3, generator=seeded()), torch.zeros(3, dtype=torch.int64)
    t = SOURCE.schedule.time_at(torch.tensor([-3.0, 0.0, 3.0]))
    one, two = (reweighted(model, w)(x_t, t, y) for w in (1.0, 2.0))
    for kept in (model, dg.load(tmp_path / "m"), reweighted(model, interval(2.0, -1.0, 1.0))):
        assert torch.equal(kept(x_t, t, y), torch.stack([one[0], two[1], one[2]]))
    assert not torch.equal(one[0], two[0])  # a bare weight holds everywhere


def test_a_fit_at_every_weight_resumes_to_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def until(progress):
        if progress.step >= 600:
            raise Stop

    method, data = dg.methods.DogFit(control=True, steps=700, batch_size=16, held_out=0.0), WORLD.data
    whole = method.fit(SOURCE, data, seeded())
    with pytest.raises(Stop):
        method.fit(SOURCE, data, seeded(), watch=until, folder=tmp_path)
    steps = []
    again = method.fit(SOURCE, data, seeded(), watch=lambda p: steps.append(p.step), folder=tmp_path)
    assert steps[0] > 500 and torch.equal(weights(whole), weights(again))


def test_weights_that_were_not_learned_are_refused():
    model = control()
    for weight in (0.5, float("nan"), interval(0.5, -1.0, 1.0), interval(2.0, -1.0, 1.0, 0.0)):
        with pytest.raises(BadPlan, match="learned weights from 1 on, got"):
            dg.sample(model, 3, steps=2, weight=weight)
    with pytest.raises(BadPlan, match=r"from 1 on, got 0\.9"):
        control(weight=0.9)
    with pytest.raises(BadPlan, match="drop matched=false, or control=true"):
        control(matched=False)
    with pytest.raises(BadModel, match="takes no guidance weight"):
        Steered(SOURCE, 1.5)
    with pytest.raises(BadModel, match="needs a network of this package"):
        control(dg.Net(torch.nn.Bilinear(3, 1, 3), dg.vp(), shape=(3,)), dg.Data(target=torch.randn(9, 3)))


# Ratios


def test_contrastive_learning_ignores_a_factor_of_the_ratio_and_of_h():
    log_h = LogRatio(ratio_net((3,), dg.vp(), width=16), dg.vp())
    torch.nn.init.normal_(log_h.module.head.weight, generator=seeded())
    pool, draw = Points(torch.randn(90, 3, generator=seeded())), Draw(0, 0, 64)
    log_r = pool.x[:, 0]
    plain = contrastive(log_h, log_r, pool, draw, 16)
    torch.testing.assert_close(contrastive(log_h, log_r + 9, pool, draw, 16), plain)
    with torch.no_grad():
        log_h.module.head.bias += 5
    torch.testing.assert_close(contrastive(log_h, log_r, pool, draw, 16), plain)
    assert plain.shape == (64,) and not torch.allclose(contrastive(log_h, 2 * log_r, pool, draw, 16), plain)


def test_a_group_that_is_compared_shares_one_time():
    times = []

    def watched(x, t, y):
        times.append(t)
        return x[:, 0]

    contrastive(LogRatio(watched_module(watched), dg.vp()), torch.zeros(90), Points(torch.randn(90, 3)), Draw(0, 0, 64), 16)
    assert len(times[0].unique()) == 4 and all(len(group.unique()) == 1 for group in times[0].split(16))


def watched_module(f):
    class Watched(torch.nn.Module):
        def forward(self, x, t, y=None):
            return f(x, t, y)

    return Watched()


def test_bridges_add_up_to_the_log_ratio():
    net = ratio_net((3,), dg.vp(), n_out=4, width=16)
    log_h = LogRatio(net, dg.vp())
    torch.nn.init.normal_(net.head.weight, generator=seeded())
    x_t, t = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3)
    torch.testing.assert_close(log_h.each(x_t, t).sum(1), log_h(x_t, t))
    x_t.requires_grad_()
    torch.testing.assert_close(log_h.gradient(x_t, t), torch.autograd.grad(log_h(x_t, t).sum(), x_t)[0])


@pytest.mark.slow
def test_telescoping_beats_one_classifier_between_gaussians_20_nats_apart():
    # p = N(0, I), q = N(m, I) in 40 dimensions, KL = |m|^2 / 2 = 20; at t near 0 log r = m^T x - |m|^2 / 2
    dim, size = 40, math.sqrt(40 / 40)
    g = seeded()
    p, q = torch.randn(4000, dim, generator=g), size + torch.randn(4000, dim, generator=g)
    errors = {}
    for bridges in (1, 8):
        torch.manual_seed(0)
        log_h = LogRatio(ratio_net((dim,), dg.vp(), n_out=bridges, width=128), dg.vp())
        loss = telescoping_loss(log_h, Points(p), Points(q))
        for _ in train(log_h, loss, Training(steps=600, batch_size=256, learning_rate=2e-3), 0):
            pass
        t = torch.full((2000,), 0.05)
        alpha_t, sigma_t = dg.vp()(t[:1])
        x_t = alpha_t * (size + torch.randn(2000, dim, generator=seeded(1))) + sigma_t * torch.randn(2000, dim, generator=seeded(2))
        exact = (alpha_t * size * x_t).sum(1) - dim * (alpha_t * size) ** 2 / 2  # of N(alpha m, I) and N(0, I)
        with torch.no_grad():
            errors[bridges] = float((log_h(x_t, t) - exact).abs().mean())
    assert errors[8] < 0.5 * errors[1], errors


# Particles


def guided_line(weight):
    """From N(0, 1) beyond N(1, 1/4): the power density of weight 1.5 is N(1.0909, 0.1818)."""
    p, q = denoiser(0, 1), denoiser(1, 0.25)
    p.shape = q.shape = (1,)
    return dg.Guided(p, dg.toward(q), weight)


@pytest.mark.parametrize(("particles", "mean", "variance"), [(500, 1.0909, 0.1818), (None, 1.166, 0.157)])
def test_particles_sample_the_power_density_and_guidance_alone_does_not(particles, mean, variance):
    start = torch.randn(8000, 1, dtype=torch.float64, generator=seeded())
    trace = []
    x = dg.sample(guided_line(1.5), steps=1000, sampler="ddpm", particles=particles, x_start=start, generator=seeded(), trace=trace)
    assert float(x.mean()) == pytest.approx(mean, abs=0.012) and float(x.var()) == pytest.approx(variance, abs=0.008)
    assert len(trace) == (1000 if particles else 0) and all(0 < share <= 1 + 1e-9 for share in trace)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_at_the_ends_there_is_nothing_to_correct(weight):
    draws = [dg.sample(guided_line(weight), 64, steps=9, sampler="ddpm", particles=k, generator=seeded()) for k in (None, 16)]
    torch.testing.assert_close(draws[0].sort(0).values, draws[1].sort(0).values)


def test_particles_of_a_group_share_their_label():
    y = torch.tensor([0, 0, 0, 1, 1, 4, 4, 4, 4])
    assert [g.tolist() for g in grouped(y, 9, 3)] == [[0, 1, 2], [3, 4], [5, 6, 7], [8]]
    assert [g.tolist() for g in grouped(torch.eye(5)[y], 9, 3)] == [[0, 1, 2], [3, 4], [5, 6, 7], [8]]
    model = dg.methods.DomainGuidance(steps=12, weight=2.0).fit(SOURCE, WORLD.data, seeded())
    y = torch.randint(SOURCE.n_classes, (40,), generator=seeded())
    seen = {}
    model.shift.tuned.register_forward_hook(lambda module, args, out: seen.update(y=args[2]))
    x = dg.sample(model, 40, y=y, steps=4, sampler="ddpm", particles=8, generator=seeded())
    assert torch.equal(seen["y"].sort().values, seen["y"]) and x.shape == (40, 3)
    parts = [dg.sample(model, 40, y=y, steps=4, sampler="ddpm", particles=8, batch_size=b, generator=seeded()) for b in (40, 40)]
    assert torch.equal(*parts)


def test_a_start_stays_with_its_label():
    y = torch.randint(SOURCE.n_classes, (40,), generator=seeded())
    start, seen = y[:, None] + torch.zeros(40, 3), []
    model = dg.methods.DomainGuidance(steps=12, weight=2.0).fit(SOURCE, WORLD.data, seeded())
    model.shift.tuned.register_forward_hook(lambda module, args, out: seen.append((args[0], args[2])))
    dg.sample(model, y=y, x_start=start, steps=2, sampler="ddpm", particles=8, generator=seeded())
    x, y_seen = seen[0]
    assert torch.equal(x[:, 0].long(), y_seen)


def test_systematic_resampling_is_in_proportion():
    log_w = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log() + 700
    counts = sum(torch.bincount(systematic(log_w, u), minlength=4) for u in torch.linspace(0, 0.999, 1000).tolist())
    torch.testing.assert_close(counts / 4000, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=2e-3, rtol=0)
    assert effective_share(torch.zeros(7, dtype=torch.float64)) == pytest.approx(1)
    assert effective_share(torch.tensor([900.0, 0.0], dtype=torch.float64)) == pytest.approx(0.5)


def test_particles_where_they_make_no_sense_are_refused():
    for settings, kind, says in (
        ({"sampler": "dpmpp_2m", "particles": 8}, BadPlan, "sampler='ddpm'"),
        ({"sampler": "ddpm", "particles": 1}, BadData, "at least 2"),
    ):
        with pytest.raises(kind, match=says):
            dg.sample(guided_line(1.5), 8, **settings)
    with pytest.raises(BadModel, match="a plain network"):
        dg.sample(SOURCE, 8, sampler="ddpm", particles=4)


# Twisted particles: p = N(0, 1), q = N(1, 1/2)

P, Q = gaussian(0, 1), gaussian(1, 0.5)


def log_r(x, y=None):
    return Q.log_prob(x) - P.log_prob(x)


def learned(scale=1.0, target=Q):
    """log h of a target, its gradient off by a factor."""
    return lambda x_t, t, y=None: scale * (target.log_prob(x_t, *dg.vp()(t)) - P.log_prob(x_t, *dg.vp()(t)))


def twisted(log_h, weight=1.0, particles=1000, steps=100, n=8000, twist=log_r, **settings):
    model = dg.Guided(MixtureDenoiser(P, dg.vp()), dg.ratio_shift(log_h, dg.vp()), weight)
    start, known = torch.randn(n, 1, dtype=torch.float64, generator=seeded()), {"particles": particles, "twist": twist}
    return dg.sample(model, x_start=start, steps=steps, sampler="ddpm", generator=seeded(), **known, **settings)


def promised(weight, steps):
    """Mean and variance of p r^w, where p is what ancestral sampling with so many steps makes of the base: N(0, a bit less than 1)."""
    grid, none, one = Grid.log_snr(dg.vp(), steps), torch.zeros(1), torch.ones(1)
    v = 1.0
    for i in range(steps):
        v = float(grid.ancestral(i, one, grid.alpha[i] * one, none)) ** 2 * v + float(grid.ancestral(i, none, none, one)) ** 2
    precision = 1 / v + weight * (1 / 0.5 - 1)
    return weight / 0.5 / precision, 1 / precision


@pytest.mark.parametrize(
    ("log_h", "weight"),
    [
        (learned(0.7), 1.0),
        (learned(target=gaussian(0.5, 0.8)), 1.0),
        (learned(target=gaussian(1.6, 0.5)), 1.0),
        (learned(0.7), 0.5),
        (learned(), 2.0),
        (learned(), dg.interval(1.0, -1.0, 2.0)),
    ],
)
def test_twisted_particles_correct_a_wrong_ratio_and_guidance_alone_does_not(log_h, weight):
    w = weight if isinstance(weight, float) else 1.0
    mean, variance = promised(w, 100)
    x, plain = twisted(log_h, weight), twisted(log_h, weight, particles=None, twist=None)
    assert float(x.mean()) == pytest.approx(mean, abs=0.04) and float(x.var()) == pytest.approx(variance, abs=0.04)
    assert abs(float(plain.mean()) - mean) + abs(float(plain.var()) - variance) > 0.08


def test_twisted_particles_reach_the_target_as_steps_grow():
    x = twisted(learned(0.7), steps=800, n=6000)
    assert float(x.mean()) == pytest.approx(1, abs=0.03) and float(x.var()) == pytest.approx(0.5, abs=0.03)


def test_an_exact_ratio_leaves_twisted_particles_even():
    trace = []
    twisted(learned(), n=2000, trace=trace)
    assert min(trace) > 0.97 and len(trace) == 100
    twisted(learned(target=gaussian(1.6, 0.5)), n=2000, trace=trace)
    assert min(trace) < 0.7


def test_a_term_of_the_time_alone_is_no_matter():
    def shifted(x_t, t, y=None):
        return learned(0.7)(x_t, t) + 300 * t

    torch.testing.assert_close(twisted(shifted, n=500, particles=100), twisted(learned(0.7), n=500, particles=100))


def test_twisted_particles_are_the_same_for_equal_seeds():
    draws = [twisted(learned(0.7), n=600, particles=100, steps=9, batch_size=b) for b in (None, None, 600, 2000)]
    assert all(torch.equal(draws[0], x) for x in draws)


def test_where_the_ratio_is_zero_no_particle_stays():
    x = twisted(learned(0.0), n=4000, twist=lambda x, y: torch.where(x[:, 0] < 0, -torch.inf, 0.0))
    assert float(x.min()) >= 0 and float(x.mean()) == pytest.approx((2 / math.pi * promised(0, 100)[1]) ** 0.5, abs=0.04)
    trace = []
    x = twisted(learned(0.0), n=64, particles=16, steps=9, twist=lambda x, y: torch.full((len(x),), -torch.inf), trace=trace)
    assert torch.equal(x, twisted(learned(0.0), n=64, particles=None, twist=None, steps=9)) and trace[-1] == 0 and min(trace[:-1]) > 0.99


def test_twisted_particles_stay_within_their_label():
    sides = Mixture(torch.ones(2, dtype=torch.float64) / 2, torch.tensor([[-3.0], [3.0]]).double(), 0.1 * torch.ones(2, 1, 1).double(), torch.arange(2))
    model = dg.Guided(MixtureDenoiser(sides, dg.vp()), dg.ratio_shift(lambda x_t, t, y=None: 0 * x_t[:, 0], dg.vp()))
    model.transform = dg.Transform(torch.tensor(10.0), torch.tensor(2.0))
    y, seen = torch.randint(2, (600,), generator=seeded()), []

    def one_sided(x, y):
        seen.append((x[:, 0], y))
        return 50.0 * y

    x = dg.sample(model, y=y, steps=50, sampler="ddpm", particles=100, twist=one_sided, generator=seeded())[:, 0]
    assert torch.equal((x > 10).long(), y)
    assert len(seen) == 1 and torch.equal((seen[0][0] > 10).long(), seen[0][1])  # in data units, beside its label


def test_a_twist_where_it_makes_no_sense_is_refused():
    for given, kind, says in (
        ({"particles": None}, BadPlan, "pass particles=500"),
        ({"twist": lambda x, y: x}, BadModel, r"log r must have one value a sample, \(64,\), got \(64, 1\)"),
        ({"twist": lambda x, y: torch.full((len(x),), torch.nan)}, BadModel, "w log r must be below infinity, got nan"),
        ({"log_h": lambda x_t, t, y=None: -torch.inf + 0 * x_t[:, 0]}, BadModel, "w log h must be finite, got -inf"),
    ):
        with pytest.raises(kind, match=says):
            twisted(**{"log_h": learned(), "n": 64, "particles": 8, "steps": 3, **given})
    with pytest.raises(BadModel, match="guided by a second network"):
        dg.sample(guided_line(1.0), 8, sampler="ddpm", particles=4, twist=log_r)


# auto


def test_auto_takes_what_explains_held_out_points_best(monkeypatch):
    # the target is the source, drawn again: nothing fitted to 30 points does better
    monkeypatch.setattr(auto, "CANDIDATES", {name: auto.CANDIDATES[name] for name in ("scratch", "source")})
    monkeypatch.setattr(auto, "LIKELIHOOD_STEPS", 10)
    plain = dg.tasks.mixtures.hard(11, dim=3, n_components=5, n_source=2000)
    net = pretrain(plain.data.source, 0, training=Training(steps=300, batch_size=128, warmup=5), settings={"width": 32})
    same, moved = plain.data.source.take(torch.arange(30)), plain.data.target
    seen = []
    model = dg.methods.Auto(effort=0.03).fit(net, dg.Data(source=plain.data.source, target=same), seeded(), watch=seen.append)
    assert model.notes["chosen"] == "source" and "source explains target points that it has not seen best" in model.notes["why"]
    assert [p.step for p in seen if p.stage == "comparing"] == [1, 2]
    x_t, t = torch.randn(7, 3, generator=seeded()), torch.full((7,), 0.3)
    assert torch.equal(model(x_t, t), net(x_t, t))
    # far away the source explains nothing
    far = dg.Data(source=plain.data.source, target=Points(moved.x[:11] + 30))
    assert dg.methods.Auto(effort=0.03).fit(net, far, seeded()).notes["chosen"] == "scratch"


def test_auto_scores_every_point_by_a_fit_that_has_not_seen_it(monkeypatch):
    seen = []

    class Spy:
        def fit(self, source, data, generator=None, **_):
            seen.append(data.target.x)
            return source

    monkeypatch.setattr(auto, "CANDIDATES", {"spy": Spy(), "twin": Spy()})
    monkeypatch.setattr(auto, "explained", lambda model, held_out, seed: held_out.x[:, 0].double())
    data = dg.Data(target=torch.arange(22.0).reshape(11, 2))
    source = dg.Net(lambda x_t, t: x_t, dg.vp(), shape=(2,))
    scores, _ = dg.methods.Auto()._compared(source, data, 0, None)
    assert torch.equal(scores["spy"], data.target.x[:, 0].double())
    assert [len(x) for x in seen] == [7, 7, 7, 7, 8, 8] and all(len(torch.cat([x, data.target.x]).unique(dim=0)) == 11 for x in seen)


def test_nobody_is_in_two_folds(monkeypatch):
    monkeypatch.setattr(auto, "LIKELIHOOD_STEPS", 2)
    n = WORLD.data.target.n
    for owners in ([str(k // 2) for k in range(n)], [str(k % 3) for k in range(n)], ["one"] * n):
        data = dg.Data(source=WORLD.data.source, target=WORLD.data.target, owners=owners)
        folds = auto._folds(data, 3, 0)
        assert sorted(torch.cat(folds).tolist()) == list(range(n)) and len(folds) == 3
        whose = [{owners[row] for row in fold.tolist()} for fold in folds]
        assert len(set(owners)) == 1 or sum(map(len, whose)) == len(set(owners))
        assert auto.is_shifted(SOURCE, data, 0) in (True, False)
    for whose in (["one"] * (n - 1) + ["two"], [str(k % 3) for k in range(n)]):
        data = dg.Data(source=WORLD.data.source, target=WORLD.data.target, owners=whose)
        assert dg.methods.Auto(effort=0.005, folds=2).fit(SOURCE, data, seeded()).notes["chosen"]


def test_candidates_that_refuse_the_data_do_not_compete(monkeypatch):
    # labels that the source does not know: no source point bears them
    refuses = {"time_ratio_weighted": dg.methods.TimeRatioWeighted()}
    monkeypatch.setattr(auto, "CANDIDATES", {**refuses, "tgdp": auto.CANDIDATES["tgdp"]})
    monkeypatch.setattr(auto, "LIKELIHOOD_STEPS", 2)
    target = (WORLD.data.target.x, WORLD.data.target.y + SOURCE.n_classes)
    model = dg.methods.Auto(effort=0.005, folds=2).fit(SOURCE, dg.Data(source=WORLD.data.source, target=target), seeded())
    assert model.notes["chosen"] == "tgdp"
    monkeypatch.setattr(auto, "CANDIDATES", refuses)
    with pytest.raises(BadData, match="go up to"):
        dg.methods.Auto(effort=0.005, folds=2).fit(SOURCE, dg.Data(source=WORLD.data.source, target=target), seeded())


def test_who_falls_clearly_behind_drops_out_after_enough_points():
    noise, unseen = torch.randn(40, generator=seeded(), dtype=torch.float64), torch.full((20,), torch.nan, dtype=torch.float64)
    best, level, behind = (torch.cat([values, unseen]) for values in (noise, noise + 0.1 * noise.flip(0), noise - 0.5))
    scores = {"behind": behind, "best": best, "level": level}
    assert auto.still_racing(list(scores), scores) == ["best", "level"]
    early = {name: torch.where(torch.arange(60) < 9, values, torch.nan) for name, values in scores.items()}
    assert auto.still_racing(list(early), early) == list(early)


def test_what_auto_says_tells_who_dropped_out():
    a, b = torch.zeros(12, dtype=torch.float64), torch.full((12,), -1.0, dtype=torch.float64)
    b[5:] = torch.nan
    data = dg.Data(target=torch.zeros(12, 2))
    assert auto.why("a", "a", {"b": b, "a": a}, data, True).endswith("in nats: a 0, b -1 (behind by 1 +- 0, dropped after 5 points)")
    lucky = b + 2  # on its first points, and then it fell behind
    assert "b 1 (behind by -1 +- 0, dropped after 5 points)" in auto.why("a", "a", {"b": lucky, "a": a}, data, True)
    assert auto.why("b", "a", {"b": a - 0.1, "a": a}, data, False).startswith(
        "b is level with a, which explains unseen target points best; no classifier tells"
    )


def test_of_candidates_that_scores_do_not_tell_apart_the_one_best_on_average_is_taken():
    noise = torch.randn(30, generator=seeded(), dtype=torch.float64)
    other = noise.flip(0) - noise.mean()
    scores = {"scratch": noise + 0.05, "tgdp": 0.9 * noise.flip(0), "finetune": noise - 1.0, "source": noise + 0.049 + 0.1 * other}
    left = auto.still_racing(list(scores), scores)
    assert left == ["scratch", "tgdp", "source"] and auto.leading(left, scores) == "scratch"
    assert auto.preferred(left, shifted=True) == "tgdp" and auto.preferred(left, shifted=False) == "source"
    assert auto.preferred(["own", "scratch"], shifted=False) == "scratch" and auto.preferred(["own"], shifted=True) == "own"


def test_a_change_of_label_frequencies_alone_is_no_shift():
    world = dg.tasks.digits.label_shift(n_target=60)
    net = pretrain(world.data.source, 0, training=Training(steps=2, batch_size=16, warmup=1), settings={"width": 8})
    assert not auto.is_shifted(net, world.data, 0)
    moved = dg.Data(source=tuple(world.data.source), target=(world.data.target.x.flip(3), world.data.target.y))
    assert auto.is_shifted(net, moved, 0)
    same = dg.Data(source=torch.randn(2000, 2, generator=seeded()), target=torch.randn(60, 2, generator=seeded(1)))
    plain = dg.Net(lambda x_t, t: x_t, dg.vp(), shape=(2,))
    assert not auto.is_shifted(plain, same, 0) and auto.is_shifted(plain, dg.Data(source=same.source.x, target=same.target.x + 1), 0)


def test_auto_needs_points_to_hold_out():
    with pytest.raises(BadData, match="holds out each of 3 folds"):
        dg.methods.Auto().fit(SOURCE, dg.Data(target=torch.zeros(5, 3)), seeded())
    with pytest.raises(BadPlan, match="share of training steps"):
        dg.methods.Auto(effort=2.0).fit(SOURCE, dg.Data(target=torch.zeros(9, 3)), seeded())
