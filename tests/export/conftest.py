"""Exports that several tests look at, made once."""

from __future__ import annotations

import pytest

from trt_mpq.export import ExportedModel, export_to_onnx


def exported(factory: str, folders: pytest.TempPathFactory) -> ExportedModel:
    pytest.importorskip("torch", reason="exporting needs torch")
    return export_to_onnx(f"tests.export.networks:{factory}", folders.mktemp(factory) / "net.onnx")


@pytest.fixture(scope="session")
def conv_net(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return exported("conv_net", tmp_path_factory)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    return exported("encoder", tmp_path_factory)
