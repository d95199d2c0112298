"""What mkdocs adds to these pages: pages of the repository, the command line's reference, links that hold."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
REPO = "repo/"
"""Where pages of the repository stand among the pages of this folder."""
PAGES = (
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "calib/README.md", "docker/README.md", "engines/README.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "bench" / "results").glob("*.md"))),
)  # fmt: skip
CLI = "cli.md"
_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give results that the navigation does not name a place among the others."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    measured = next(entry["Measured"] for entry in config.nav or () if "Measured" in entry)
    measured += [REPO + path for path in PAGES if path.startswith("bench/") and path not in text]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, or nowhere."""
    for path in PAGES:
        files.append(File.generated(config, REPO + path, content=(ROOT / path).read_text(encoding="utf-8")))
    files.append(File.generated(config, CLI, content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links hold here that are written to hold in the repository."""
    return linked(markdown, page.file.src_uri)


def linked(markdown: str, page: str) -> str:
    """`markdown` of a page, whose links to files that are no pages here are names of files."""
    own = page.removeprefix(REPO) if page.startswith(REPO) else f"docs/{page}"

    def link(match: re.Match[str]) -> str:
        text, (target, hash_, anchor) = match[1], match[2].partition("#")
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
        if not (ROOT / path).exists() and path != f"docs/{CLI}":
            return match[0]  # the strict build says so
        found = path.removeprefix("docs/") if path.startswith("docs/") else REPO + path if path in PAGES else None
        if found is None:
            return f"{text} (`{path}`)" if path != text.strip("`") else f"`{path}`"
        return f"[{text}]({os.path.relpath(found, posixpath.dirname(page) or '.')}{hash_}{anchor})"

    return _LINK.sub(link, markdown)


def command_line() -> str:
    """The reference of the command line, from the commands themselves."""
    import typer
    from typer.main import get_command

    from trt_mpq.cli import _COMMANDS, _command, app
    from trt_mpq.cli.options import typer_function

    parts = ["# Command line", "", f"{get_command(app).help} Options that may be repeated say so.", ""]
    for panel, names in _COMMANDS.items():
        parts += [f"## {panel}", ""]
        for name in names:
            alone = typer.Typer(add_completion=False)
            alone.command(name)(typer_function(_command(name)))
            parts += _command_section(name, get_command(alone))
    return "\n".join(parts) + "\n"


def _command_section(name: str, command: Any) -> list[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["trt-mpq", name, *(one.metavar or one.name.upper() for one in arguments), "[OPTIONS]"])
    lines = [f"### {name}", "", "```text", usage, "```", "", _paragraphs(command.help), ""]
    panels: dict[str, list[str]] = {}
    for option in options:
        row = f"| {_spelled(option, context)} | {_cell(option.help)} |"
        panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(row)
    for one in arguments:
        lines += [f"`{one.metavar or one.name.upper()}`: {_cell(one.help)}", ""]
    for panel, rows in panels.items():
        lines += [f"**{panel}**", "", "| option | |", "|---|---|", *rows, ""]
    return lines


def _spelled(option: Any, context: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} `{option.metavar or option.display_type(context)}`"


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
