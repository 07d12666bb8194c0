"""The Jinja templates of the pages, and their style sheets and scripts."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup


def template(name: str) -> Template:
    """A template of this folder; everything that it is given is escaped unless it is Markup."""
    return Environment(
        loader=PackageLoader("bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def asset(name: str) -> Markup:
    """A style sheet or script of the folder ``static``, to be put into a page as it is."""
    return Markup(files("bench.report").joinpath("static", name).read_text(encoding="utf-8"))
