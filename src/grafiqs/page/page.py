"""The page itself: template, style, scripts and values in one file that loads nothing from elsewhere."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from grafiqs.run.finished import PAGE_MARK

SCRIPTS = (
    "data",
    "plots",
    "viewer",
    "gallery",
    "faces",
    "threshold",
    "people",
    "evaluation",
    "comparison",
    "main",
)
"""The scripts, in the order in which they run."""


def rendered(title: str, values: dict[str, Any]) -> str:
    """The page with these values. A name in them stays a name, whatever stands in it."""
    within = files("grafiqs.page")
    environment = Environment(
        loader=PackageLoader("grafiqs", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        mark=Markup(PAGE_MARK),  # noqa: S704 - our own, as are style and scripts
        style=Markup(within.joinpath("style.css").read_text(encoding="utf-8")),  # noqa: S704
        scripts=[Markup(within.joinpath(f"{name}.js").read_text(encoding="utf-8")) for name in SCRIPTS],  # noqa: S704
        data=Markup(as_json(values)),  # noqa: S704 - nothing in it can end the element
    )


def as_json(values: Any) -> str:
    r"""Values as JSON that can stand in an element `script`.

    >>> as_json({"<script>": "</script>"})
    '{"\\u003cscript\\u003e":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
