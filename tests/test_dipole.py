"""SYNTHETIC electrocardiograms: the density ratio in closed form, and statements that look like what they state."""

import pytest
import torch

from diffgraft.tasks import dipole
from diffgraft.tasks.dipole import APART, LEADS, MOST_BEATS, SOURCE, SPREADS, STATEMENTS, TARGET, Latents, draw, log_ratio, render

QUIET = -9.0


pytestmark = pytest.mark.usefixtures("textbook")


def record(statement, *, rate=4.1, axis=0.0, gain=0.0, noise=QUIET, n=1, samples=1000, seed=0):
    """Records of one statement without noise; base lines that wander stay."""
    return render(Latents(torch.full((n,), STATEMENTS.index(statement)), torch.tensor([rate, axis, gain, noise]).expand(n, 4)), seed, samples=samples)


def lead(x, name):
    return x[:, LEADS.index(name)]


def test_the_ratio_makes_the_target_of_the_source():
    u, v = draw(SOURCE, 200_000, 1), draw(TARGET, 200_000, 2)
    r = log_ratio(u).exp()
    assert float(r.mean()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close((r[:, None] * u.numbers).mean(0).float(), v.numbers.mean(0), atol=0.08, rtol=0.0)
    again = torch.stack([(r * (u.statement == k)).mean() for k in range(9)])
    torch.testing.assert_close(again.float(), v.statement.bincount(minlength=9) / 200_000, atol=0.01, rtol=0.0)
    assert 0.2 < float(r.sum() ** 2 / (r**2).sum() / len(r)) < 0.6  # the domains overlap


def test_the_distant_target_is_out_of_reach():
    r = log_ratio(draw(SOURCE, 20_000, 1), SOURCE, APART).exp()
    assert float(r.sum() ** 2 / (r**2).sum()) < 20
    far = (torch.tensor(APART.means) - torch.tensor(SOURCE.means)).abs() / torch.tensor(SPREADS)
    assert bool((far >= 2.9).all())


def test_records_depend_on_the_seed_and_their_place_alone():
    u = draw(SOURCE, 70, 3)
    x = render(u, 5)
    assert x.shape == (70, 8, 256) and torch.equal(x, render(u, 5)) and not torch.equal(x, render(u, 6))


def peaks(x, height):
    """Indices of local maxima above a height."""
    inner = x[1:-1]
    return ((inner > x[:-2]) & (inner >= x[2:]) & (inner > height)).nonzero()[:, 0] + 1


def test_a_normal_record_beats_at_its_rate_and_is_upright_where_it_should_be():
    x = record("NORM", rate=float(torch.tensor(75.0).log()))
    beats = peaks(lead(x, "II")[0], 0.7).diff().float()
    assert float(beats.mean()) == pytest.approx(80, abs=4) and float(beats.std() / beats.mean()) < 0.06
    assert float(lead(x, "V1").min()) < -0.4 and float(lead(x, "V5").max()) > 0.8


def test_fibrillation_is_irregular():
    beats = peaks(lead(record("AFIB", samples=6000), "II")[0], 0.7).diff().float()
    assert float(beats.std() / beats.mean()) > 0.12


def test_a_block_widens_the_complex():
    def width(statement, name, sign):
        rows = sign * lead(record(statement, n=20), name)
        return sum(float((x > x.max() / 2).float().sum()) / len(peaks(x, 0.7 * float(x.max()))) for x in rows)

    assert width("CLBBB", "V1", -1) > 2 * width("NORM", "V1", -1)
    assert float(lead(record("CRBBB"), "V1").max()) > 0.6 > 0.3 > float(lead(record("NORM"), "V1").max())


def test_early_beats_come_early():
    def shortest(statement):
        beats = [peaks(-r, 0.4).diff().float() for r in lead(record(statement, n=20, samples=600), "V1")]
        return [float(d.min() / d.median()) for d in beats]

    assert min(shortest("NORM")) > 0.85
    assert sum(s < 0.8 for s in shortest("PAC")) >= 17
    for r in lead(record("PVC", n=20, samples=600), "V1"):
        (early,) = peaks(r, 0.8).tolist()  # wide and upright, once
        others = peaks(-r[: early - 5], 0.4)
        if len(others) > 1:
            assert early - int(others[-1]) < 0.8 * float(others.diff().float().median())


def test_the_st_segment_goes_down_or_up():
    def st(statement, name):
        x = record(statement, n=30)
        level = [float(r[peaks(r2, 0.7)[1:-1] + 11].mean() - r.median()) for r, r2 in zip(lead(x, name), lead(x, "V5"), strict=True)]
        return sum(level) / len(level)

    assert st("STD_", "V5") < st("NORM", "V5") - 0.1
    assert st("STE_", "V2") > st("NORM", "V2") + 0.15


@pytest.mark.parametrize("statement", [name for name in STATEMENTS if name != "AFIB"])
def test_a_statement_shows_by_degrees_from_a_normal_record_on(monkeypatch, statement):
    monkeypatch.setattr(dipole, "DEGREES", (0.0, 0.0))
    normal = record("NORM", n=3)
    torch.testing.assert_close(record(statement, n=3), normal)
    monkeypatch.setattr(dipole, "DEGREES", (0.5, 0.5))
    half = (record(statement, n=3) - normal).abs().mean()
    assert statement == "NORM" or float(half) > 0.005


def test_gain_axis_and_noise():
    plain, louder = (lead(record("NORM", gain=g), "II").max() for g in (0.0, 0.5))
    assert float(louder / plain) == pytest.approx(1.65, abs=0.15)
    assert float(lead(record("NORM", axis=1.0), "I").max()) < 0.5 * float(lead(record("NORM"), "I").max())
    clean, noisy = record("NORM"), record("NORM", noise=-2.0)
    assert float((noisy - clean).std()) == pytest.approx(float(torch.tensor(-2.0).exp()), rel=0.1)


def test_beats_fill_the_longest_record():
    x = record("NORM", rate=5.3, samples=1000)  # 200 a minute
    assert MOST_BEATS * 60 > 200 and float(lead(x, "II")[0, -60:].max()) > 0.5
