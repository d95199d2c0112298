"""Groups of the networks, once per network, as JSON beside the file: `python -m bench.published.groupings FOLDER`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.published.networks import NETWORKS
from trt_mpq.artifacts.files import from_json, to_stored_json, write_text
from trt_mpq.graph.interface import Interface
from trt_mpq.groups import groups_from_model
from trt_mpq.model import load_graph, prepare_model
from trt_mpq.types import Grouping


def grouping_of(name: str, folder: Path) -> Grouping:
    """The groups of a network, from its file if they are not kept yet.

    Raises:
        FileNotFoundError: Neither is there.
    """
    kept = folder / f"{name}.json"
    if not kept.exists():
        write_text(kept, to_stored_json(_grouped(folder / f"{name}.onnx"), Grouping))
    return from_json(kept.read_bytes(), Grouping)


def _grouped(source: Path) -> Grouping:
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there: run `python -m bench.published.networks {source.parent}`")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "model.onnx"
        prepare_model(source, prepared)
        graph = load_graph(prepared)
        shapes = {spec.name: tuple(spec.shape) for spec in Interface.of(graph).inputs}
        return groups_from_model(graph, shapes)


def main() -> None:
    """Group what has a file."""
    parser = argparse.ArgumentParser(prog="python -m bench.published.groupings", description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for name in NETWORKS:
        if (options.folder / f"{name}.onnx").exists():
            grouping = grouping_of(name, options.folder)
            print(
                f"{name}: {len(grouping.groups)} groups, {len(grouping.loose)} loose, "
                f"{grouping.flops / 1e9:.1f} GFLOP, {grouping.weight_elements / 1e6:.1f} M weights", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
