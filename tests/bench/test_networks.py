"""The benchmark's network with random weights: ResNet-50's shape, the same bytes every time, values FP16 can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bench.networks import ResNet, random_images, resnet50, write_resnet50

TORCHVISION_PARAMETERS = 25_557_032
CONVOLUTION_CHANNELS = 26_560
"""Output channels of ResNet-50's 53 convolutions: each has a BatchNorm of four vectors, or a bias."""


def session_of(model: onnx.ModelProto) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString())


def small(seed: int = 0, batch_norm: bool = True) -> onnx.ModelProto:
    return ResNet(seed, batch_norm).build((1, 2), 16, (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("batch_norm", "expected"),
    [
        (True, TORCHVISION_PARAMETERS + 2 * CONVOLUTION_CHANNELS),  # running mean and variance are no parameters
        (False, TORCHVISION_PARAMETERS - CONVOLUTION_CHANNELS),  # one bias instead of scale and shift
    ],
)
def test_it_is_as_large_as_resnet50(batch_norm: bool, expected: int) -> None:
    model = resnet50(batch_norm=batch_norm)
    assert sum(int(np.prod(weight.dims)) for weight in model.graph.initializer) == expected
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == 53
    assert operators.count("Add") == 16


def test_no_activation_comes_near_the_limits_of_fp16() -> None:
    model = resnet50()
    model.graph.output.extend(
        helper.make_empty_tensor_value_info(node.output[0])
        for node in model.graph.node
        if node.op_type in ("Conv", "BatchNormalization", "Add")
    )
    values = session_of(model).run(None, {"input": random_images(1, 3)})
    assert max(float(np.abs(value).max()) for value in values) < 1000  # FP16 ends at 65504
    assert min(float(value.std()) for value in values) > 0.05  # and begins to lose bits below 6e-5


@pytest.mark.parametrize("batch_norm", [True, False])
def test_it_is_valid_and_its_batch_is_dynamic(batch_norm: bool) -> None:
    model = small(batch_norm=batch_norm)
    onnx.checker.check_model(model, full_check=True)
    session = session_of(model)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    (together,) = session.run(None, {"input": images})
    alone = [session.run(None, {"input": images[i : i + 1]})[0] for i in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_the_seed_fixes_every_byte() -> None:
    first, again, other = (small(seed).SerializeToString(deterministic=True) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_images_are_smooth_and_of_unit_size() -> None:
    images = random_images(4, 0)
    assert images.shape == (4, 3, 224, 224)
    assert images.dtype == np.float32
    assert abs(float(images.std()) - 1) < 0.2
    shuffled = np.random.default_rng(0).permutation(images.ravel()).reshape(images.shape)
    step, random_step = (float(np.abs(np.diff(values, axis=3)).mean()) for values in (images, shuffled))
    assert step < 0.75 * random_step


def test_the_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(b"already here")
    assert write_resnet50(path) == path
    assert path.read_bytes() == b"already here"
