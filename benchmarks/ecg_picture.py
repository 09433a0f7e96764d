"""The picture of docs/ecg.md, from a run of plans/ecg.toml: a held-out record and one of each method, on ECG paper.

python benchmarks/ecg_picture.py RUN [--statement CLBBB] [--methods scratch "finetune, 300 steps" tgdp]
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

from diffgraft.pages.clouds import SYNTHETIC, shown
from diffgraft.pages.records import read_run
from diffgraft.pages.signals import signal_figures

COLUMNS, GAP, TITLE = 2, 24, 30
STYLE = """text { font: 16px system-ui, sans-serif; fill: #1d1d1b } .mark { font-weight: 650 } .title { font-size: 20px; font-weight: 600 }
path { fill: none } .fine { stroke: #f6dcd9; stroke-width: .6 } .coarse { stroke: #e9aca6; stroke-width: .8 }
.trace, .pulse { stroke: #1d1d1b; stroke-width: 1.4 }"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--statement", default="CLBBB")
    parser.add_argument("--methods", nargs="+", default=["scratch", "finetune, 300 steps", "tgdp"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs/images/ecg.svg")
    args = parser.parse_args()
    run = read_run(args.run)
    data = shown(run, run.groups[0])
    if data is None or not data.synthetic:
        raise SystemExit(f"{args.run} has no samples of a {SYNTHETIC} world; pictures of patients' records are not for documents")
    if args.statement not in data.test.labels:
        raise SystemExit(f"--statement {args.statement}: expected one of {', '.join(data.test.labels)}")
    having = data.test.y == data.test.labels.index(args.statement)
    test = replace(data.test, x=data.test.x[having], y=data.test.y[having])
    methods = [(e, cloud) for e, cloud in data.methods if e.name in args.methods]
    (figure,) = signal_figures(replace(data, parts={"test": test}, methods=methods))
    args.out.write_text(sheets([(panel.title, str(panel.plot)) for panel in figure.panels]), encoding="utf-8")
    print(args.out)


def sheets(panels):
    """Sheets with titles, beside each other, as one picture."""
    width, height = (float(size) for size in re.findall(r'viewBox="0 0 (\S+) (\S+)"', panels[0][1])[0])
    across, down = width + GAP, height + TITLE + GAP
    rows = -(-len(panels) // COLUMNS)
    parts = []
    for k, (title, plot) in enumerate(panels):
        left, top = across * (k % COLUMNS), down * (k // COLUMNS)
        parts.append(f'<text class="title" x="{left:g}" y="{top + 20:g}">{title}</text>')
        parts.append(plot.replace("<svg ", f'<svg x="{left:g}" y="{top + TITLE:g}" width="{width:g}" height="{height:g}" ', 1))
    size = f"{across * COLUMNS - GAP:g} {down * rows - GAP:g}"
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"><style>{STYLE}</style>{ground}{"".join(parts)}</svg>\n'


if __name__ == "__main__":
    main()
