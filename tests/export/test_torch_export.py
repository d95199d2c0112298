"""Modules fed and read by name, without exporting them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_mpq.errors import DataError, MissingDependencyError, ModelError
from trt_mpq.runtime.torch_autograd import import_torch
from trt_mpq.runtime.torch_export import TorchModule, quiet, seeded

torch = pytest.importorskip("torch", reason="exporting needs torch")


def module_of(function: Any) -> Any:
    """A module whose forward is `function`, which has no `self`."""
    module = torch.nn.Module()
    module.forward = function
    return module


def wrapped(function: Any, output_names: tuple[str, ...] = ()) -> TorchModule:
    return TorchModule(module_of(function), "net", output_names)


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "examples",
    [
        (ONE, ONE + 1),
        [torch.tensor(ONE), ONE + 1],
        {"b": ONE + 1, "a": ONE},
        {"a": torch.tensor(ONE).double(), "b": ONE + 1},
    ],
    ids=["sequence", "tensors", "names", "float64"],
)
def test_inputs_get_the_names_and_the_order_of_forward(examples: Any) -> None:
    feeds = wrapped(lambda a, b=None: a).named(examples)
    assert [(name, value.dtype, value[0, 0]) for name, value in feeds.items()] == [
        ("a", np.float32, 1),
        ("b", np.float32, 2),
    ]


def test_a_single_tensor_is_the_first_input() -> None:
    assert wrapped(lambda a, b=None: a).named(ONE).keys() == {"a"}


def test_names_that_forward_takes_as_keywords() -> None:
    assert wrapped(lambda a, **others: a).named({"a": ONE, "c": ONE}).keys() == {"a", "c"}


@pytest.mark.parametrize(
    ("forward", "examples", "words"),
    [
        (lambda a: a, {"b": ONE}, r"the inputs \(b\) do not fit net, whose forward takes \(a\): missing"),
        (lambda a: a, (ONE, ONE), r"the inputs \(2 in all\) do not fit net"),
        (lambda *a: a, (ONE,), "takes 'a' without a name"),
        (lambda a, /: a, (ONE,), "takes 'a' without a name"),
        (lambda a: a, {"a": 3}, "input 'a' of net is of type int"),
    ],
)
def test_inputs_that_do_not_fit(forward: Any, examples: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        wrapped(forward).named(examples)


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (lambda x: x, ["output"]),
        (lambda x: (x,), ["output"]),
        (lambda x: (x, None, x), ["output_0", "output_2"]),
        (lambda x: {"logits": x, "more": [x, x]}, ["logits", "more_0", "more_1"]),
        (lambda x: (x, {"inner": x}), ["output_0", "output_1.inner"]),
    ],
)
def test_outputs_are_named_after_what_forward_returns(result: Any, names: list[str]) -> None:
    assert list(wrapped(lambda x: result(x)).run({"x": ONE})) == names


def test_outputs_can_be_named() -> None:
    assert list(wrapped(lambda x: (x, x), ("a", "b")).run({"x": ONE})) == ["a", "b"]


@pytest.mark.parametrize(
    ("result", "names", "words"),
    [
        (lambda x: (x, x), ("a",), "returns 2 outputs .* and they are called a: give one name for each"),
        (lambda x: (x, x), ("a", "a"), "all different"),
        (lambda x: None, (), "returns 0 outputs"),
        (lambda x: [3], (), "returns an object of type int"),
        (lambda x: x.reshape(4), (), r"net, called for x float32\[2, 3\], raised RuntimeError: shape"),
    ],
)
def test_outputs_that_cannot_be_used(result: Any, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        wrapped(result, names).run({"x": ONE})


def test_a_module_is_evaluated_in_float32() -> None:
    dropout = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.9)).half().train()
    module = TorchModule(dropout, "net")
    first, second = (module.run({"input": ONE})["output"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32


def test_the_digest_is_of_weights_and_buffers() -> None:
    def digest(change: float, buffer: float) -> str:
        net = torch.nn.BatchNorm1d(3)
        with torch.no_grad():
            net.weight[1] += change
            net.running_mean[1] += buffer
        return TorchModule(net, "net").digest()

    assert digest(0, 0) == digest(0, 0)
    assert len({digest(0, 0), digest(1, 0), digest(0, 1)}) == 3


def test_settings_of_torch_survive() -> None:
    fast, grad = torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()
    with pytest.raises(ModelError):
        wrapped(lambda x: 1 / 0).run({"x": ONE})
    assert (torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()) == (fast, grad)


def test_random_numbers_of_the_caller_go_on_as_before() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded():
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded():
        assert torch.equal(torch.rand(2), inside)


def test_quiet_is_quiet_and_over_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    import logging
    import warnings

    disabled = logging.root.manager.disable
    with quiet():
        print("text")
        warnings.warn("a warning", stacklevel=1)
        logging.getLogger("torch").critical("a message")
    assert capsys.readouterr() == ("", "")
    assert logging.root.manager.disable == disabled


def test_an_old_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export.Dim, "DYNAMIC")
    with pytest.raises(MissingDependencyError, match=r"torch 2\.6 or later is not installed"):
        import_torch("the export", exporter=True)
