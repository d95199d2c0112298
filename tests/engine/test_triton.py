"""A Triton model repository: what the configuration says, read back with protobuf's own parser, and all or nothing."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.model_config_proto import official_model_config, parse_model_config
from tests.engine.test_manifest import make_manifest
from trt_mpq.engine.manifest import read_manifest
from trt_mpq.engine.triton import export_triton
from trt_mpq.engine.triton_config import Serving, _text, model_config
from trt_mpq.errors import ModelError, RunFolderError, SettingsError
from trt_mpq.types import TensorSpec
from trt_mpq.types.engine import ShapeRange

X = TensorSpec("x", "float32", ("batch", 3, 32, 32))
Y = TensorSpec("y", "float32", ("batch", 10))
RANGE = ShapeRange((1, 3, 32, 32), (8, 3, 32, 32), (16, 3, 32, 32))


def parsed(inputs=(X,), outputs=(Y,), shapes=None, tensorrt=None, **engine_options):
    manifest = replace(make_manifest(**engine_options), shapes={"x": RANGE} if shapes is None else shapes)
    if tensorrt:
        manifest = replace(manifest, platform=replace(manifest.platform, tensorrt=tensorrt))
    return parse_model_config(model_config(manifest, inputs, outputs, "resnet"))


def dims(tensors):
    return [list(tensor.dims) for tensor in tensors]


def test_a_model_with_a_free_batch_dimension():
    assert MessageToDict(parsed(), preserving_proto_field_name=True) == {
        "name": "resnet",
        "platform": "tensorrt_plan",
        "max_batch_size": 16,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3", "32", "32"]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["10"]}],
        "instance_group": [{"count": 1, "kind": "KIND_GPU"}],
        "dynamic_batching": {"preferred_batch_size": [8]},
        "optimization": {
            "cuda": {
                "graphs": True,
                "graph_spec": [
                    {"batch_size": batch, "input": [{"key": "x", "value": {"dim": ["3", "32", "32"]}}]}
                    for batch in (1, 8, 16)
                ],
            }
        },
    }


def test_a_model_that_fixes_its_batch_is_described_whole():
    found = parsed(
        (TensorSpec("x", "float32", (8, 3, 32, 32)),), (TensorSpec("y", "float32", (8, 10)),), shapes={}
    )  # fmt: skip

    assert found.max_batch_size == 0
    assert (dims(found.input), dims(found.output)) == ([[8, 3, 32, 32]], [[8, 10]])
    assert not found.HasField("dynamic_batching")
    (graph,) = found.optimization.cuda.graph_spec
    assert (graph.batch_size, list(graph.input[0].value.dim)) == (0, [8, 3, 32, 32])


def test_a_profile_of_one_batch_fixes_that_batch():
    only = ShapeRange(RANGE.optimum, RANGE.optimum, RANGE.optimum)

    found = parsed(shapes={"x": only})

    assert (found.max_batch_size, dims(found.input), dims(found.output)) == (0, [[8, 3, 32, 32]], [[8, 10]])


def test_a_profile_that_cannot_run_one_request_alone_leaves_batches_to_the_client():
    found = parsed(shapes={"x": replace(RANGE, minimum=(2, 3, 32, 32))})

    assert (found.max_batch_size, dims(found.input), dims(found.output)) == (0, [[-1, 3, 32, 32]], [[-1, 10]])


def test_free_dimensions_beside_the_batch():
    spec = TensorSpec("x", "float32", ("n", 3, "h", "w"))
    shapes = {"x": ShapeRange((1, 3, 64, 96), (2, 3, 96, 96), (4, 3, 128, 96))}

    found = parsed((spec,), (TensorSpec("y", "float16", ("n", "h", "w", "k")),), shapes=shapes)

    assert (found.max_batch_size, dims(found.input), dims(found.output)) == (4, [[3, -1, 96]], [[-1, 96, -1]])
    assert [list(graph.input[0].value.dim) for graph in found.optimization.cuda.graph_spec] == [[3, 96, 96]] * 3


def test_the_smallest_profile_of_several_inputs_bounds_the_batch():
    other = TensorSpec("z", "int32", ("batch", 5))
    shapes = {"x": RANGE, "z": ShapeRange((1, 5), (4, 5), (12, 5))}

    found = parsed((X, other), shapes=shapes)

    assert (found.max_batch_size, list(found.dynamic_batching.preferred_batch_size)) == (12, [4])
    assert [entry.key for entry in found.optimization.cuda.graph_spec[0].input] == ["x", "z"]


@pytest.mark.parametrize(
    "others",
    [
        {"inputs": (X, TensorSpec("scale", "float32", ()))},
        {"inputs": (X, TensorSpec("mask", "float32", (32, 32)))},
        {"inputs": (X, TensorSpec("mask", "float32", ("rows", 32)))},
        {"outputs": (TensorSpec("y", "float32", (1, 10)),)},
        {"outputs": (TensorSpec("y", "float32", ()),)},
        {"outputs": (TensorSpec("y", "float32", ("8*batch", 10)),)},
    ],
)
def test_without_a_common_batch_axis_triton_forms_no_batches(others):
    found = parsed(**others, shapes={"x": RANGE, "mask": ShapeRange((1, 32), (1, 32), (4, 32))})

    assert found.max_batch_size == 0
    assert dims(found.input)[0] == [-1, 3, 32, 32]


def test_an_output_may_call_its_batch_dimension_what_it_likes():
    assert parsed(outputs=(TensorSpec("y", "float32", ("Gemmy_dim_0", 10)),)).max_batch_size == 16


def test_a_shape_without_dimensions_is_a_reshape():
    found = parsed(outputs=(TensorSpec("y", "float32", ("batch",)),))

    assert (dims(found.output), found.output[0].HasField("reshape"), list(found.output[0].reshape.shape)) == (
        [[1]],
        True,
        [],
    )
    assert not found.input[0].HasField("reshape")


@pytest.mark.parametrize(
    ("dtype", "tensorrt", "number"),
    [
        ("bool", "10.3.0", 1),
        ("uint8", "10.3.0", 2),
        ("int8", "10.3.0", 6),
        ("int32", "10.3.0", 8),
        ("int64", "10.3.0", 9),
        ("int64", "8.6.1", 8),
        ("float16", "10.3.0", 10),
        ("float32", "8.6.1", 11),
        ("bfloat16", "11.4.0.106", 14),
    ],
)
def test_data_types(dtype, tensorrt, number):
    assert parsed((replace(X, dtype=dtype),), tensorrt=tensorrt).input[0].data_type == number


@pytest.mark.parametrize("dtype", ["float64", "float8_e4m3fn", "object"])
def test_other_data_types_are_refused(dtype):
    with pytest.raises(ModelError, match=rf"y is {dtype}, which Triton's TensorRT backend does not take: cast it"):
        parsed(outputs=(replace(Y, dtype=dtype),))


def test_a_dynamic_input_without_a_profile_is_refused():
    with pytest.raises(
        RunFolderError, match=r"no shapes of the dynamic input x: build the engine anew with `trt-mpq engine"
    ):
        parsed(shapes={})


@pytest.mark.parametrize(("optimum", "preferred"), [(1, []), (2, [2])])
def test_a_batch_of_one_is_not_preferred(optimum, preferred):
    found = parsed(shapes={"x": replace(RANGE, optimum=(optimum, 3, 32, 32))})

    assert list(found.dynamic_batching.preferred_batch_size) == preferred


def test_one_request_at_a_time_needs_no_batching():
    found = parsed(shapes={"x": ShapeRange(*[(1, 3, 32, 32)] * 3)})

    assert (found.max_batch_size, dims(found.input)) == (1, [[3, 32, 32]])
    assert not found.HasField("dynamic_batching")
    assert [graph.batch_size for graph in found.optimization.cuda.graph_spec] == [1]


def test_no_cuda_graph_where_none_was_wanted():
    assert not parsed(cuda_graph=False).HasField("optimization")


def test_a_dla_core_is_a_secondary_device():
    (group,) = parsed(dla_core=1).instance_group

    assert [(device.kind, device.device_id) for device in group.secondary_devices] == [(0, 1)]


def test_what_the_server_must_be_started_with_is_a_comment():
    manifest = replace(make_manifest(version_compatible=True, plugins=("a.so", "b.so")), shapes={"x": RANGE})

    lines = model_config(manifest, (X,), (Y,), "resnet").splitlines()

    assert lines[:3] == [
        f"# Engine for NVIDIA A10, TensorRT 10.16.1.11, by trt-mpq 0.1.0, plan {manifest.plan_digest}.",
        '# Start the server with --backend-config=tensorrt,plugins="a.so;b.so"',
        "# Start the server with --backend-config=tensorrt,version-compatible=true",
    ]


@given(name=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_tensor_name_survives_quoting(name):
    x, y = replace(X, name=name), replace(Y, name=name + '"')

    found = parsed((x,), (y,), shapes={name: RANGE})

    assert (found.input[0].name, found.output[0].name) == (name, name + '"')
    assert found.optimization.cuda.graph_spec[0].input[0].key == name


@pytest.mark.parametrize("text", ['nmae: "a"', "max_batch_size: true", 'input { data_type: "TYPE_FP32" }', "name: a"])
def test_the_parser_of_these_tests_refuses_what_triton_would(text):
    with pytest.raises(text_format.ParseError):
        parse_model_config(text)


def test_text_of_every_kind_of_value():
    message = {"a": 'x"\\\n\x01', "b": -3, "c": False, "d": (), "e": {"f": (1, 2)}}

    assert _text(message) == 'a: "x\\"\\\\\\n\\001"\nb: -3\nc: false\nd: [ ]\ne {\n  f: [ 1, 2 ]\n}\n'


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "run" / "engine.plan"
    path.parent.mkdir()
    path.write_bytes(b"engine")
    return path


MANIFEST = replace(make_manifest(b"engine"), shapes={"x": RANGE})


def export(engine, repository, **kwargs):
    kwargs = {"manifest": MANIFEST, "inputs": (X,), "outputs": (Y,), "name": "resnet", **kwargs}
    return export_triton(engine, repository=repository, **kwargs)


def content(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WHOLE = ["resnet", "resnet/1", "resnet/1/manifest.json", "resnet/1/model.plan", "resnet/config.pbtxt"]


def test_the_repository(engine, tmp_path):
    repository = tmp_path / "models" / "vision"

    folder = export(engine, repository)

    assert folder == repository / "resnet"
    assert content(repository) == WHOLE
    assert (folder / "1" / "model.plan").read_bytes() == b"engine"
    assert parse_model_config((folder / "config.pbtxt").read_text()).max_batch_size == 16
    assert read_manifest(folder / "1" / "manifest.json") == MANIFEST


def test_other_users_may_read_it(engine, tmp_path):
    mask = os.umask(0o022)
    try:
        folder = export(engine, tmp_path / "models")
    finally:
        os.umask(mask)

    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "1", folder / "1" / "model.plan")] == [
        0o755,
        0o755,
        0o644,
    ]


def test_without_an_engine(tmp_path):
    with pytest.raises(
        RunFolderError, match=r"there is no engine .*none\.plan, .*: build the engine anew with `trt-mpq engine RUN_DIR"
    ):
        export(tmp_path / "none.plan", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_changed_engine_leaves_nothing(engine, tmp_path):
    engine.write_bytes(b"enginf")

    with pytest.raises(RunFolderError, match=r"engine\.plan was changed after its manifest was written"):
        export(engine, tmp_path / "models")
    assert content(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "a\n"])
def test_names_that_are_no_folder_names_are_refused(engine, tmp_path, name):
    with pytest.raises(SettingsError, match="is no name for a Triton model"):
        export(engine, tmp_path / "models", name=name)


def test_a_name_that_is_taken_is_refused(engine, tmp_path):
    folder = export(engine, tmp_path / "models")
    (folder / "1" / "model.plan").write_bytes(b"another")

    with pytest.raises(
        SettingsError, match=r"resnet has a version 1: choose another with --version, or another --name"
    ):
        export(engine, tmp_path / "models")
    assert (folder / "1" / "model.plan").read_bytes() == b"another"


def test_a_full_disk_leaves_nothing(engine, tmp_path, monkeypatch):
    def fail(source, target):
        target.write_bytes(b"eng")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(RunFolderError, match="the disk is full"):
        export(engine, tmp_path / "models")

    assert content(tmp_path / "models") == []


def test_a_repository_that_is_a_file_is_refused(engine, tmp_path):
    (tmp_path / "models").write_text("")

    with pytest.raises(RunFolderError, match="cannot write"):
        export(engine, tmp_path / "models")


def served(serving: Serving, **changes: object):
    manifest = replace(make_manifest(), shapes={"x": RANGE})
    return parse_model_config(model_config(manifest, (X,), (Y,), "resnet", serving))


def test_serving_is_said_as_it_was_asked_for():
    config = served(Serving(instances=2, preferred_batches=(16, 4), queue_delay_us=500, versions=3))
    assert config.instance_group[0].count == 2
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.version_policy.latest.num_versions == 3
    assert served(Serving(versions=None)).version_policy.HasField("all")
    assert not served(Serving()).HasField("version_policy")
    assert not served(Serving(batching=False)).HasField("dynamic_batching")
    assert served(Serving(batching=False)).max_batch_size == 16


def test_batches_that_cannot_be_are_refused():
    with pytest.raises(SettingsError, match=r"--preferred-batch 32 is larger than the engine's largest batch, 16"):
        served(Serving(preferred_batches=(32,)))
    with pytest.raises(SettingsError, match=r"--max-queue-delay-us 9 has no effect: batching is turned off"):
        served(Serving(batching=False, queue_delay_us=9))
    manifest = replace(make_manifest(), shapes={"x": ShapeRange((1, 3, 32, 32), (1, 3, 32, 32), (1, 3, 32, 32))})
    with pytest.raises(SettingsError, match="the engine takes no batches that Triton could form"):
        model_config(manifest, (X,), (Y,), "resnet", Serving(preferred_batches=(1,)))


def test_the_official_definition_reads_every_option():
    """By the message that protoc made of NVIDIA's file, beside ours that is written down by hand."""
    official = official_model_config()
    if official is None:
        pytest.skip("tritonclient is not installed")
    manifest = replace(make_manifest(), shapes={"x": RANGE})
    text = model_config(manifest, (X,), (Y,), "resnet", Serving(2, True, (4, 8), 100, 2))
    config = text_format.Parse(text, official())
    assert (config.max_batch_size, config.instance_group[0].count) == (16, 2)
    assert config.optimization.cuda.graph_spec[0].input["x"].dim == [3, 32, 32]
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("preferred_batch_size", "preferred_batch"), official())


def test_another_version_joins_the_model_that_is_there(engine, tmp_path):
    def exported(version: int, **serving: int):
        return export_triton(
            engine, MANIFEST, (X,), (Y,), tmp_path / "models", "resnet", version=version, serving=Serving(**serving)
        )

    folder = exported(1, versions=2)
    assert exported(2, versions=2) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt"]
    assert (folder / "2" / "model.plan").read_bytes() == b"engine"
    with pytest.raises(SettingsError, match="has a version 2"):
        exported(2, versions=2)
    with pytest.raises(SettingsError, match="is served otherwise than this version would be"):
        exported(3, versions=2, instances=4)
    assert not (folder / "3").exists()
