"""Fenced blocks of Markdown pages, run or checked as a reader would type them.

```python NAME.py is a file, ```python and ```sh are run in order, and every other block is only checked. The comment
`<!-- not executed: reason -->` before a block that would be run says why it is not; its commands are checked still.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from trt_mpq.cli import app

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"(?P<skipped><!-- not executed: [^>]*-->\n)?^```(?P<language>[a-z]*)(?: (?P<file>\S+))?\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
_WORDS = {"&&", "||", "|", ";"}


@dataclass(frozen=True)
class Block:
    """A block of `page`: its language, the file that it is, its text, whether it is to be run."""

    page: str
    language: str
    file: str
    text: str
    runs: bool

    @property
    def commands(self) -> Iterator[list[str]]:
        """The commands of a shell block, each in words; comments are left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), ";"]:
                if word not in _WORDS:
                    words.append(word)
                    continue
                if words:
                    yield words
                words = []


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, found["language"], found["file"] or "", found["text"], not found["skipped"])
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def run(page: Path) -> list[str]:
    """Run the blocks of a page in the current folder; what its commands printed."""
    printed = []
    names: dict[str, Any] = {"__name__": "__main__"}
    own = []
    sys.path.insert(0, str(Path.cwd()))
    try:
        for block in blocks(page):
            if not block.runs or block.language not in ("python", "sh"):
                continue
            if block.file:
                Path(block.file).write_text(block.text, encoding="utf-8")
                own.append(block.file.removesuffix(".py"))
                sys.modules.pop(own[-1], None)
            elif block.language == "python":
                exec(compile(block.text, block.page, "exec"), names)
            else:
                printed += [_typed(command) for command in block.commands if command[0] == "trt-mpq"]
    finally:
        sys.path.remove(str(Path.cwd()))
        for module in own:
            sys.modules.pop(module, None)
    return printed


def _typed(command: list[str]) -> str:
    done = CliRunner().invoke(app, command[1:], env={"COLUMNS": "200"})
    assert done.exit_code == 0, f"{shlex.join(command)}: {done.output}"
    return done.stdout
