"""The model card of a model folder, filled from its configuration: Markdown that stands for itself, with front matter for model hubs.

Only what is known is said. `origin` of the configuration may hold `method` (a name, or name and settings), `changed`
(settings other than the defaults), `task`, `source`, `target`, `n_source`, `n_target`, `seed`, `fit_seconds`, `data`
(hashes), `metrics` and `notes`.
"""

import json
import re
import shlex
from typing import Any

from ..terms import METHODS, METRICS, count, direction, metric_title, number
from .markdown import code, plain, table
from .noted import noted

MOST = 40
"""Names of features or classes that are listed."""
FILES = {
    "transform": "data units, and how often each label occurs",
    "base": "the frozen source network",
    "ratio": "the learned log ratio",
    "tuned": "the adapted network",
    "model": "the network",
}
"""What a weight file holds, by the beginning of its name."""


def card(config: dict[str, Any], name: str) -> str:
    """Markdown: what the model is, where it came from, what it scored, how to use it.

    Args:
        config: What `config.json` of the folder holds.
        name: Name of the folder.
    """
    parts = [front_matter(config), f"# {plain(name)}", summary(config), table(["", ""], facts(config))]
    parts += [*_section("Scores", scores(config)), *_section("What the method noted", noted(_dict(config, "notes")))]
    parts += _section("Use", use(config, name))
    rows = [(f"`{file}`", _holds(file), f"`{value}`") for file, value in config["files"].items()]
    parts += ["## Files", table(["file", "holds", "SHA-256"], rows), "## Limits", limits(config)]
    return "\n\n".join(parts) + "\n"


def _dict(config: dict[str, Any], key: str) -> dict[str, Any]:
    found = config["origin"].get(key)
    return found if isinstance(found, dict) else {}


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def front_matter(config: dict[str, Any]) -> str:
    """What model hubs read; nothing that is not known."""
    kind = {1: "tabular", 2: "time-series", 3: "images"}.get(len(config["shape"] or []))
    method = method_of(config)
    known = method if re.fullmatch(r"[a-z0-9_]+", method) and method != "pretrain" else None
    tags = ["diffusion", *(["transfer-learning"] if known else []), *filter(None, (kind, known))]
    return "\n".join(["---", "library_name: diffgraft", "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---"])


def method_of(config: dict[str, Any]) -> str:
    """Id of the method; empty where it is not known."""
    method = config["origin"].get("method") or ""
    return str(method.get("name", "") if isinstance(method, dict) else method)


def whole(origin: dict[str, Any], key: str) -> int | None:
    """A count that is known."""
    return origin[key] if isinstance(origin.get(key), int) else None


def summary(config: dict[str, Any]) -> str:
    """What the model is, in a sentence, and what its method does in another."""
    origin, method = config["origin"], method_of(config)
    n_target, n_source = whole(origin, "n_target"), whole(origin, "n_source")
    what = f"A diffusion model of {samples_of(config)}"
    task = f" ({plain(origin['task'])})" if origin.get("task") else ""
    if method == "pretrain":
        return f"{what}, trained on {count(n_source, 'sample')}{task}: a source model to adapt." if n_source else f"{what}{task}."
    if not method:
        return f"{what}{task}."
    beside = f" beside {count(n_source, 'source sample')}" if n_source else ""
    on = f" to {count(n_target, 'target sample')}{beside}" if n_target else ""
    says = f" {METHODS[method]}" if method in METHODS else ""
    return f"{what}, adapted by {code(method)}{on}{task}.{says}"


def samples_of(config: dict[str, Any]) -> str:
    """What a sample is."""
    shape = config["shape"] or []
    sizes = " x ".join(map(str, shape[1:]))
    if len(shape) == 1:
        return f"rows of {count(shape[0], 'feature')}"
    if len(shape) == 2:
        return f"signals of {count(shape[0], 'channel')} and {count(shape[1], 'value')}"
    return f"{sizes} images with {count(shape[0], 'channel')}" if len(shape) == 3 else f"samples of shape {shape[0]} x {sizes}" if shape else "samples"


def recordings_of(layout: dict[str, Any]) -> str | None:
    """How recordings became samples."""
    seconds, rate, band = _finite(layout.get("seconds"), "g"), _finite(layout.get("rate"), "g"), layout.get("band")
    if not seconds or not rate:
        return None
    kept = [_finite(end, "g") for end in band] if isinstance(band, list | tuple) else []
    return f"windows of {seconds} s at {rate} Hz" + (f", {kept[0]} to {kept[1]} Hz" if len(kept) == 2 else "")


def facts(config: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of what is known, beside each other."""
    origin, layout, tree = config["origin"], config.get("layout") or {}, config["model"]
    hashes = _dict(config, "data") or ({"training": origin["data"]} if origin.get("data") else {})
    size = layout.get("size")
    rows = {
        "Method": code(method_of(config)) if method_of(config) else None,
        "Settings other than the defaults": ", ".join(f"{plain(k)} = {plain(v)}" for k, v in _dict(config, "changed").items()),
        "Built as": kinds(tree),
        "Shape of a sample": " x ".join(map(str, config["shape"] or [])),
        "Features": names(layout.get("columns")),
        "Image size": f"{size} x {size}" if size else None,
        "Recordings": recordings_of(layout),
        "Labels": labels_of(config),
        "Label column": None if layout.get("label_column") is None else plain(layout["label_column"]),
        "Source model": plain(origin.get("source") or ""),
        "Target data": plain(origin.get("target") or ""),
        "Target samples": _finite(whole(origin, "n_target"), ","),
        "Source samples": _finite(whole(origin, "n_source"), ","),
        **{f"SHA-256 of the {plain(part)} data": code(value) for part, value in hashes.items()},
        "Seed": plain(origin.get("seed", "")),
        "Seconds of fitting": _finite(origin.get("fit_seconds"), ".1f"),
        "Written by": f"diffgraft {config['diffgraft']}",
    }
    return [(key, str(value)) for key, value in rows.items() if value not in (None, "")]


def kinds(tree: dict[str, Any]) -> str:
    """The tree of a model in words."""
    match tree["kind"]:
        case "net":
            return f"{_network(tree['module'])}, predicts {tree['predicts']}, {tree['schedule']['name']} schedule"
        case "guided":
            shift = "a learned log ratio" if tree["shift"]["kind"] == "ratio" else "the way to a tuned model"
            return f"{kinds(tree['base'])}; guided by {shift} with weight {_weight(tree)}"
        case "steered":
            return f"{kinds(tree['base'])}; takes a guidance weight, {_weight(tree)} where none is given"
    return kinds(tree["base"])


def _weight(tree: dict[str, Any]) -> str:
    weight = tree["weight"]
    return f"{weight['weight']} inside a range of noise levels" if isinstance(weight, dict) else str(weight)


def _network(module: dict[str, Any]) -> str:
    if "net" not in module:
        return f"a network of its owner's, {code(module.get('class'))}"
    if module["net"] == "diffusers":
        return f"{code(module['kind'])} of diffusers"
    sizes = [f"{key} {module[key]}" for key in ("width", "depth", "levels") if module.get(key)]
    return f"network {module['net']}" + (f" ({', '.join(sizes)})" if sizes else "")


def names(found: list[str] | None) -> str:
    """Some names, one after the other."""
    rest = [] if not found or len(found) <= MOST else [f"{len(found) - MOST} more"]
    return ", ".join([*(plain(name) for name in (found or [])[:MOST]), *rest])


def classes(tree: dict[str, Any]) -> int:
    """How many labels a model takes."""
    match tree["kind"]:
        case "guided":
            return max(classes(tree["base"]), classes(tree["shift"]))
        case "toward":
            return classes(tree["tuned"])
        case "with_schedule" | "steered":
            return classes(tree["base"])
        case "ratio":
            return int(tree["module"].get("n_classes") or 0)
    return int(tree.get("n_classes") or 0)


def labels_of(config: dict[str, Any]) -> str:
    """The labels that a model takes, with their names where they have some."""
    n, known = classes(config["model"]), (config.get("layout") or {}).get("labels") or []
    if not n:
        return ""
    said = names([f"{k} {name}" for k, name in enumerate(known)])
    return said if said else f"0 to {n - 1}" if n > 1 else "0"


def scores(config: dict[str, Any]) -> str:
    """A table of scores with their floors."""
    found = _dict(config, "metrics")
    rows = [_score(metric, s) for metric, s in found.items()]
    if not rows:
        return ""
    said = "Samples against target data that the fit has not seen. The floor is what perfect samples score: a value near it cannot be told from perfect."
    return f"{said}\n\n{table(['score', 'value', 'floor', 'which way', 'points'], rows)}"


def _score(metric: str, score: Any) -> tuple[str, ...]:
    s = score if isinstance(score, dict) else {"value": score}
    way, points = direction(metric) if metric in METRICS else "", _finite(s.get("n") or None, ",")
    return f"{plain(metric_title(metric))} ({code(metric)})", _finite(s.get("value")), _finite(s.get("floor")), way, points


def _finite(value: Any, form: str = "") -> str:
    """A number where there is one."""
    if not isinstance(value, int | float) or value != value:
        return ""
    return format(value, form) if form else number(value)


def use(config: dict[str, Any], name: str) -> str:
    """A snippet that runs in the folder that holds the model, and the same on the command line."""
    own = '"class": ' in json.dumps(config["model"])
    needs = "`net` is the network that the model was made of; the folder holds its weights, not its code.\n\n" if own else ""
    python = f"{needs}```python\n{snippet(config, name, own)}\n```"
    if own or not config["shape"]:
        return python
    n, model = classes(config["model"]), shlex.quote(name)
    lines = [f"diffgraft sample {model} -n 16 --out samples.npz"]
    lines += [f"diffgraft sample {model} -n 16 --out one_label.npz --label {n - 1}"] if n else []
    return "\n".join([python, "", "Or from the command line:", "", "```bash", *lines, "```"])


def snippet(config: dict[str, Any], name: str, own: bool = False) -> str:
    """Python that loads the model and samples it.

    Args:
        config: What `config.json` of the folder holds.
        name: Name of the folder.
        own: Whether the network is not one of this package, so that it has to be given.
    """
    shape, n = config["shape"], classes(config["model"])
    lines = ["import torch", ""] if n and shape else []
    lines += ["import diffgraft as dg", "", f"model = dg.load({json.dumps(name)}{', module=net' if own else ''})"]
    if not shape:
        return "\n".join([*lines, "# dg.sample(model, x_start=noise) samples it; the shape of a sample is not known"])
    size = " x ".join(["16", *map(str, shape)])
    lines += [f"x = dg.sample(model, n=16)  # a tensor, {size}, in data units" + ("; labels as often as in the data" if n else "")]
    lines += [f"x = dg.sample(model, y=torch.full((16,), {n - 1}))  # of one label"] if n else []
    if config["model"]["kind"] == "guided":
        lines += ["x = dg.sample(model, n=16, weight=0.5)  # half of the way from the source (0) to the target (1)"]
    if config["model"]["kind"] == "steered":
        lines += ["x = dg.sample(model, n=16, weight=2.0)  # 1 is the fine-tune, more leads further away from the source"]
    return "\n".join(lines)


def _holds(file: str) -> str:
    return next((says for start, says in FILES.items() if file.startswith(start)), "weights")


def limits(config: dict[str, Any]) -> str:
    """What not to expect of it."""
    n = whole(config["origin"], "n_target")
    few = f"A model fitted to {count(n, 'sample')} repeats their peculiarities" if n else "A model repeats the peculiarities of the data that it was fitted to"
    lines = [f"- {few}, and may repeat some of them whole. Compare its samples with data that no fit has seen before they are used for anything:"]
    lines += ["  `diffgraft evaluate samples.npz --reference held_out.npz`."]
    tree = config["model"]
    if tree["kind"] == "guided" and tree["shift"]["kind"] == "ratio":
        lines += ["- Guidance moves the source's samples. Where the source has none, it has little to move."]
    return "\n".join([*lines, "- Biases and errors of the source's data reach the samples too."])
