"""The model card of a model folder, filled from its configuration."""

from typing import Any


def card(config: dict[str, Any], name: str) -> str:
    """Markdown: what the model is, where it came from, how to use it."""
    origin, tree = config["origin"], config["model"]
    facts = {
        "Kind": "guided: a frozen base with a fitted shift" if tree["kind"] == "guided" else "a plain network",
        "Sample shape": "x".join(map(str, config["shape"] or [])) or "unknown",
        "Method": origin.get("method", {}).get("name", "not recorded") if isinstance(origin.get("method"), dict) else origin.get("method", "not recorded"),
        "Target samples": origin.get("n_target", "not recorded"),
        "Source samples": origin.get("n_source", "not recorded"),
        "Seed": origin.get("seed", "not recorded"),
        "Seconds of fitting": origin.get("fit_seconds", "not recorded"),
        "Written by": f"diffgraft {config['diffgraft']}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    files = "\n".join(f"- `{file}` sha256 `{value[:16]}...`" for file, value in config["files"].items())
    return f"""# {name}

A diffusion model in the folder format of diffgraft.

| | |
|---|---|
{table}

## Use

```python
import diffgraft as dg

model = dg.load("{name}")
x = dg.sample(model, n=16)  # a tensor, in data units
```

or `diffgraft sample {name} -n 16 --out samples.npz`.

## Weights

{files}

## Limits

A model fitted to few samples repeats their peculiarities. Compare its samples with target data that no fit has seen:
`diffgraft evaluate samples.npz --reference held_out.npz`.
"""
