"""What the page draws of samples: features of tables, grids of images, nearest training points."""

import re

import numpy as np
import pytest

from diffgraft.pages import clouds, images, neighbours, pictures, plots, rasters, tabular
from diffgraft.pages.clouds import Cloud, Shown
from diffgraft.pages.records import Entry
from diffgraft.terms import number

COLUMNS = ("acid", "sugar", "<b>pH</b>")


def entry(name="tgdp", index=0):
    return Entry(name, index, {0: {"method": {"name": name}}})


def drawn(seed, n, shape):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def table(methods=2, dim=3, shift=(0.0, 3.0, 1.5), **names):
    """Source, target and test of unequal sizes; feature k of the source is shifted by shift[k]."""
    moved = np.resize(np.asarray(shift, np.float32), dim)
    parts = {"source": Cloud(drawn(1, 53, (dim,)) + moved), "target": Cloud(drawn(2, 7, (dim,))), "test": Cloud(drawn(3, 41, (dim,)), **names)}
    return Shown(0, parts, [(entry(f"m{k}", k), Cloud(drawn(10 + k, 31, (dim,)))) for k in range(methods)], [])


def alts(figure):
    return [re.search('aria-label="([^"]*)"', str(p.plot)).group(1) for p in figure.panels]


# tables


def test_the_distance_of_two_samples_is_that_of_kolmogorov_and_smirnov():
    stats = pytest.importorskip("scipy.stats")
    for seed in range(5):
        a, b = drawn(seed, 13, ()), np.round(drawn(seed + 9, 7, ()), 1)
        assert tabular.distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert tabular.distance(np.ones(3), np.ones(5)) == 0


def test_features_that_differ_most_come_first():
    data = table()
    order, gaps = tabular.ranked(data, [data])
    assert order == [1, 2, 0] and gaps[1] == max(gaps.values()) == tabular.distance(data.parts["test"].x[:, 1], data.parts["source"].x[:, 1])
    data.parts.pop("source")
    assert tabular.ranked(data, [data]) == ([0, 1, 2], {})


def test_pairs_and_marginals_of_a_table_bear_the_names_of_its_columns():
    data = table(columns=COLUMNS)
    figures = pictures.sample_figures(data)
    pairs = ["&lt;b&gt;pH&lt;/b&gt; (up) against sugar", "acid (up) against sugar", "acid (up) against &lt;b&gt;pH"]
    assert [len(f.panels) for f in figures] == [5, 5, 5, 3]
    assert all(p in alts(f)[0] for p, f in zip(pairs, figures, strict=False))
    assert [f.caption != "" for f in figures] == [False, False, True, True]
    assert [p.title for p in figures[-1].panels] == ["sugar", "<b>pH</b>", "acid"] and [e.name for e in figures[-1].keys] == ["m0", "m1"]
    marginal = str(figures[-1].panels[0].plot)
    assert marginal.count("source-line") == marginal.count("filled") == 1 and marginal.count('class="step"') == 3
    assert "Kolmogorov" in figures[-1].caption and "target from source" in figures[-1].panels[0].note


def test_columns_of_another_width_are_no_names():
    assert table(columns=COLUMNS[:2]).feature(1) == "feature 2"


def test_wide_tables_show_some_features_and_without_a_source_no_distances():
    data = table(dim=20)
    *pairs, marginals = pictures.sample_figures(data)
    assert len(pairs) == 3 and len(marginals.panels) == 12 and "12 of 20 features" in marginals.caption
    data.parts.pop("source")
    *_, marginals = pictures.sample_figures(data)
    assert "Kolmogorov" not in marginals.caption and [p.title for p in marginals.panels[:2]] == ["feature 1", "feature 2"] and not marginals.panels[0].note


def test_many_methods_share_no_plot_that_holds_too_many_lines():
    data = table(methods=20, dim=9)
    figures = [f for f in pictures.sample_figures(data) if f.keys]
    assert [len(f.keys) for f in figures] == [5, 5, 5, 5] and all(len(f.panels) == 4 for f in figures)
    assert [e.name for f in figures for e in f.keys] == [f"m{k}" for k in range(20)]
    assert all(str(p.plot).count('class="step"') == 6 for f in figures for p in f.panels)


def test_frames_and_features_are_those_of_all_sizes():
    small, large = table(), table(shift=(9.0, 2.0, 1.5))
    assert tabular.ranked(small, [small, large])[0] == tabular.ranked(large, [small, large])[0]
    ticks = [re.findall(">(-?[0-9.]+)</text>", str(f.panels[0].plot)) for data in (small, large) for f in pictures.sample_figures(data, [small, large])[:1]]
    assert ticks[0] == ticks[1]


def test_an_outlier_does_not_squeeze_the_plots_of_a_table():
    data = table()
    data.parts["test"].x[5:7, 0] = 1e6, -1e6
    (low, high), (lowest, highest) = tabular._frame([data], 0, tabular.MIDDLE), tabular._frame([data], 0)
    assert lowest < -1e5 < -20 < low < high < 20 < 1e5 < highest


def test_a_line_far_above_the_reference_is_cut_off():
    spike = np.zeros(50)
    heights = [float(y) for y in re.findall(r"[ML][0-9.]+ (-?[0-9.]+)", str(plots.histogram(drawn(0, 400, ()), [("c0", spike)], (-3, 3), "alt")))]
    assert min(heights) >= plots.TOP


# images


def test_images_in_one_place_come_from_one_noise_and_the_caption_says_where_not():
    y = np.array([0, 1, 1, 0, 2, 1, 0])
    parts = {part: Cloud(drawn(k, 7, (1, 4, 4)), y) for k, part in enumerate(("source", "target", "test"))}
    methods = [(entry("a"), Cloud(drawn(4, 7, (1, 4, 4)), y)), (entry("b", 1), Cloud(drawn(5, 7, (1, 4, 4)), y.copy()))]
    assert "In the same place every method started from the same noise and label. " in images.image_figure(Shown(0, parts, methods, [])).caption
    other = (entry("scratch", 2), Cloud(drawn(6, 7, (1, 4, 4)), y[::-1]))
    assert "the same noise and label, but for scratch, whose labels differ. " in images.image_figure(Shown(0, parts, [*methods, other], [])).caption
    plain = {part: Cloud(c.x) for part, c in parts.items()}
    figure = images.image_figure(Shown(0, plain, [(e, Cloud(c.x)) for e, c in methods], []))
    assert "In the same place every method started from the same noise. " in figure.caption and "the first 40" in figure.caption
    assert "same noise" not in images.image_figure(Shown(0, plain, methods[:1], [])).caption


def test_names_of_labels_stand_over_columns_or_below_them():
    assert images.short_names([0, 2], ["cat", "dog"]) == (["cat", "dog"], "")
    heads, told = images.short_names([0, 2], ["a cat that is very long indeed", "dog"])
    assert heads == ["0", "2"] and told == "Labels: 0 a cat that is very long indeed and 2 dog. "
    assert images.short_names(range(50), [str(k) for k in range(50)])[1] == ""
    data = Shown(0, {"test": Cloud(drawn(0, 7, (1, 4, 4)), np.arange(7) % 3, labels=("cat", "dog", "cow"))}, [], [])
    assert all(f">{name}</text>" in str(images.image_figure(data).panels[0].plot) for name in ("cat", "dog", "cow"))


def test_large_images_of_many_methods_get_fewer_rows():
    assert images.fitting_rows(np.zeros((2, 1, 16, 16)), 10, 23) == images.ROWS
    assert images.fitting_rows(np.zeros((2, 3, 32, 32)), 10, 23) == 2


def test_grey_pixels_take_two_bytes_each():
    assert rasters.png(np.zeros((5, 7, 2), np.uint8))[25] == 4 and rasters.png(np.zeros((5, 7, 4), np.uint8))[25] == 6
    grey, coloured = (images.Pixels(drawn(0, 7, (c, 4, 4)))(drawn(1, 3, (c, 4, 4))) for c in (1, 3))
    assert grey.shape == (3, 4, 4, 1) and coloured.shape == (3, 4, 4, 3)


# nearest training points


def brute(ruler, cloud, others):
    x, z = (ruler._units(c, np.arange(len(c.x))) for c in (cloud, others))
    gaps = np.sqrt(((x[:, None] - z[None]) ** 2).sum(-1))
    return gaps.argmin(1), gaps.min(1)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (3, 4, 4)])
def test_nearest_neighbours_are_those_of_the_matrix_of_all_pairs(shape):
    test, train, samples = Cloud(2 * drawn(0, 41, shape) + 5), Cloud(drawn(1, 7, shape)), Cloud(drawn(2, 31, shape))
    ruler = neighbours.Ruler(test)
    near = ruler.nearest(samples, train)
    at, gap = brute(ruler, samples, train)
    assert near.at.tolist() == at.tolist() and near.gap == pytest.approx(gap)
    assert near.closest().gap.tolist() == sorted(near.gap)[:8] and (near.gap[near.closest().rows] == near.closest().gap).all()


def test_neighbours_are_looked_for_among_all_points(monkeypatch):
    monkeypatch.setattr(neighbours, "POINTS", 8)
    test, train = Cloud(drawn(0, 41, (3,))), Cloud(drawn(1, 30, (3,)))
    near = neighbours.Ruler(test).nearest(Cloud(train.x[[29, 3, 12]]), train)
    assert near.at.tolist() == [29, 3, 12] and near.gap == pytest.approx(0, abs=1e-9)


def test_a_distance_of_one_is_a_standard_deviation_a_number():
    x = drawn(0, 41, (3,)) * np.array([1, 10, 0], np.float32) + 7  # the last is constant
    ruler = neighbours.Ruler(Cloud(x))
    moved = x[:5] + x.astype(np.float64).std(0).astype(np.float32) * np.array([1, 1, 0], np.float32)
    gap = ruler.nearest(Cloud(moved), Cloud(x[:5])).gap
    both = np.sqrt(((ruler._units(Cloud(moved), np.arange(5)) - ruler._units(Cloud(x), np.arange(5))) ** 2).sum(1))
    assert both == pytest.approx(np.sqrt(2 / 3), rel=1e-4) and (gap <= both + 1e-9).all()


def test_points_that_are_no_numbers_have_no_neighbours():
    x = drawn(0, 9, (3,))
    x[[0, 4], 1] = np.nan, np.inf
    ruler = neighbours.Ruler(Cloud(drawn(1, 41, (3,))))
    near = ruler.nearest(Cloud(x), Cloud(drawn(2, 7, (3,))))
    assert near.rows.tolist() == [1, 2, 3, 5, 6, 7, 8] and np.isfinite(near.gap).all()
    assert ruler.nearest(Cloud(x[[8, 1, 5]]), Cloud(x)).at.tolist() == [8, 1, 5]
    none = Shown(0, {"test": Cloud(drawn(1, 41, (3,))), "target": Cloud(drawn(2, 7, (3,)))}, [(entry(), Cloud(np.full((5, 3), np.nan, np.float32)))], [])
    assert "no finite sample" in alts(neighbours.neighbour_figures(none)[0])[0]


def test_copies_of_training_points_show_as_distances_near_zero():
    data = table()
    copies = data.parts["target"].x[[3, 3, 1]] + np.float32(1e-6)
    data.methods[0][1].x[4:7] = copies
    (figure,) = neighbours.neighbour_figures(data)
    ruler = neighbours.Ruler(data.test)
    near = ruler.nearest(data.methods[0][1], data.parts["target"]).closest()
    assert sorted(near.rows[:3].tolist()) == [4, 5, 6] and near.gap[2] < 1e-5 < near.gap[3]
    assert f"closest {number(float(near.gap[0]))}" in figure.panels[0].note
    assert str(figure.panels[0].plot).count('class="step"') == 1 + 8


def test_the_closest_images_stand_over_what_they_are_close_to():
    train, test, x = drawn(1, 7, (1, 4, 4)), drawn(2, 41, (1, 4, 4)), drawn(3, 31, (1, 4, 4))
    x[5] = train[6] * np.float32(1.001)
    data = Shown(0, {"target": Cloud(train), "test": Cloud(test)}, [(entry(), Cloud(x))], [])
    seen = {}

    class Spy(images.Pixels):
        def mosaic(self, points, at, heads, alt):
            seen.update(points=points, at=at, heads=heads)
            return super().mosaic(points, at, heads, alt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "Pixels", Spy)
        figures = neighbours.neighbour_figures(data)
    sample, trained, held_out = (seen["points"][row[0]] for row in seen["at"])
    assert (sample == x[5]).all() and (trained == train[6]).all()
    assert (held_out == test[((test - x[5]) ** 2).sum((1, 2, 3)).argmin()]).all()
    assert len(figures) == 2 and seen["at"].shape == (3, 8) and float(seen["heads"][0]) < 0.01


def test_without_training_points_or_samples_there_is_nothing_to_compare():
    data = table()
    assert neighbours.neighbour_figures(Shown(0, data.parts, [], [])) == []
    data.parts.pop("target")
    assert neighbours.neighbour_figures(data) == []


# files


def test_sample_files_may_hold_names(tmp_path):
    x = drawn(0, 7, (3,))
    np.savez(tmp_path / "a.npz", X=x, y=np.arange(7) % 2, columns=np.array(["a", "b" * 99, "c"]), labels=np.array(["no", "yes"]))
    cloud = clouds.load(tmp_path / "a.npz")
    assert cloud.columns == ("a", "b" * clouds.LONGEST, "c") and cloud.labels == ("no", "yes")
    np.savez(tmp_path / "b.npz", X=x, columns=np.array(["a", None], dtype=object))
    assert clouds.load(tmp_path / "b.npz") is None  # pickled
    np.savez(tmp_path / "c.npz", X=x, y=np.arange(3))
    assert clouds.load(tmp_path / "c.npz") is None
