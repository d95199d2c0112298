"""Reading pybind11's signatures and types; the expectations are written by hand."""

from __future__ import annotations

import pytest

from tests.contracts.signatures import Parameter, Signature, Types, parse_signature

TYPES = Types({"DataType", "Dims", "EngineInspector", "ILogger", "ITensor", "Weights"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reset(self: Builder) -> None", Signature("reset", (Parameter("self", "Builder", None),), "None")),
        ("nptype(trt_type)", Signature("nptype", (Parameter("trt_type", None, None),), None)),
        (
            "add_fill(shape: Dims, op: FillOperation = <FillOperation.LINSPACE: 0>, name: str = '') -> IFillLayer",
            Signature(
                "add_fill",
                (
                    Parameter("shape", "Dims", None),
                    Parameter("op", "FillOperation", "<FillOperation.LINSPACE: 0>"),
                    Parameter("name", "str", "''"),
                ),
                "IFillLayer",
            ),
        ),
        (
            "make(weights: std::vector<A, std::allocator<A> >, dims: Tuple[List[int], bool]) -> List[Tuple[int, str]]",
            Signature(
                "make",
                (
                    Parameter("weights", "std::vector<A, std::allocator<A> >", None),
                    Parameter("dims", "Tuple[List[int], bool]", None),
                ),
                "List[Tuple[int, str]]",
            ),
        ),
    ],
)
def test_a_signature_is_taken_apart(text: str, expected: Signature) -> None:
    assert parse_signature(text) == expected


def test_text_that_is_no_signature_is_refused() -> None:
    with pytest.raises(ValueError, match="not a signature: 'no call'"):
        parse_signature("no call")


@pytest.mark.parametrize(
    ("written", "returned", "accepted"),
    [
        ("bool", "builtins.bool", "builtins.bool"),
        ("int", "int", "typing.SupportsInt"),
        ("typing.SupportsFloat", "float", "typing.SupportsFloat"),
        ("buffer", "typing_extensions.Buffer", "typing_extensions.Buffer"),
        ("capsule", "typing_extensions.CapsuleType", "Any"),
        ("numpy.ndarray", "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"),
        ("object", "Any", "Any"),
        ("tuple", "tuple[Any, ...]", "tuple[Any, ...]"),
        ("Dims", "Dims", "Dims | collections.abc.Sequence[int]"),
        ("Weights", "Weights", "Weights | np.ndarray[Any, Any]"),
        ("List[ITensor]", "list[ITensor]", "collections.abc.Sequence[ITensor]"),
        ("Tuple[List[str], List[DataType]]", "tuple[list[str], list[DataType]]", None),
        ("nvinfer1::ILogger::Severity", "ILogger.Severity", "ILogger.Severity"),
        ("nvinfer1::v_1_0::ILogger", "ILogger", "ILogger"),
        ("nvinfer1::IEngineInspector", "EngineInspector", "EngineInspector"),
        ("std::vector<nvinfer1::Weights, std::allocator<nvinfer1::Weights> >", "Any", "Any"),
        ("collections.abc.Callable", "collections.abc.Callable[..., Any]", "collections.abc.Callable[..., Any]"),
        ("Iterable", "collections.abc.Iterable[Any]", "collections.abc.Iterable[Any]"),
    ],
)
def test_types_become_python(written: str, returned: str, accepted: str | None) -> None:
    assert TYPES.returned(written) == returned
    assert accepted is None or TYPES.accepted(written) == accepted


def test_a_class_this_version_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no Python type is known for 'ISymExpr'"):
        TYPES.returned("list[nvinfer1::ISymExpr]")
