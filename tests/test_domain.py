"""Clean domain classifiers: the exact ratio where it is known, weights taken out, tails clipped."""

import math

import numpy as np
import pytest
import torch

import diffgraft as dg
from diffgraft import domain
from diffgraft.data import Points
from diffgraft.domain import CleanRatio, effective_sample_size, kernel_ratio, lent_ratio, net_ratio, resampled
from diffgraft.fit import Training
from diffgraft.nets.catalog import ratio_net
from diffgraft.ratio import LogRatio


def line(mean, n, seed):
    return Points(mean + torch.randn(n, 1, generator=torch.Generator().manual_seed(seed)))


AT = torch.linspace(-1.5, 2.5, 9)[:, None]
EXACT = AT[:, 0] - 0.5
"""log N(x; 1, 1) - log N(x; 0, 1)"""


@pytest.mark.parametrize("weight", [0.03, 0.3, 1.0])
def test_the_kernel_ratio_is_the_exact_one_whatever_the_weights(weight):
    ratio = kernel_ratio(line(0.0, 4000, 0), line(1.0, 4000, 1), 0, weight=weight)
    assert float((ratio(AT) - EXACT).abs().max()) < 0.35
    assert abs(float((ratio(AT) - EXACT).mean())) < 0.12


def test_the_net_ratio_is_the_exact_one():
    torch.manual_seed(0)
    net = LogRatio(ratio_net((1,), dg.vp(), width=32, depth=2), dg.vp())
    ratio = net_ratio(net, line(0.0, 4000, 0), line(1.0, 1000, 1), Training(steps=300, batch_size=256, learning_rate=3e-3), 0)
    assert float((ratio(AT) - EXACT).abs().max()) < 0.4


def test_the_correction_takes_the_training_weights_out():
    # a classifier of q with weight 3 against p with weight 1 has the logit log 3 q / p
    ratio = CleanRatio(lambda x, y: x[:, 0] + math.log(3), math.log(1 / 3))
    torch.testing.assert_close(ratio(AT), AT[:, 0])


def test_log_r_is_clipped_at_its_largest_value_on_the_target():
    ratio = CleanRatio(lambda x, y: x[:, 0]).clipped(Points(torch.tensor([[0.0], [9.0]])), Points(torch.tensor([[2.0], [1.0]])))
    assert ratio(torch.tensor([[5.0], [1.5]])).tolist() == [2.0, 1.5]
    r = torch.tensor([1.0, math.e**2])
    assert ratio.notes["effective_sample_size"] == pytest.approx(float(r.sum() ** 2 / (r**2).sum()), abs=0.06)


def test_effective_sample_size():
    assert effective_sample_size(torch.full((11,), -700.0)) == pytest.approx(11)
    assert effective_sample_size(torch.tensor([800.0, 0.0, 0.0])) == pytest.approx(1)
    log_r = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()
    assert effective_sample_size(log_r) == pytest.approx(float(log_r.exp().sum() ** 2 / (2 * log_r).exp().sum()))


def test_a_calibrated_classifier_lies_on_the_diagonal():
    probability = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    truth = torch.rand(20_000, generator=torch.Generator().manual_seed(1)) < probability
    rows = domain.calibration(probability, truth)
    assert len(rows) == 10 and sum(n for _, _, n in rows) == 20_000
    assert max(abs(mean - share) for mean, share, _ in rows) < 0.03


def test_held_out_scores_are_noted():
    notes = kernel_ratio(line(0.0, 600, 0), line(1.0, 150, 1), 0).notes
    assert notes["auc"] == pytest.approx(0.76, abs=0.05)  # Phi(1 / sqrt 2)
    assert 1 < notes["effective_sample_size"] < 600 and notes["bandwidth"] > 0
    assert max(abs(mean - share) for mean, share, _ in notes["calibration"]) < 0.2


def test_equal_domains_give_a_flat_ratio():
    ratio = kernel_ratio(line(0.0, 2000, 0), line(0.0, 2000, 1), 0, weight=1.0)
    assert float(ratio(AT[2:6]).abs().max()) < 0.3


def test_labels_count():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(2, (3000,), generator=g)
    source, target = (Points(torch.randn(3000, 1, generator=g) + shift * (2 * y[:, None] - 1), y) for shift in (0.0, 1.0))
    ratio = kernel_ratio(source, target, 0)
    up, down = ratio(torch.tensor([[1.0]]), torch.tensor([1])), ratio(torch.tensor([[1.0]]), torch.tensor([0]))
    assert float(up - down) == pytest.approx(2.0, abs=0.6)


def test_features_are_what_the_classifier_sees():
    source, target = line(0.0, 500, 0), line(1.0, 500, 1)
    blind = kernel_ratio(source, target, 0, features=lambda x: torch.zeros(len(x), 2))
    assert float(blind(AT).std()) < 1e-6


def test_resampling_follows_the_ratio():
    pool = Points(torch.arange(4.0)[:, None], torch.arange(4))
    drawn = resampled(pool, torch.tensor([0.1, 0.2, 0.3, 0.4]).log() - 500, 10_000, 0)
    assert torch.equal(drawn.x[:, 0].long(), drawn.y)
    torch.testing.assert_close(drawn.y.bincount() / 10_000, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=2e-3, rtol=0)
    assert not torch.equal(drawn.y, drawn.y.sort().values)


def test_domains_without_overlap_give_finite_numbers():
    ratio = kernel_ratio(line(0.0, 300, 0), line(500.0, 20, 1), 0)
    assert torch.isfinite(ratio(torch.tensor([[0.0], [250.0], [500.0], [1e6]]))).all()
    assert ratio.notes["auc"] == 1.0


def test_lent_labels_weigh_as_much_as_many_features():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 200, generator=g) for n in (2000, 100))
    y, z = (torch.arange(n) % 2 for n in (2000, 100))
    b[:, :20] += (z[:, None] - 0.5) * 1.0
    contrasts = []
    for lent in (False, True):
        ratio = kernel_ratio(Points(a, y), Points(b, z), 0, weight=1.0, labels_lent=lent)
        contrast = ratio.logit(a, torch.ones(2000, dtype=torch.int64)) - ratio.logit(a, torch.zeros(2000, dtype=torch.int64))
        contrasts.append(float(torch.corrcoef(torch.stack([contrast, a[:, :20].sum(1)]))[0, 1]))
    assert contrasts[1] > 2 * abs(contrasts[0])


def two_labels(dim, n_source, n_target):
    """N(0, 1) with labels drawn at random, N(d, 1) and N(-d, 1) with two, and the exact log ratio at the source points."""
    g = torch.Generator().manual_seed(0)
    shifted = min(dim, 8)
    y, z = torch.arange(n_source) % 2, torch.arange(n_target) % 2
    a, b = torch.randn(n_source, dim, generator=g), torch.randn(n_target, dim, generator=g)
    d = 0.75 / shifted**0.5
    b[:, :shifted] += d * (2 * z[:, None] - 1)
    return Points(a, y), Points(b, z), (2 * y - 1) * d * a[:, :shifted].sum(1) - shifted * d**2 / 2


def off(ratio, source, exact):
    gap = ratio(*source) - exact
    return float((gap - gap.mean()).square().mean().sqrt())


def test_the_ratio_of_lent_labels_is_the_exact_one():
    source, target, exact = two_labels(1, 3000, 400)
    assert off(lent_ratio(source, target, 0, weight=1.0), source, exact) < 0.25


def test_labels_by_themselves_are_learned_better_from_many_features():
    source, target, exact = two_labels(200, 3000, 60)
    ratios = (lent_ratio(source, target, 0, weight=1.0), kernel_ratio(source, target, 0, weight=1.0, labels_lent=True))
    alone, joint = (float(torch.corrcoef(torch.stack([ratio(*source), exact]))[0, 1]) for ratio in ratios)
    assert alone > 1.5 * joint


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(30, dtype=torch.int64),  # a single label
        torch.cat([torch.zeros(29, dtype=torch.int64), torch.ones(1, dtype=torch.int64)]),  # one that most folds have not
        torch.eye(3)[torch.arange(30) % 3] + torch.eye(3)[torch.arange(30) % 2],  # rows of statements
        torch.tensor([0, 1]),  # too few to choose by
    ],
)
def test_lent_labels_of_any_kind_give_finite_ratios(y):
    g = torch.Generator().manual_seed(0)
    source = Points(torch.randn(500, 5, generator=g), y[torch.randint(len(y), (500,), generator=g)])
    ratio = lent_ratio(source, Points(torch.randn(len(y), 5, generator=g), y), 0)
    assert ratio(*source).shape == (500,) and torch.isfinite(ratio(*source)).all()
    assert torch.isfinite(ratio(source.x, None)).all()


def test_lent_labels_that_the_points_have_not_say_nothing():
    source, target, _ = two_labels(5, 500, 40)
    ratio, others = lent_ratio(source, target, 0), torch.full((source.n,), 7)
    torch.testing.assert_close(ratio.logit(source.x, others), ratio.logit(source.x, None))


def test_a_patients_recordings_are_in_one_fold():
    g = torch.Generator().manual_seed(0)
    source, people = Points(torch.randn(400, 6, generator=g)), torch.randn(12, 6, generator=g)
    target = Points(people.repeat_interleave(10, 0) + 0.05 * torch.randn(120, 6, generator=g), torch.arange(2).repeat(6).repeat_interleave(10))
    owners = [str(k) for k in range(12) for _ in range(10)]
    by_patient, by_row = (kernel_ratio(source, Points(target.x), 0, weight=1.0, owners=whose).notes["auc"] for whose in (owners, None))
    assert by_patient < 0.65 and by_row > 0.8
    folds = domain._folds(np.arange(520) >= 400, 0, owners)
    assert len(folds) == domain.FOLDS and sorted(np.concatenate([fold for _, fold in folds])) == list(range(520))
    for rest, fold in folds + [(400 + rest, 400 + fold) for rest, fold in domain._label_folds(target.y.numpy(), 0, owners)]:
        assert not {owners[row - 400] for row in rest if row >= 400} & {owners[row - 400] for row in fold if row >= 400}
    for rows in ([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7], [0] * 9 + [1]):
        folds = domain._label_folds(np.array(rows), 0, [str(k // 2) for k in range(len(rows))])
        assert sorted(np.concatenate([fold for _, fold in folds])) == list(range(len(rows)))
    for n in (1, 2, 3):
        notes = kernel_ratio(source, Points(torch.randn(24, 6, generator=g)), 0, weight=1.0, owners=[str(k % n) for k in range(24)]).notes
        assert 0.2 < notes["auc"] < 0.8 and "auc_interval" in notes
    assert (
        lent_ratio(Points(source.x, target.y.repeat(4)[:400]), target, 0, owners=owners).notes["auc"]
        == kernel_ratio(source, Points(target.x), 0, owners=owners).notes["auc"]
    )
