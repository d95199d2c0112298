"""What every page is made with: the templates, and style and script, which stand in the page itself."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from trt_mpq.report import wording

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_UNIT = re.compile(r"(?<=\d) (?=[%GMkmsµd])|(?<=±) (?=\d)")


def page(template: str, **values: object) -> str:
    """The page that `template` makes of `values`, as HTML text; write it as UTF-8.

    A Content-Security-Policy in the page forbids every fetch and every script but its own, so that even a
    group name that got past the escaping could do nothing.
    """
    from markupsafe import Markup

    style, script = Markup(_asset("style.css")), Markup(_asset("page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"wording": wording, "style": style, "script": script, "script_hash": f"sha256-{digest}"}
    return _environment().get_template(template).render(**shared, **values)


@cache
def _asset(name: str) -> str:
    return files("trt_mpq.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trt_mpq.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(tight=_tight, capitalized=_capitalized, breakable=_breakable, prose=_prose, words=_words)
    return environment


def _clean(value: object) -> object:
    """What a template prints: plain text loses control characters, markup made here is left alone."""
    return wording.printable(value) if type(value) is str else value


def _tight(text: object) -> str:
    """`text` with no-break spaces between numbers and units."""
    return _UNIT.sub("\u00a0", str(text))


def _breakable(name: str) -> Markup:
    """A graph name that may be broken after its separators."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[/.:_])(?=[^/.:_])", wording.printable(name)))


def _prose(text: str) -> Markup:
    """A sentence whose `quoted` parts are commands or names."""
    from markupsafe import Markup, escape

    parts = wording.printable(text).split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def _words(command: str) -> Markup:
    """A command whose words stay whole where a line is long enough for them."""
    from markupsafe import Markup

    words = wording.printable(command).split(" ")
    return Markup(" ").join(Markup('<span class="word">{}</span>').format(word) for word in words)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
