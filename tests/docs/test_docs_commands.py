"""Every command that a page shows exists, with every option, file, target and extra that it names."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from tests.docs.blocks import ROOT, Block, blocks
from trt_mpq._data import load_toml
from trt_mpq.cli import _COMMANDS, _command
from trt_mpq.cli.options import typer_function

if not (ROOT / "docs").is_dir():
    pytest.skip("the pages are part of a checkout, not of an installed wheel", allow_module_level=True)

ROOMS = ("calib", "docker", "engines")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / room / "README.md" for room in ROOMS)])
SHELL = [block for page in PAGES for block in blocks(page) if block.language in ("", "sh", "bash", "console")]
COMMANDS = [(block, words) for block in SHELL for words in block.commands]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
EXTRAS = set(load_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"])  # type: ignore[index]
NAMES = [name for names in _COMMANDS.values() for name in names]
OTHERS = {"scp", "ssh", "docker", "openssl", "ray", "sudo", "python3", "trtexec", "git", "cd"}
"""Programs of others, whose options we cannot check."""


def parameters(name: str) -> dict[str, bool]:
    """The options of a command, and whether each takes no value."""
    alone = typer.Typer(add_completion=False)
    alone.command(name)(typer_function(_command(name)))
    options = (one for one in typer.main.get_command(alone).params if one.param_type_name == "option")
    return {spelled: bool(one.is_flag) for one in options for spelled in (*one.opts, *one.secondary_opts)}


def check(words: list[str], block: Block) -> None:
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    while "=" in program and rest:  # variables before a command
        program, *rest = rest
    if program == "trt-mpq":
        name = rest[0] if rest else "--help"
        if name.startswith("-"):
            return
        assert name in {one for names in _COMMANDS.values() for one in names}, (
            f"{block.page}: there is no command {name}"
        )
        known = {**parameters(name), "--help": True, "--help-all": True}
        for word in rest[1:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, f"{block.page}: {name} has no option {word}"
    elif program == "make":
        for target in (word for word in rest if "=" not in word):
            assert target in TARGETS, f"{block.page}: there is no target {target}"
    elif program == "pip":
        for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= EXTRAS, f"{block.page}: there is no extra {extras}"
    elif program == "python" and rest[0] == "-m":
        assert find_spec(rest[1]) is not None, f"{block.page}: there is no module {rest[1]}"
    else:
        assert program in OTHERS or program.endswith("run.sh"), f"{block.page}: {words} is checked by nobody"
    for file in re.findall(r"-f (docker/\S+)", " ".join(words)):
        assert (ROOT / file).is_file(), f"{block.page}: there is no {file}"


@pytest.mark.parametrize("page", sorted({block.page for block in SHELL}))
def test_commands_exist(page: str) -> None:
    for block, words in COMMANDS:
        if block.page == page:
            check(words, block)


def test_there_are_commands_to_check() -> None:
    assert len([words for _, words in COMMANDS if words[0] == "trt-mpq"]) >= 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_in_sentences_exist(page: Path) -> None:
    """`--like-this` in the text names an option of some command, or of a program that the sentence names."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    ours = {option for name in NAMES for option in parameters(name)} | {
        "--help",
        "--help-all",
        "--version",
        "--user",
        "--build-arg",
    }
    foreign = ("trtexec", "python -m", "run.sh", "docker", "make ", "configure.py")
    for line in text.splitlines():
        if not any(other in line for other in foreign):
            found = set(re.findall(r"`(--[a-z][a-z0-9-]*)", line))
            assert found <= ours, f"{page}: {sorted(found - ours)}"


def test_files_that_pages_name_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:engines|calib|docker|docs|bench|examples|tests)/[\w./-]+\.\w+)`", text):
            if "results/" not in name and "cache" not in name:
                assert (ROOT / name).exists() or (ROOT / "bench" / name).exists(), f"{page.name}: {name}"
