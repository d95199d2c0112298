"""An export is done once, and again when something changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trt_mpq.export import ExportedModel, ExportOptions, export_once, exporter
from trt_mpq.types.observer import SilentObserver

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)

def net():
    return Net(), torch.ones(2, 4)
"""
MODULE = "kept_export_net"


class Folder:
    """A factory, and the folder its export is kept in; counts the exports and does only the first."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.kept, self.exports = path, path / "run" / "exported", 0
        self._really = exporter._export_loaded
        self._made: ExportedModel | None = None
        monkeypatch.chdir(path)
        monkeypatch.setattr(exporter, "_export_loaded", self._export)
        self.write(NET)

    def write(self, text: str) -> None:
        sys.modules.pop(MODULE, None)
        (self.path / f"{MODULE}.py").write_text(text)

    def exported(self, options: ExportOptions) -> int:
        """How many exports it takes now."""
        before = self.exports
        made = export_once(f"{MODULE}:net", self.kept, options, SilentObserver())
        assert made.path == str(self.kept / "model.onnx")
        return self.exports - before

    def _export(self, *arguments: object) -> ExportedModel:
        self.exports += 1
        if self._made is None:
            self._made = self._really(*arguments)  # type: ignore[arg-type]
        return self._made


def test_an_export_is_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of one size within a second look the same to it
    folder, options = Folder(tmp_path, monkeypatch), ExportOptions()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    assert folder.exported(options) == 1
    assert folder.exported(options) == 0
    assert sorted(path.name for path in folder.kept.iterdir()) == ["export.json", "model.onnx"]

    model, record = folder.kept / "model.onnx", folder.kept / "export.json"
    content, words = model.read_bytes(), record.read_text()
    changes: dict[str, Callable[[], object]] = {
        "a model cut short": lambda: model.write_bytes(content[:-1]),
        "no model": model.unlink,
        "a record cut short": lambda: record.write_text(words[:-9]),
        "no record": record.unlink,
        "other code with the same weights": lambda: folder.write(NET.replace("self.layer(x)", "-self.layer(x)")),
        "other weights": lambda: folder.write(NET.replace("self.layer =", "torch.rand(1); self.layer =")),
    }
    for change, make in changes.items():
        make()
        assert folder.exported(options) == 1, change
        model.write_bytes(content)
        record.write_text(words)
        folder.write(NET)
        assert folder.exported(options) == 0, change
    for other in (ExportOptions(opset=18), ExportOptions(inputs="x.npz")):
        assert folder.exported(other) == 1
    sys.modules.pop(MODULE)
