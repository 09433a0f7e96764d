"""Pages from templates: one HTML file each, with the style inside."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def filled(name: str, **values: Any) -> str:
    """A template of this package with its values; what is no `Markup` is escaped."""
    env = Environment(loader=PackageLoader("diffgraft", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return env.get_template(name).render(style=style, **values).lstrip()
