"""Readers of recordings: each layout written here in small, every fault of theirs, and the real excerpts."""

import os
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import savemat
from typer.testing import CliRunner

from diffgraft.cli import app
from diffgraft.console import spread
from diffgraft.data import Layout, Points
from diffgraft.ecg.folders import read_folder
from diffgraft.ecg.folds import hash_of, published, strata, stratify
from diffgraft.ecg.leads import EIGHT, SSSD, TWELVE, eight, einthoven, select, twelve
from diffgraft.ecg.ptbxl import read_ptbxl
from diffgraft.ecg.records import Account, Preparation, prepare
from diffgraft.ecg.signals import band_pass, resample
from diffgraft.ecg.statements import NINE, STATEMENTS
from diffgraft.ecg.wfdb import read_header, read_signals
from diffgraft.errors import BadData
from diffgraft.readers.catalog import read
from diffgraft.sample_files import write_samples
from diffgraft.store import load
from diffgraft.tasks.files import files

PREPARED = Layout(columns=TWELVE, rate=100.0, unit="mV", seconds=10.0)


def signal(seconds=10.0, rate=100, seed=0, leads=TWELVE):
    """Leads of slow sines, (leads, samples) in mV: at every rate the same, and Einthoven's law holds."""
    g = np.random.default_rng(seed)
    t, frequency, phase = np.arange(round(seconds * rate)) / rate, g.uniform(1, 9, (8, 1)), g.uniform(0, 6, (8, 1))
    return twelve(np.sin(2 * np.pi * frequency * t + phase), EIGHT, leads)


def write_record(folder, name, x, rate=100, leads=TWELVE, gain="1000", baseline=0, unit="mV", lines=(), fmt="16", samples=None, head=b"", suffix=".dat"):
    """A WFDB record of signals (leads, samples) in the unit."""
    folder.mkdir(parents=True, exist_ok=True)
    digital = np.round(x * float(gain) + baseline).astype("<i2") if x.dtype.kind == "f" else x.astype("<i2")
    (folder / f"{name}{suffix}").write_bytes(head + np.ascontiguousarray(digital.T).tobytes())
    kind = f"{fmt}+{len(head)}" if head else fmt
    rows = [
        f"{name}{suffix} {kind} {gain}({baseline})/{unit} 16 0 {d[0]} {int(d.astype(int).sum()) % 65536} 0 {lead}"
        for lead, d in zip(leads, digital, strict=True)
    ]
    text = [f"{name} {len(leads)} {rate} {x.shape[1] if samples is None else samples}", *rows, *(f"#{line}" for line in lines)]
    (folder / f"{name}.hea").write_text("\n".join(text) + "\n")


def write_challenge(folder, name, x, dx, **more):
    head = struct.pack("<5i", 30, 12, x.shape[1], 0, 4) + b"val\0"
    write_record(folder, name, x, rate=500, head=head, suffix=".mat", lines=(" Age: 61", " Sex: Female", f" Dx: {dx}"), **more)


def write_ptbxl(folder, rows, rates=(100,), table="ptbxl_database.csv", lost=()):
    """PTB-XL in small: `rows` gives (scp_codes, strat_fold) of each record."""
    folder.mkdir(exist_ok=True)
    lines = ["ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr"]
    for k, (codes, fold) in enumerate(rows, 1):
        name = f"{k:05}"
        lines.append(f'{k},{k // 2}.0,{50 + k}.0,{k % 2},"{codes}",{fold},records100/00000/{name}_lr,records500/00000/{name}_hr')
        for rate in rates:
            if k not in lost:
                write_record(folder / f"records{rate}" / "00000", f"{name}_{'lr' if rate == 100 else 'hr'}", signal(10, rate, k), rate)
    (folder / table).write_text("\n".join(lines) + "\n")


def write_struct(folder, name, x, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", {"ECG": {"sex": "Male", "age": 42.0, "data": x} | changed})


CODES = [("{'NORM': 100.0, 'SR': 0.0}", 1), ("{'AFIB': 0.0}", 9), ("{'PVC': 50.0, 'NORM': 80.0}", 10), ("{}", 8)]


def one_line(match):
    return pytest.raises(BadData, match=match)


# WFDB


def test_samples_in_mv_by_gain_baseline_and_unit(tmp_path):
    x = signal()
    for name, more in {"a": {}, "b": {"baseline": -30, "gain": "500.5"}, "c": {"unit": "uV"}}.items():
        write_record(tmp_path, name, x * 1000 if name == "c" else x, **({"gain": "1.0", "unit": "uV"} if name == "c" else more))
        header = read_header(tmp_path / f"{name}.hea")
        y, leads = read_signals(header)
        assert leads == TWELVE and (header.rate, header.samples) == (100, 1000) and y.dtype == np.float32
        np.testing.assert_allclose(y, x, atol=0.0011)


def test_a_header_in_full(tmp_path):
    """Several files, a skipped offset, a default gain, a zero for a baseline, no number of samples, a signal that is no lead."""
    x, other = np.arange(20, dtype="<i2").reshape(10, 2), np.arange(10, dtype="<i2")
    (tmp_path / "one.dat").write_bytes(b"12345678" + x.tobytes())
    (tmp_path / "two.dat").write_bytes(other.tobytes())
    (tmp_path / "r.hea").write_text(
        "# made by hand\nr 3 360/720(0)\none.dat 16+8 0 16 5 0 0 0 avr\none.dat 16+8 100(7)/uV 12 0 1 100 0 Resp wave\ntwo.dat 16 50/mV 12 0 0 45 0 V6\n"
        "#Age: 61\n# Sex : F\n"
    )
    header = read_header(tmp_path / "r.hea")
    assert header.rate == 360 and header.info == {"made by hand": "", "age": "61", "sex": "F"}
    assert [(w.gain, w.baseline, w.unit, w.checksum) for w in header.wires] == [(200, 5, "mV", 0), (100, 7, "uV", 100), (50, 0, "mV", 45)]
    header = header._replace(wires=(header.wires[0]._replace(checksum=90), *header.wires[1:]))
    y, leads = read_signals(header)
    assert leads == ("avr", "V6")
    np.testing.assert_allclose(y, [(x[:, 0] - 5.0) / 200, other / 50], rtol=1e-6)


def test_the_value_for_missing_becomes_nan(tmp_path):
    x = (signal() * 1000).round().astype(np.int16)
    x[3, 7] = -32768
    write_record(tmp_path, "a", x)
    y, _ = read_signals(read_header(tmp_path / "a.hea"))
    assert np.argwhere(np.isnan(y)).tolist() == [[3, 7]]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


HEADERS = {
    "format": ("a.dat 16 ", "a.dat 212 ", r"format 212, only 16 is read; write it again with wfdb.wrsamp"),
    "samples a frame": ("a.dat 16 ", "a.dat 16x2 ", "format 16x2, only 16"),
    "segments": ("a 12 100", "a/3 12 100", "several segments"),
    "no rate": ("a 12 100 1000", "a 12", "gives no sampling rate"),
    "rate of 0": ("a 12 100 1000", "a 12 0 1000", "gives no sampling rate"),
    "more signals": ("a 12 100", "a 13 100", "promises 13 signals and describes 12"),
    "another folder": ("a.dat", "../a.dat", "names a file outside of its folder"),
    "unit": ("/mV", "/mmHg", "gives lead I in 'mmHg', expected mV, uV or V"),
    "damaged line": ("a.dat 16 1000(0)/mV 16 0", "a.dat 16 1000(0)/mV 16 zero", "has a damaged line"),
    "line without a format": ("a.dat 16 1000(0)/mV 16 0", "a.dat", "has a damaged line"),
    "cut off": ("a 12 100 1000", "a 12 100 1001", "a.dat is cut off, expected 24,024 bytes, got 24,000"),
    "lost": ("a.dat", "b.dat", "b.dat, which a.hea names, is missing"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be_used(tmp_path, case):
    old, new, says = HEADERS[case]
    for name in "az":
        write_record(tmp_path / "d", name, signal())
    edit(tmp_path / "d" / "a.hea", old, new)
    with one_line(says) as error:
        read(tmp_path / "d")
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value) and len(str(error.value)) < 400


def test_signals_that_are_no_leads(tmp_path):
    write_record(tmp_path / "d", "a", signal(), leads=[f"lead {k}" for k in range(12)])
    with one_line("a.hea holds no ECG lead, its signals are lead 0, lead 1"):
        read(tmp_path / "d")


def test_a_changed_sample_is_found(tmp_path):
    write_record(tmp_path / "d", "a", signal())
    raw = bytearray((tmp_path / "d" / "a.dat").read_bytes())
    raw[100] ^= 1
    (tmp_path / "d" / "a.dat").write_bytes(raw)
    with one_line(r"recording a: a.dat is damaged, the checksum of lead \w+ in a.hea differs"):
        read(tmp_path / "d")


# Any folder of records


def test_a_folder_of_records_in_any_order_at_any_rate(tmp_path):
    for k, (leads, rate) in enumerate([(TWELVE, 100), (SSSD, 500), ([name.upper() for name in SSSD], 250)]):
        write_record(tmp_path / "d" / str(k), f"r{k}", signal(12, rate, 5, SSSD if k else TWELVE), rate, leads)
    (x, y), layout, warnings, _ = read(tmp_path / "d")
    assert x.shape == (3, 12, 1000) and x.dtype == torch.float32 and y is None and layout == PREPARED and warnings == ()
    np.testing.assert_allclose(x[0], signal(10, seed=5), atol=0.001)
    assert float((x[1:, :, 100:] - x[0, :, 100:]).abs().max()) < 0.02


def test_missing_limb_leads_are_derived(tmp_path):
    for name, leads in (("a", EIGHT), ("b", TWELVE)):
        write_record(tmp_path / "d", name, signal(leads=leads), leads=leads)
    (x, _), _, warnings, _ = read(tmp_path / "d")
    np.testing.assert_allclose(x[0], x[1], atol=0.003)
    assert warnings == (f"the data {tmp_path / 'd'}: 1 of 2 recordings without some leads of the limbs, derived from the others: 'a'",)


def test_what_cannot_be_used_is_left_out_with_a_line_each(tmp_path):
    good = signal()
    flat, gap = good.copy(), (good * 1000).round().astype(np.int16)
    flat[7], gap[0, 0] = 0.25 + 0.004 * (np.arange(flat.shape[1]) == 99), -32768
    for name, x, leads in (("a", good, TWELVE), ("b", good, TWELVE), ("flat", flat, TWELVE), ("gap", gap, TWELVE), ("few", good[:8], TWELVE[:8])):
        write_record(tmp_path / "d", name, x, leads=leads)
    for name in ("s1", "s2", "s3", "s4"):
        write_record(tmp_path / "d", name, good[:, :900])
    write_record(tmp_path / "d", "odd", good, leads=SSSD)
    (x, _), _, warnings, _ = read(tmp_path / "d")
    assert len(x) == 3
    assert [line.split(": ", 1)[1] for line in warnings] == [
        "1 of 10 recordings left out, without leads that cannot be derived ('V3', 'V4', 'V5' and 1 more): 'few'",
        "1 of 10 recordings left out, with a flat lead ('V2'): 'flat'",
        "1 of 10 recordings left out, with missing samples ('I'): 'gap'",
        "4 of 10 recordings left out, shorter than 10 s: 's1', 's2', 's3' and 1 more",
        "1 of 10 recordings against the law I + III = II, look whether their leads are in the order of their names: 'odd'",
    ]


def test_where_nothing_is_left_there_is_one_line(tmp_path):
    for name in "ab":
        write_record(tmp_path / "d", name, signal()[:8], leads=TWELVE[:8])
    why, remedy = r"2 without leads that cannot be derived \('V3', 'V4', 'V5' and 1 more\)", r"give others, or take .*\(--leads I II III aVR aVL aVF V1 V2, in"
    with one_line(f"none of 2 recordings can be used: {why}; {remedy}"):
        read(tmp_path / "d")


def test_checksums_that_nobody_counted_say_nothing(tmp_path):
    for k in range(2):
        write_record(tmp_path / "d", f"r{k}", signal(seed=k))
        lines = (tmp_path / "d" / f"r{k}.hea").read_text().splitlines()
        words = [line.split(" ") for line in lines[1:]]
        (tmp_path / "d" / f"r{k}.hea").write_text("\n".join([lines[0], *(" ".join([*w[:6], "0", *w[7:]]) for w in words)]))
    assert read(tmp_path / "d").points.n == 2


def test_wrong_gains_are_seen(tmp_path):
    for k in range(3):
        write_record(tmp_path / "d", f"r{k}", signal(seed=k))
    assert read(tmp_path / "d").warnings == ()
    for path in (tmp_path / "d").glob("*.hea"):
        path.write_text(path.read_text().replace("/mV", "/V"))
    assert "a usual lead spans" in read(tmp_path / "d").warnings[-1]


def test_reasons_are_those_of_the_recording(tmp_path):
    for name in "ab":
        write_record(tmp_path / "d", name, signal())
    write_record(tmp_path / "d", "short", signal()[:, :15])
    write_record(tmp_path / "d", "twice", np.concatenate([signal(), signal()[6:7]]), leads=(*TWELVE, "V1"))
    account = Account()
    kept = list(prepare(read_folder(tmp_path / "d"), Preparation(short="pad", band=(0.5, 40.0)), account))
    assert len(kept) == 2 and [line.split(", ", 1)[1] for line in account.lines] == [
        "too short to filter: 'short'",
        "the lead V1 is there more than once; keep one of them: 'twice'",
    ]


def test_where_one_is_left_the_reasons_are_told(tmp_path):
    for name, seconds in (("a", 10), ("b", 3), ("c", 4), ("d", 5)):
        write_record(tmp_path / "d", name, signal(seconds))
    with one_line("expected at least 2 recordings that can be used, got 1: 3 of 4 recordings left out, shorter than 10 s: 'b', 'c', 'd'; mend"):
        read(tmp_path / "d")


@pytest.mark.parametrize("band", [None, (0.5, 40.0)])
def test_a_gap_behind_the_window_costs_nothing(tmp_path, band):
    x = (signal(30) * 1000).round().astype(np.int16)
    gap = x.copy()
    gap[2, 1100:1200], gap[4, 2500] = -32768, -32768
    for name, y in (("gap", gap), ("whole", x[:, :1100])):
        write_record(tmp_path / "d", name, y)
    (windows, _), _, warnings, _ = read(tmp_path / "d", band=band)
    assert warnings == () and torch.isfinite(windows).all() and torch.equal(windows[0], windows[1])
    gap[7, 999] = -32768
    write_record(tmp_path / "d", "gap", gap)
    with one_line(r"1 of 2 recordings left out, with missing samples \('V2'\): 'gap'"):
        read(tmp_path / "d", band=band)
    write_record(tmp_path / "d", "gap", gap[[TWELVE.index(name) for name in EIGHT]], leads=EIGHT)
    with one_line(r"with missing samples \('V2'\): 'gap'"):
        read(tmp_path / "d", band=band)
    assert read(tmp_path / "d", like=Layout(columns=("I", "II", "V1"), rate=100.0)).points.n == 2


def test_short_windows_where_no_recording_is_long(tmp_path):
    write_record(tmp_path / "d", "a", signal(2.5))
    write_record(tmp_path / "d", "b", signal(1500 / 500, 500), 500)
    (x, _), _, warnings, _ = read(tmp_path / "d")
    assert x.shape == (2, 12, 250) and warnings == (f"the data {tmp_path / 'd'}: no recording has 10 s, so the first 2.5 s of each are taken",)


def test_windows_and_bands_that_are_asked_for_stay_with_the_data(tmp_path):
    for k in range(3):
        write_record(tmp_path / "d", f"r{k}", signal(4) + 5.0)
    (x, _), layout, _, _ = read(tmp_path / "d", seconds=2.56, band=(0.5, 40.0))
    assert x.shape == (3, 12, 256) and (layout.seconds, layout.band) == (2.56, (0.5, 40.0)) and x.mean().abs() < 0.5
    assert torch.equal(read(tmp_path / "d", like=layout).points.x, x)
    for asked, says in (
        ({"band": (1.0, 30.0)}, "--band 1 30: the data or model that these are read for have --band 0.5 40; drop it"),
        ({"seconds": 3.0}, "--seconds 3: the data or model that these are read for have windows of 2.56 s; drop it"),
    ):
        with one_line(says):
            read(tmp_path / "d", like=layout, **asked)
    assert torch.equal(read(tmp_path / "d", like=layout, seconds=2.56, band=(0.5, 40.0)).points.x, x)
    eight = Layout(columns=EIGHT, rate=50.0, seconds=2.0)
    (z, _), kept, _, _ = read(tmp_path / "d", like=eight)
    assert z.shape == (3, 8, 100) and kept.columns == EIGHT and z.mean() > 1
    write_samples(tmp_path / "s.npz", Points(x), 0, layout)
    known = read(tmp_path / "s.npz").layout
    assert (known.seconds, known.band, known.columns) == (2.56, (0.5, 40.0), layout.columns)
    with one_line("none of 3 recordings can be used: 3 shorter than 9 s; the longest has 4 s, give others or shorter windows \\(--seconds 4"):
        read(tmp_path / "d", seconds=9.0)
    with one_line("expected windows of a sample or more, got 0 s"):
        read(tmp_path / "d", seconds=0.0)
    with one_line("expected a band within 0 and 50 Hz, half the sampling rate, got 40 to 0.5; give the lower edge first"):
        read(tmp_path / "d", band=(40.0, 0.5))
    np.savez(tmp_path / "x.npz", X=np.zeros((4, 3, 8)) + np.arange(8))
    with one_line("--seconds, --band and --leads are for folders of ECG recordings; drop them"):
        read(tmp_path / "x.npz", band=(0.5, 40.0))


def test_leads_that_are_asked_for_need_no_others(tmp_path):
    for k in range(3):
        write_record(tmp_path / "d", f"r{k}", signal(leads=("V1", "II")), leads=("V1", "II"))
    with one_line("none of 3 recordings can be used: 3 without leads that cannot be derived"):
        read(tmp_path / "d")
    (x, _), layout, _, _ = read(tmp_path / "d", leads=("ii", "V1"))
    assert x.shape == (3, 2, 1000) and layout.columns == ("II", "V1")
    assert torch.equal(read(tmp_path / "d", like=layout).points.x, x) and read(tmp_path / "d", leads=("II", "V1"), like=layout).points.n == 3
    with one_line("--leads V1: the data or model that these are read for have II V1; drop --leads, or train a source anew"):
        read(tmp_path / "d", leads=("V1",), like=layout)
    with one_line("unknown lead 'V9'"):
        read(tmp_path / "d", leads=("V9",))
    with one_line("expected each lead once, got II, II; name each once"):
        read(tmp_path / "d", leads=("II", "ii"))


def test_a_model_reads_other_folders_as_its_own(tmp_path):
    for name in ("source", "target", "held"):
        for k in range(12):
            write_record(tmp_path / name, f"r{k}", signal(3, seed=k) + 0.01 * len(name))
    asked = [*spread(["--leads", "I", "V2"]), "--seconds", "1.28", "--band", "0.5", "40", "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(app, ["pretrain", "--data", str(tmp_path / "source"), "--steps", "1", "--out", str(tmp_path / "m"), *asked])
    assert done.exit_code == 0, done.output
    words = ["--source", str(tmp_path / "m"), "--target-data", str(tmp_path / "target"), "--method", "finetune", "--set", "steps=1", "--device", "cpu"]
    assert CliRunner().invoke(app, ["fit", *words, "--out", str(tmp_path / "tuned"), "--quiet"]).exit_code == 0
    layout = load(tmp_path / "tuned").layout
    assert (layout.seconds, layout.band, layout.rate) == (1.28, (0.5, 40.0), 100.0)
    assert "windows of 1.28 s at 100 Hz, 0.5 to 40 Hz" in (tmp_path / "tuned" / "README.md").read_text()
    assert read(tmp_path / "held", like=layout).points.x.shape == (12, 2, 128)


def test_one_very_short_recording_shortens_no_others(tmp_path):
    for k in range(20):
        write_record(tmp_path / "d", f"r{k:02}", signal(2.5))
    write_record(tmp_path / "d", "tiny", signal(0.3))
    (x, _), _, warnings, _ = read(tmp_path / "d")
    assert x.shape == (20, 12, 250) and warnings[-1].endswith("1 of 21 recordings left out, shorter than 2.5 s: 'tiny'")


@pytest.mark.parametrize("lead", ["I", "V6"])
def test_windows_of_ones_own(tmp_path, lead):
    write_record(tmp_path, "a", signal(4))
    write_record(tmp_path, "b", signal(12, 500), 500)
    account, how = Account(), Preparation(rate=50, seconds=8, leads=(lead,), short="pad", band=(0.5, 20))
    found = dict(prepare(read_folder(tmp_path), how, account))
    assert {k: x.shape for k, x in found.items()} == {0: (1, 400), 1: (1, 400)} and account.lines == () and (account.n, account.kept) == (2, 2)
    np.testing.assert_array_equal(found[0][0, :100][::-1], found[0][0, 100:200])
    row, names = read_folder(tmp_path)[1], [lead]
    wanted = band_pass(resample(select(row.signal, row.leads, names), 500, 50), 50, 0.5, 20)[:, :400]
    np.testing.assert_array_equal(found[1], wanted)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"leads": ("I", "V7")}, "unknown lead 'V7'"),
        ({"short": "cut"}, "unknown way with short records 'cut'; known are: drop, pad"),
        ({"seconds": 0.001}, "expected windows of a sample or more, got 0.001 s at 100 Hz of 12 leads"),
        ({"rate": 0}, "expected windows of a sample or more, got 10 s at 0 Hz"),
    ],
)
def test_windows_that_are_none(changed, says):
    with one_line(says):
        Preparation(**changed)


def test_leads_are_only_said_to_be_derived_where_they_are(tmp_path):
    write_record(tmp_path, "a", signal(leads=EIGHT), leads=EIGHT)
    account = Account()
    list(prepare(read_folder(tmp_path), Preparation(leads=("AVF", "v1")), account))
    assert account.kept == 1 and account.lines == () and Preparation(leads=("AVF", "v1")).leads == ("aVF", "V1")


def test_a_broken_record_is_left_out_on_request(tmp_path):
    for name in "abc":
        write_record(tmp_path / "d", name, signal())
    (tmp_path / "d" / "a.hea").write_text("-")
    (tmp_path / "d" / "b.dat").write_bytes(b"")
    write_record(tmp_path / "d", "d", signal())
    with one_line("a.hea is no WFDB header.*; copy it again, or leave it out: --skip-broken, in a plan skip_broken = true"):
        read(tmp_path / "d")
    (x, _), _, warnings, _ = read(tmp_path / "d", skip_broken=True)
    assert len(x) == 2 and [line.split(": ", 1)[1] for line in warnings] == [
        "1 of 4 records cannot be read and are left out: 'a'",
        "1 of 3 recordings left out, unreadable: 'b'",
    ]


def test_lost_and_damaged_samples_name_both_remedies(tmp_path):
    for name in ("A0001", "A0002", "A0003", "A0004"):
        write_challenge(tmp_path / "d", name, signal(12, 500), "PVC")
    for name in ("A0001", "A0003"):
        os.remove(tmp_path / "d" / f"{name}.mat")
    with one_line("2 of 4 records have no samples: A0001.mat, which A0001.hea names, is missing; copy them again, or take the others: --skip-broken"):
        read(tmp_path / "d")
    points, _, warnings, _ = read(tmp_path / "d", skip_broken=True)
    assert points.n == 2 and "2 of 4 records cannot be read and are left out: 'A0001', 'A0003'" in warnings[0]
    (tmp_path / "d" / "A0004.mat").write_bytes((tmp_path / "d" / "A0004.mat").read_bytes()[:500])
    for name in ("A0001", "A0003"):
        os.remove(tmp_path / "d" / f"{name}.hea")
    with one_line("recording A0004: A0004.mat is cut off, .*; copy it again, or leave it out: --skip-broken"):
        read(tmp_path / "d")


def test_two_records_of_one_name_are_no_two_records(tmp_path):
    for folder in "xy":
        write_record(tmp_path / "d" / folder, "a", signal())
    with one_line("1 records have a name that another has, such as a"):
        read(tmp_path / "d")


def with_metadata(path, text, names="abc"):
    for name in names:
        write_record(path / "files" / name, name, signal())
    (path / "metadata.csv").write_text(text)


def test_a_column_of_metadata_is_the_label(tmp_path):
    with_metadata(tmp_path / "d", "patient_id,brugada,sudden_death\nb,1,no\na,0,no\nz,0,no\nc,2,yes\n")
    points, layout, warnings, _ = read(tmp_path / "d")
    assert points.y.tolist() == [0, 1, 2] and layout == replace(PREPARED, labels=("0", "1", "2"), label_column="brugada")
    assert [line.split(": ", 1)[1] for line in warnings] == [
        "1 of 4 rows of metadata.csv have no record here: 'z'",
        "1 of 3 records have another code than 0 and 1 as brugada, which the data set does not explain: 'c'",
    ]
    points, layout, _, _ = read(tmp_path / "d", label_column="sudden_death")
    assert points.y.tolist() == [0, 0, 1] and layout == replace(PREPARED, labels=("no", "yes"), label_column="sudden_death")
    like = Layout(labels=("yes", "no"), label_column="sudden_death")
    assert read(tmp_path / "d", like=like).points.y.tolist() == [1, 1, 0]
    with_metadata(tmp_path / "e", "patient_id,kind\na,x\nb,y\n")
    found = read(tmp_path / "e")
    assert found.points.y is None and found.points.n == 2 and "1 of 3 records are not in metadata.csv and left out: 'c'" in found.warnings[0]
    assert read_folder(tmp_path / "d").facts[1].patient == "b"


def test_names_without_their_zeros_are_told(tmp_path):
    with_metadata(tmp_path / "d", "id,kind\n1,x\n2,y\n3,x\n", ("001", "002", "003"))
    says = "none of 3 records is in metadata.csv, whose first column 'id' begins '1', '2'; the records are '001', '002' and 1 more; write these names"
    for options in ({}, {"label_column": "kind"}):
        with one_line(says):
            read(tmp_path / "d", **options)


def test_a_diagnosis_in_words_of_ones_own(tmp_path):
    for name in "ab":
        write_record(tmp_path / "d" / "files", name, signal(), lines=("Dx: Brugada",))
    with one_line("a.hea: unknown statement 'Brugada'; .* other labels are a column of metadata.csv, --label-column") as error:
        read(tmp_path / "d")
    assert "\n" not in str(error.value)
    (tmp_path / "d" / "metadata.csv").write_text("id,kind,brugada\na,x,0\nb,y,1\n")
    assert read(tmp_path / "d").layout.label_column == "brugada"
    found = read(tmp_path / "d", label_column="kind")
    assert found.points.y.tolist() == [0, 1] and found.layout.labels == ("x", "y")


@pytest.mark.parametrize(
    ("options", "text", "says"),
    [
        ({"size": 8}, "id,kind\na,x\nb,y\n", "--size is for images, this is a folder of ECG recordings; drop --size"),
        ({"label_column": "knd"}, "id,kind\na,x\nb,y\n", "--label-column knd: metadata.csv has no such column; did you mean 'kind'"),
        ({"label_column": "kind"}, "id,kind\na,x\nb,\n", "metadata.csv has no 'kind' of b, every recording needs its label"),
        ({"label_column": "kind"}, "id,kind\na,1\nb,2.5\n", "a label column holds whole numbers or names, got 2.5 \\(column 'kind'\\)"),
        ({}, "id,kind\n", "metadata.csv has no rows"),
    ],
)
def test_options_and_tables_that_do_not_fit(tmp_path, options, text, says):
    with_metadata(tmp_path / "d", text, "ab")
    with one_line(says):
        read(tmp_path / "d", **options)


# PTB-XL


@pytest.mark.parametrize("rate", [100, 500])
def test_ptbxl_at_either_rate(tmp_path, rate):
    write_ptbxl(tmp_path / "d", CODES, (rate,))
    (x, y), layout, warnings, _ = read(tmp_path / "d")
    assert x.shape == (4, 12, 1000) and y.shape == (4, 71) and layout.labels == STATEMENTS and warnings == ()
    assert [[STATEMENTS[k] for k in row.nonzero()[:, 0]] for row in y] == [["NORM", "SR"], ["AFIB"], ["NORM", "PVC"], []]
    np.testing.assert_allclose(x[2, :, 100:-100], signal(seed=3)[:, 100:-100], atol=0.02)


def test_ptbxl_tells_all_of_a_recording(tmp_path):
    write_ptbxl(tmp_path, CODES, (100, 500))
    found = read_ptbxl(tmp_path, 500)
    assert found.kind == "PTB-XL" and len(found) == 4 and found.classes == STATEMENTS
    one = found[1]
    assert (one.id, one.patient, one.fold, one.statements, one.age, one.sex, one.rate, one.seconds) == ("2", "1", 9, ("AFIB",), 52.0, "male", 500, 10)
    assert [r.sex for r in found] == ["female", "male", "female", "male"] and read_ptbxl(tmp_path)[1].rate == 100
    assert list(published(found.facts).values()) == ["train", "validation", "test", "train"]
    assert [r.id for r in found.take([2, 0])] == ["3", "1"]


def test_a_half_downloaded_ptbxl(tmp_path):
    write_ptbxl(tmp_path / "d", CODES, lost=(2, 4))
    with one_line("2 of 4 recordings of records100 are missing; fetch them by: wget") as error:
        read(tmp_path / "d")
    command = str(error.value).split("fetch them by: ")[1]
    assert f"-P {tmp_path / 'd'} https://physionet.org/files/ptb-xl/1.0.3/records100/, or take those that are there: --skip-broken" in command
    points, _, warnings, _ = read(tmp_path / "d", skip_broken=True)
    assert points.n == 2 and warnings == (f"the data {tmp_path / 'd'}: 2 of 4 recordings of records100 are missing and left out, such as 2",)
    os.remove(tmp_path / "d" / "records100" / "00000" / "00001_lr.dat")
    with one_line("3 of 4 recordings"):
        read(tmp_path / "d")


def test_what_a_download_left_unfinished_is_missing_too(tmp_path):
    write_ptbxl(tmp_path / "d", CODES)
    path = tmp_path / "d" / "records100" / "00000"
    (path / "00002_lr.dat").write_bytes((path / "00002_lr.dat").read_bytes()[:-2])
    (path / "00003_lr.hea").write_text("")
    with one_line(r"2 of 4 recordings of records100 are missing \(2 of them cut off\); fetch them by: wget .*--skip-broken"):
        read(tmp_path / "d")
    assert read(tmp_path / "d", skip_broken=True).points.n == 2


@pytest.mark.parametrize("given", ["", "physionet.org", "physionet.org/files/ptb-xl/1.0.3/records100", "physionet.org/files/ptb-xl/1.0.3/records100/00000"])
def test_ptbxl_is_not_read_without_its_table(tmp_path, given):
    home = tmp_path / "d" / "physionet.org" / "files" / "ptb-xl" / "1.0.3"
    home.parent.mkdir(parents=True)
    write_ptbxl(home, CODES)
    with one_line(f"holds recordings whose labels are in a table of another folder; give that folder, {home}$"):
        read(tmp_path / "d" / given)
    write_record(home / "mine", "a", signal(11))
    assert len(read_folder(home / "mine")) == 1


def test_the_table_of_ptbxl_alone(tmp_path):
    write_ptbxl(tmp_path / "d", CODES, ())
    with one_line("4 of 4 recordings of records100 are missing; fetch them by: wget .*records100/$"):
        read(tmp_path / "d", skip_broken=True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("'AFIB'", "'AFIBB'", "ptbxl_database.csv, record 2: unknown statement 'AFIBB'; did you mean 'AFIB'"),
        ("{'AFIB': 0.0}", "AFIB", "record 2: expected scp_codes such as {'NORM': 100.0}, got 'AFIB'"),
        ("{'AFIB': 0.0}", "__import__('os')", "record 2: expected scp_codes such as"),
        ("scp_codes", "codes", "lacks the column 'scp_codes'"),
        ("\n2,1.0", "\nx,1.0", "expected a number as ecg_id, got 'x'"),
        ("records100/00000/00002_lr", "../00002_lr", "record 2: expected a file of its folder, got '../00002_lr'"),
    ],
)
def test_a_table_of_ptbxl_that_cannot_be_used(tmp_path, old, new, says):
    write_ptbxl(tmp_path / "d", CODES)
    edit(tmp_path / "d" / "ptbxl_database.csv", old, new)
    with one_line(says) as error:
        read(tmp_path / "d")
    assert "\n" not in str(error.value)


def test_a_record_at_another_rate_than_its_folder(tmp_path):
    write_ptbxl(tmp_path / "d", CODES)
    edit(tmp_path / "d" / "records100" / "00000" / "00003_lr.hea", "12 100 1000", "12 500 1000")
    with one_line("recording 3: 00003_lr.hea has 500 Hz, expected 100"):
        read(tmp_path / "d")


def test_the_slower_rate_that_is_fast_enough(tmp_path):
    write_ptbxl(tmp_path / "both", CODES, (100, 500))
    write_ptbxl(tmp_path / "slow", CODES)
    asked = (50, 100, 250, 500, 1000)
    assert [read_folder(tmp_path / "both", rate)[0].rate for rate in asked] == [100, 100, 500, 500, 500]
    assert [read_folder(tmp_path / "slow", rate)[0].rate for rate in asked] == [100] * 5
    account = Account()
    assert len(list(prepare(read_folder(tmp_path / "slow", 250), Preparation(rate=250), account))) == 4
    assert "4 of 4 recordings of 100 Hz brought to 250: they hold nothing above 50 Hz" in account.lines[0]


def test_records_of_ptbxl_without_their_table(tmp_path):
    write_ptbxl(tmp_path / "d", CODES)
    (tmp_path / "d" / "ptbxl_database.csv").unlink()
    with one_line("holds records of PTB-XL and not their table, ptbxl_database.csv.*1.0.3/ptbxl_database.csv"):
        read(tmp_path / "d")


def test_a_source_of_statements_leaves_the_column_to_the_target(tmp_path):
    write_ptbxl(tmp_path / "d", CODES)
    (_, y), layout, warnings, _ = read(tmp_path / "d", label_column="diagnosis")
    assert layout.labels and layout.label_column is None and y.ndim == 2
    assert "it has no metadata.csv with a column 'diagnosis'; its labels are the SCP statements of its recordings" in warnings[-1]
    write_record(tmp_path / "bare", "a", signal(11))
    with one_line("--label-column names a column of metadata.csv, which is not there; write one, or drop --label-column"):
        read(tmp_path / "bare", label_column="diagnosis")


def test_labels_of_statements_are_no_other_labels(tmp_path):
    write_ptbxl(tmp_path / "d", CODES)
    with one_line("the labels known are '0', '1', these recordings have SCP statements, of which '0' is none"):
        read(tmp_path / "d", like=Layout(labels=("0", "1")))


# CPSC2018


def test_the_conversion_of_the_benchmark(tmp_path):
    folder = tmp_path / "d"
    for k in (1, 2, 10):
        write_record(folder / "records100", str(k), signal(11 + k, seed=k))
    (folder / "icbeb_database.csv").write_text(
        "ecg_id,filename,validation,age,sex,scp_codes,patient_id,strat_fold\n"
        "10,A0010,False,44.0,1,{'VPC': 100},10,3\n1,A0001,False,,0,\"{'CRBBB': 100, 'AFIB': 100}\",1,10\n2,A0002,False,61,1,{'STE_': 100},2,1\n"
    )
    (x, y), layout, _, _ = read(folder)
    assert x.shape == (3, 12, 1000) and layout.labels == NINE
    assert [[NINE[k] for k in row.nonzero()[:, 0]] for row in y] == [["AFIB", "CRBBB"], ["STE_"], ["PVC"]]
    assert [(r.id, r.fold, r.age, r.sex) for r in read_folder(folder)] == [("1", 10, None, "female"), ("2", 1, 61, "male"), ("10", 3, 44, "male")]
    os.remove(folder / "records100" / "2.dat")
    with one_line("1 of 3 recordings of records100 are missing; convert the data set again"):
        read(folder)


def test_the_layout_of_the_challenge(tmp_path):
    folder = tmp_path / "d" / "Training_WFDB"
    diagnoses = {"A0001": "59118001,164909002", "A0002": "PVC", "A0003": "Unknown", "A0004": "426783006", "A0005": "426783006,10370003", "Q0001": "1234567"}
    for name, dx in diagnoses.items():
        write_challenge(folder, name, signal(12, 500), dx)
    (folder / "B.mat").write_bytes(b"")
    (x, y), layout, warnings, _ = read(tmp_path / "d")
    assert x.shape == (5, 12, 1000) and layout.labels == NINE
    assert y[2].tolist() == [-1] * 9
    assert [[NINE[k] for k in row.nonzero()[:, 0]] for row in y[[0, 1, 3, 4]]] == [["CLBBB", "CRBBB"], ["PVC"], ["NORM"], []]
    assert [line.split(": ", 1)[1] for line in warnings] == [
        "1 of 6 records are no part of CPSC2018 and left out: 'Q0001'",
        "1 of 7 .mat files have no header and are left out: 'B.mat'",
        "1 SNOMED codes stand for no known statement and are left out: '10370003'",
        "1 statements are none of the 9 classes and are left out: 'SR'",
        "1 of 5 recordings have no labels, a row of -1",
    ]
    one = read_folder(tmp_path / "d")[0]
    assert (one.age, one.sex, one.patient, one.rate) == (61, "female", "A0001", 500)


@pytest.mark.parametrize("raw", [b"MATLAB 5.0 MAT-file" + bytes(24_000), bytes(24_024)])
def test_a_mat_file_of_another_kind_in_the_challenge(tmp_path, raw):
    write_challenge(tmp_path / "d", "A0001", signal(10, 500), "PVC")
    (tmp_path / "d" / "A0001.mat").write_bytes(raw)
    with one_line("A0001.mat is no MATLAB 4 file with a matrix of 16-bit integers"):
        read(tmp_path / "d")


def test_an_unknown_diagnosis(tmp_path):
    write_challenge(tmp_path / "d", "A0001", signal(10, 500), "RBB")
    with one_line("A0001.hea: unknown statement 'RBB'; did you mean 'RBBB'"):
        read(tmp_path / "d")


def test_structs_as_they_were_published(tmp_path):
    for k, name in enumerate(("A0001", "A0002", "A0003")):
        write_struct(tmp_path / "d" / f"TrainingSet{k + 1}", name, signal(11, 500, k))
    found = read(tmp_path / "d")
    assert found.points.x.shape == (3, 12, 1000) and found.points.y is None and "there is no REFERENCE.csv" in found.warnings[0]
    np.testing.assert_allclose(found.points.x[1, :, 100:], signal(10, seed=1)[:, 100:], atol=0.02)
    (tmp_path / "d" / "REFERENCE.csv").write_text("Recording,First_label,Second_label,Third_label\nA0001,5,2,\nA0003,7.0,,\n")
    (_, y), layout, warnings, _ = read(tmp_path / "d")
    assert layout.labels == NINE and y[1].tolist() == [-1] * 9
    assert [[NINE[k] for k in row.nonzero()[:, 0]] for row in y[[0, 2]]] == [["AFIB", "CRBBB"], ["PVC"]]
    assert len(warnings) == 2 and "1 of 3 recordings are not in REFERENCE.csv" in warnings[0]
    one = read_folder(tmp_path / "d")[0]
    assert (one.age, one.sex, one.rate, one.statements) == (42, "male", 500, ("CRBBB", "AFIB"))
    (tmp_path / "d" / "TrainingSet2" / "REFERENCE.csv").write_text("Recording,First_label,Second_label,Third_label\nA0002,1,,\n")
    assert [one.statements for one in read_folder(tmp_path / "d").facts] == [("CRBBB", "AFIB"), ("NORM",), ("PVC",)]
    (tmp_path / "d" / "REFERENCE.csv").write_text("Recording,First_label\nA0001,12\n")
    with one_line("REFERENCE.csv, recording A0001: expected a class of CPSC2018 from 1 to 9, got '12'"):
        read(tmp_path / "d")


def write_wrong(path, kind):
    path.mkdir()
    if kind == "no struct":
        savemat(path / "a.mat", {"val": np.ones((12, 5000))})
    elif kind == "other fields":
        savemat(path / "a.mat", {"ECG": {"data": np.ones((12, 5000))}})
    elif kind == "transposed":
        write_struct(path, "a", signal(10, 500).T)
    elif kind == "few leads":
        write_struct(path, "a", signal(10, 500)[:8])
    elif kind == "no samples":
        write_struct(path, "a", np.zeros((12, 0)))
    elif kind == "words":
        write_struct(path, "a", "none")
    elif kind == "cut off":
        write_struct(path, "a", signal(10, 500))
        (path / "a.mat").write_bytes((path / "a.mat").read_bytes()[:9000])
    else:
        (path / "a.mat").write_bytes({"new": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400), "none": b"no matrix at all", "empty": b""}[kind])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no struct", "a.mat holds no struct ECG with sex, age and data"),
        ("other fields", "a.mat holds no struct ECG with sex, age and data"),
        ("transposed", r"a.mat holds data \(5000, 12\) of float64, expected numbers \(12 leads, samples\); transpose"),
        ("few leads", r"a.mat holds data \(8, 5000\)"),
        ("no samples", r"a.mat holds data \(12, 0\)"),
        ("words", r"a.mat holds data"),
        ("cut off", "a.mat is .*damaged"),
        ("new", "a.mat is of MATLAB 7.3, only files up to 7 are read"),
        ("none", "a.mat is no MATLAB file, or damaged"),
        ("empty", "a.mat is no MATLAB file, or damaged"),
    ],
)
def test_mat_files_of_the_wrong_kind(tmp_path, kind, says):
    write_wrong(tmp_path / "d", kind)
    with one_line(says) as error:
        read(tmp_path / "d")
    assert "\n" not in str(error.value)


def test_statements_of_a_source_are_those_of_the_target(tmp_path):
    write_ptbxl(tmp_path / "s", CODES)
    for name, dx in (("A0001", "59118001"), ("A0002", "PVC")):
        write_challenge(tmp_path / "t", name, signal(12, 500), dx)
    source = read(tmp_path / "s")
    target = read(tmp_path / "t", like=source.layout)
    assert target.layout.labels == STATEMENTS and target.points.y.nonzero().tolist() == [[0, STATEMENTS.index("CRBBB")], [1, STATEMENTS.index("PVC")]]
    nine = read(tmp_path / "s", like=Layout(labels=NINE))
    assert nine.points.y.sum(1).tolist() == [1, 1, 2, 0] and "1 statements are none of the 9 classes and are left out: 'SR'" in nine.warnings[0]


# Real data


@pytest.fixture(scope="module")
def real(data_folder):
    return SimpleNamespace(ptbxl=read(data_folder / "ptbxl"), brugada=read(data_folder / "brugada"), folder=data_folder)


def test_ptbxl(real):
    (x, y), layout, warnings, owners = real.ptbxl
    assert x.shape == (500, 12, 1000) and layout.labels == STATEMENTS and warnings == ()
    assert x[0, :3, 0].tolist() == pytest.approx([-0.119, -0.055, 0.064]) and float(x.std()) == pytest.approx(0.2304, abs=1e-4)
    counts = dict(zip(STATEMENTS, y.sum(0).int().tolist(), strict=True))
    assert {name: counts[name] for name in ("SR", "NORM", "IMI", "AFIB", "PVC", "STE_")} == {
        "SR": 407,
        "NORM": 297,
        "IMI": 37,
        "AFIB": 13,
        "PVC": 16,
        "STE_": 0,
    }
    assert float(einthoven(x).abs().max()) < 0.003 and float((twelve(eight(x)) - x).abs().max()) < 0.003
    assert len(owners) == 500 and 400 < len(set(owners)) < 500


def test_folds_of_ptbxl(real):
    facts = read_folder(real.folder / "ptbxl").facts
    parts = published(facts)
    assert [sum(part == name for part in parts.values()) for name in ("train", "validation", "test")] == [353, 81, 66]
    split = stratify([one.id for one in facts], strata(facts), 10, 0, [one.patient for one in facts])
    assert len({(one.patient, split[one.id]) for one in facts}) == len({one.patient for one in facts}) and len(hash_of(split)) == 16
    normal = [sum("NORM" in (one.statements or ()) for one in facts if split[one.id] == fold) for fold in range(1, 11)]
    assert sum(normal) == 297 and max(normal) - min(normal) <= 6


def test_brugada(real):
    (x, y), layout, warnings, owners = real.brugada
    assert x.shape == (181, 12, 1000) and y.bincount().tolist() == [143, 32, 6] and layout == replace(PREPARED, labels=("0", "1", "2"), label_column="brugada")
    assert len(warnings) == 1 and "6 of 181 records have another code" in warnings[0] and len(set(owners)) == 181
    assert read(real.folder / "brugada", label_column="sudden_death").layout.label_column == "sudden_death"


def test_cpsc(real):
    (x, y), layout, warnings, _ = read(real.folder / "cpsc2018" / "physionet2020")
    assert x.shape == (6, 12, 1000) and layout.labels == NINE and y.sum(0).tolist() == [1, 2, 0, 0, 2, 0, 1, 0, 0] and warnings == ()
    assert NINE[int(y[0].argmax())] == "CRBBB" and float(einthoven(x).abs().max()) < 0.01
    (x, y), _, warnings, _ = read(real.folder / "cpsc2018" / "original")
    assert x.shape == (5, 12, 1000) and y is None and len(warnings) == 1 and float(einthoven(x).abs().max()) < 1e-5
    first = read_folder(real.folder / "cpsc2018" / "original")[0]
    assert (first.id, first.sex, first.age, first.rate, first.signal.shape) == ("A1980", "male", 52, 500, (12, 5000))
    assert read(real.folder / "cpsc2018" / "physionet2020", like=real.ptbxl.layout).points.y.shape == (6, 71)


def test_an_array_beside_a_folder_is_taken_as_it_is(tmp_path):
    for k in range(24):
        write_record(tmp_path / "d", f"r{k:02}", signal(4.0, seed=k))
    (x, _), layout, _, _ = read(tmp_path / "d", seconds=2.0, leads=("I", "II"), band=(0.5, 40.0))
    write_samples(tmp_path / "t.npz", Points(x + 0.1), 0, layout)
    asked = ["--seconds", "2", "--band", "0.5", "40", "--leads", "I", "II", "--label-column", "diagnosis"]
    (tmp_path / "d" / "metadata.csv").write_text("id,diagnosis\n" + "".join(f"r{k:02},{'ab'[k % 2]}\n" for k in range(24)))
    told = "t.npz is an array and taken as it is, folders alone heed --seconds, --band, --leads, --label-column"
    for first, second in (("t.npz", "d"), ("d", "t.npz")):
        out = CliRunner().invoke(app, ["inspect", *spread(["--source-data", str(tmp_path / first), "--target-data", str(tmp_path / second), *asked])])
        assert out.exit_code == 0 and out.stderr.count(told) == 1, out.stderr
    scored = CliRunner().invoke(app, ["evaluate", str(tmp_path / "t.npz"), "--reference", str(tmp_path / "d")])
    assert scored.exit_code == 0 and "energy" in scored.stdout, scored.stderr
    how = {"seconds": 2.0, "band": [0.5, 40.0], "leads": ["I", "II"], "label_column": "diagnosis"}
    for source, target in (("t.npz", "d"), ("d", "t.npz")):
        task = files(4, source=str(tmp_path / source), target=str(tmp_path / target), **how)
        assert task.data.source.x.shape == (24, 2, 200) and task.data.target.x.shape == (4, 2, 200)


def test_leads_of_an_array_in_another_case_are_those_of_a_folder(tmp_path):
    for k in range(3):
        write_record(tmp_path / "d", f"r{k}", signal(seed=k))
    low = Layout(columns=tuple(name.lower() for name in TWELVE), rate=100.0)
    (x, _), layout, _, _ = read(tmp_path / "d", like=low)
    assert x.shape == (3, 12, 1000) and layout.columns == low.columns
    write_record(tmp_path / "few", "a", signal()[:8], leads=TWELVE[:8])
    with one_line(r"take leads without that, of the source too \(--leads I II III"):
        read(tmp_path / "few", like=PREPARED)
