"""Writes docs/api.md, the reference of every public name, from signatures and docstrings: python tools/api.py."""

import inspect
import re
from pathlib import Path
from typing import Any

import diffgraft as dg
from diffgraft.methods.catalog import METHODS
from diffgraft.metrics.catalog import METRICS
from diffgraft.nets.catalog import NETS
from diffgraft.samplers import SAMPLERS
from diffgraft.tasks.catalog import TASKS

OUT = Path(__file__).parent.parent / "docs" / "api.md"
GROUPS = {
    "Data": ("Data", "Task", "Transform"),
    "Models": ("Net", "Denoiser", "load", "save", "with_schedule", "drop_label"),
    "Guidance": ("Guided", "toward", "ratio_shift", "interval"),
    "Schedules": ("Schedule", "vp", "cosine", "rectified", "edm", "discrete"),
    "Verbs": ("sample", "evaluate", "inspect", "report"),
}


def main() -> None:
    """Write the page."""
    OUT.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole reference, as Markdown."""
    parts = ["# Reference", "", "Every public name, from its docstring (`python tools/api.py` writes this page). `import diffgraft as dg`."]
    for title, names in GROUPS.items():
        parts += ["", f"## {title}"]
        for name in names:
            parts += entry(f"dg.{name}", getattr(dg, name))
    parts += ["", "## Methods", "", "`model = dg.methods.NAME(settings).fit(source, data, generator)`; plans and commands call them by their id."]
    for name, kind in METHODS.items():
        parts += entry(f"dg.methods.{kind.__name__}", kind, f"`{name}`. ")
    parts += ["", "## Tasks", "", "`task = dg.tasks.ROOM.NAME(n_target, seed)`; plans name the room, and the world where it has several."]
    for room, worlds in TASKS.items():
        for name, make in worlds.items():
            parts += entry(f"dg.tasks.{room}.{name}", make)
    parts += ["", "## Metrics", "", "| id | what it measures | better | needs |", "|---|---|---|---|"]
    parts += [f"| `{name}` | {m.says} | {m.best} | {', '.join(m.needs) or 'samples and reference'} |" for name, m in METRICS.items()]
    parts += ["", "## Samplers and nets", "", "| id | what it is |", "|---|---|"]
    parts += [f"| `{name}` | {first_line(thing)} |" for name, thing in (*SAMPLERS.items(), *NETS.items())]
    return "\n".join(parts) + "\n"


def entry(name: str, thing: Any, before: str = "") -> list[str]:
    """Heading, signature and docstring of one name."""
    body = inspect.cleandoc(thing.__doc__ or "")
    head, _, rest = body.partition("\n")
    sections = re.split(r"\n(?=(?:Args|Returns|Raises|Reference|References|Attributes|Example):)", rest.strip())
    out = ["", f"### {name}", "", "```text", f"{name}{signature(thing)}", "```", "", before + head]
    for section in sections:
        out += ["", "```text", section.strip(), "```"] if re.match(r"\w+:", section) else ["", section.strip()] if section.strip() else []
    return out


def signature(thing: Any) -> str:
    """The arguments with their defaults, without types."""
    shown = []
    for p in inspect.signature(thing).parameters.values():
        default = "" if p.default is p.empty else f"={p.default!r}" if not callable(p.default) else "=..."
        shown += ["*"] if p.kind is p.KEYWORD_ONLY and "*" not in shown else []
        shown.append(p.name + default)
    return f"({', '.join(shown)})"


def first_line(thing: Any) -> str:
    """The first line of a docstring."""
    return inspect.cleandoc(thing.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    main()
