"""Sound inputs of every kind, small, and commands that read them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from tests.networks import Builder, mlp, sample_input
from trt_mpq.cli import app

SAMPLES = 8
BUILD = (
    "--no-engine", "--threads", "1", "--no-bias-correction", "--calibration", "minmax", "--search", "uniform",
    "--metric", "cosine",
)  # fmt: skip
SOUND = (*BUILD, "--no-compile")
"""Of a network that is not damaged, which NVIDIA's compiler need not see again."""
RECIPE = """
root = "."
labels = "labels"

[splits.all]
arrays = "data.npz"
count = 6
seed = 1

[inputs.input]
array = "input"
divide = 2.0
dtype = "float32"
"""
JOB = """
model = "net.onnx"
calib = "data.npz"
metric = "cosine"
precisions = ["fp16", "int8"]
search = "uniform"
calibration = ["minmax"]
target_accuracy = 0.9
threads = 1

[engine]
build = "never"
rounds = 3
"""


@dataclass(frozen=True)
class Target:
    """A file that is damaged, and the command that reads it, both within a folder of their own."""

    file: str
    command: tuple[str, ...]


TARGETS = (
    Target("net.onnx", ("inspect", "net.onnx", "-o", "new")),
    Target("conv.onnx", ("inspect", "conv.onnx", "-o", "new")),
    Target("run/typed.onnx", ("lint", "run/typed.onnx")),
    Target("net.onnx", ("build", "net.onnx", "--calib", "data.npz", *BUILD, "-o", "new")),
    Target("data.npz", ("build", "net.onnx", "--calib", "data.npz", *SOUND, "-o", "new")),
    Target("array.npy", ("build", "net.onnx", "--calib", "array.npy", *SOUND, "-o", "new")),
    Target("recipe.toml", ("build", "net.onnx", "--calib", "recipe.toml", *SOUND, "-o", "new")),
    Target("job.toml", ("build", "job.toml", "-o", "new")),
    Target("run/*", ("report", "run")),
    Target("run/*", ("emit", "run")),
    Target("run/*", ("search", "run")),
    Target("run/*", ("engine", "run")),
)


def conv_net() -> onnx.ModelProto:
    """A convolution with BatchNorm, a function, a Constant and a reshape: what the small MLP does not have."""
    b = Builder(7)
    x = b.conv("conv", "input", (3, 8))
    ones, zeros = b.constant("ones", np.ones(8, np.float32)), b.constant("zeros", np.zeros(8, np.float32))
    x = b.node("BatchNormalization", "bn", [x, ones, zeros, zeros, ones])
    b.nodes.append(helper.make_node("Doubled", [x], ["doubled"], name="doubled", domain="local"))
    shape = numpy_helper.from_array(np.array([0, -1], np.int64), "shape")
    b.nodes.append(helper.make_node("Constant", [], ["shape"], name="shape", value=shape))
    x = b.node("Reshape", "flat", ["doubled", "shape"])
    b.node("Gemm", "fc", [x, b.normal("fc.weight", (128, 4), 0.1)])
    function = helper.make_function(
        "local", "Doubled", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph(
        b.nodes, "conv",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("fc.out", TensorProto.FLOAT, ["batch", 4])], b.initializers,
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)


def write_inputs(folder: Path) -> None:
    """Write all sound inputs, and a finished run, into an empty folder; it is the working directory."""
    onnx.save(mlp(), folder / "net.onnx")
    onnx.save(conv_net(), folder / "conv.onnx")
    arrays = sample_input(mlp(), SAMPLES)
    np.savez_compressed(folder / "data.npz", **arrays, labels=np.arange(SAMPLES))
    np.save(folder / "array.npy", arrays["input"])
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    done = CliRunner().invoke(app, ["build", "net.onnx", "--calib", "data.npz", *BUILD, "-o", "run"])
    assert done.exit_code == 0, done.output
    for number, target in enumerate(TARGETS[:3]):
        done = CliRunner().invoke(app, [f"sound-{number}" if word == "new" else word for word in target.command])
        assert done.exit_code == 0, done.output
        shutil.rmtree(folder / f"sound-{number}", ignore_errors=True)
