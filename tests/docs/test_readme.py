"""README alone takes a new user from a network and a folder of images to a report, and says what the results say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import trt_mpq
from tests.docs.blocks import ROOT, run
from trt_mpq.types import Precision

README = ROOT / "README.md"
if not (ROOT / "docs").is_dir():
    pytest.skip("the pages are part of a checkout, not of an installed wheel", allow_module_level=True)
TEXT = README.read_text(encoding="utf-8")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two classes of images, as a user has it."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(60 * number, 190 + 60 * number, (64, 64, 3), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # of torch's exporter
def test_the_blocks_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    (built,) = run(README)
    assert "my_net:make on rtx4090" in built
    assert "uniform INT8" in built
    assert "Sequential on rtx4090" in capsys.readouterr().out
    for folder in ("run", "run-python"):
        assert Path(folder, "report.html").is_file()
        assert trt_mpq.load(folder).files["typed"].is_file()


def test_results_are_those_that_were_measured() -> None:
    peers = (ROOT / "bench" / "results" / "peers.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+), target 0\.99 of .*?\n(.*?)(?=^### |\Z)", peers, re.M | re.S))
    names = {"MiniLM": "minilm", "MobileNet": "mobilenet", "ResNet-20": "resnet20", "ResNet-56": "resnet56"}
    rows = re.findall(r"^\| (MiniLM|MobileNet|ResNet-\d+) \| (.*?) \| (.*?) \| (.*?) \|$", TEXT, re.M)
    assert [row[0] for row in rows] == list(names)
    for network, *told in rows:
        for peer, cell in zip(("trt-mpq", "Model Optimizer, ONNX PTQ", "NNCF, accuracy control"), told, strict=True):
            line = rf"^\| {re.escape(peer)} \| int8 \| ([\d.]+)% \| (\w+)[^|]* \| [^|]* \| ([\d.]+) \|"
            row = re.search(line, sections[names[network]], re.M)
            assert row is not None
            score, verdict, latency = row.groups()
            expected = f"{score} %, missed" if verdict == "missed" else f"{score} %, {latency}"
            assert cell.replace("*", "") == expected


def test_formats_are_those_that_devices_have() -> None:
    from trt_mpq.latency.target import target_from_name
    from trt_mpq.types import Precision

    rows = re.findall(r"^\| ([^|]*(?:T4|A100|Orin|L4,|H100|B200|RTX 50)[^|]*) \| ([^|]*) \|", TEXT, re.M)
    assert len(rows) == 7
    devices = {
        "T4": ["t4"], "A100, A30, A10, RTX 30": ["a100", "a30", "a10", "rtx3090"],
        "Jetson Orin": ["orin-agx", "orin-nx", "orin-nano"], "L4, L40S, RTX 40": ["l4", "l40s", "rtx4090"],
        "H100, H200": ["h100", "h200"], "B200, Jetson Thor": ["b200", "thor"],
        "RTX 50, RTX PRO, GB10": ["rtx5090", "rtx-pro-6000", "gb10"],
    }  # fmt: skip
    formats: set[str] = set()
    for gpus, said in rows:
        named = {word.lower() for word in re.findall(r"[A-Z]+\d+\w*|NVFP4", said)}
        formats = named if not said.startswith(("and", "the same")) else formats - {"fp8", "nvfp4"} | named
        for device in devices[gpus]:
            target = target_from_name(device)
            for precision in Precision:
                if precision.deployable and precision.value not in ("fp32", "fp16"):
                    assert target.supports(precision) == (precision.value in formats), f"{device}: {precision}"


def test_it_fits_its_size() -> None:
    prose = re.sub(r"^```.*?^```|^\|.*?$|^<picture>.*?$", "", TEXT, flags=re.M | re.S)
    assert len(prose.split()) < 520
    for picture in re.findall(r'(?:src|srcset)="([^"]+)"', TEXT):
        assert (ROOT / picture).stat().st_size <= 300_000
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_table_of_formats_is_what_formats_say() -> None:
    rows = re.findall(r"^\| (`[a-z0-9`, ]+`) \| (\S+) \| (\S+) \| (.*?) \| .*? \| no \|$", TEXT, re.M)
    told = {name: row[1:] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(told) == {precision.value for precision in Precision if precision is not Precision.FP32}
    for name, (gpus, tensorrt, operators) in told.items():
        spec = Precision(name).spec
        if not spec.deployable:
            assert (gpus, tensorrt, operators) == ("none", "none", "to study, as in the paper: not deployable")
            continue
        assert gpus == (f"{spec.first_sm / 10}" if spec.first_sm else "all")
        assert tensorrt == ".".join(map(str, spec.tensorrt))
        assert ("constant weight" in operators) == (spec.operators is not None)
