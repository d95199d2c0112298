"""docs/transformers.md does what it says: its blocks are run in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trt_mpq.cli import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transformers.md"
BLOCK = re.compile(r"(<!-- not executed: .*? -->\n)?```(python|sh)(?: (\S+))?\n(.*?)```", re.DOTALL)


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    if not PAGE.is_file():
        pytest.skip("the page is part of a checkout, not of an installed wheel")
    monkeypatch.chdir(tmp_path)
    printed = []
    for skipped, language, file, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if skipped:
            continue
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, str(PAGE), "exec"), {})
        else:
            program, *arguments = shlex.split(text)
            assert program == "trt-mpq"
            done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
            assert done.exit_code == 0, done.output
            printed.append(done.stdout)
    exported, groups, searched = printed
    assert "batchxsequence" in exported
    assert "layer.linear1" in groups
    assert "FP8" in searched
