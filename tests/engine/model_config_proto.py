"""The part of Triton's model_config.proto that a configuration of ours uses, written down by hand.

Names, numbers, types and labels are those of triton-inference-server/common, protobuf/model_config.proto, so that a
text with a misspelled field, a string where an enum belongs or a single field given twice does not parse.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _BOOL, _INT32 = _Field.TYPE_STRING, _Field.TYPE_BOOL, _Field.TYPE_INT32
_INT64, _UINT64 = _Field.TYPE_INT64, _Field.TYPE_UINT64
ONE, MANY = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED

_ENUMS = {
    "DataType": {
        "TYPE_INVALID": 0, "TYPE_BOOL": 1, "TYPE_UINT8": 2, "TYPE_UINT16": 3, "TYPE_UINT32": 4, "TYPE_UINT64": 5,
        "TYPE_INT8": 6, "TYPE_INT16": 7, "TYPE_INT32": 8, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11,
        "TYPE_FP64": 12, "TYPE_STRING": 13, "TYPE_BF16": 14,
    },
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
    "SecondaryDeviceKind": {"KIND_NVDLA": 0},
}  # fmt: skip
# The enums of ModelInstanceGroup are nested in it and in its SecondaryDevice; text does not show where.

_MESSAGES: dict[str, list[tuple[str, int, Any, int]]] = {
    "Latest": [("num_versions", 1, _Field.TYPE_UINT32, ONE)],
    "All": [],
    "ModelVersionPolicy": [("latest", 1, "Latest", ONE), ("all", 2, "All", ONE)],
    "ModelTensorReshape": [("shape", 1, _INT64, MANY)],
    "ModelInput": [
        ("name", 1, _STRING, ONE),
        ("data_type", 2, "DataType", ONE),
        ("dims", 4, _INT64, MANY),
        ("reshape", 5, "ModelTensorReshape", ONE),
    ],
    "ModelOutput": [
        ("name", 1, _STRING, ONE),
        ("data_type", 2, "DataType", ONE),
        ("dims", 3, _INT64, MANY),
        ("reshape", 5, "ModelTensorReshape", ONE),
    ],
    "SecondaryDevice": [("kind", 1, "SecondaryDeviceKind", ONE), ("device_id", 2, _INT64, ONE)],
    "ModelInstanceGroup": [
        ("count", 2, _INT32, ONE),
        ("kind", 4, "Kind", ONE),
        ("secondary_devices", 8, "SecondaryDevice", MANY),
    ],
    "ModelDynamicBatching": [
        ("preferred_batch_size", 1, _INT32, MANY),
        ("max_queue_delay_microseconds", 2, _UINT64, ONE),
    ],
    "Shape": [("dim", 1, _INT64, MANY)],
    # map<string, Shape> is such a repeated message in text and on the wire.
    "InputEntry": [("key", 1, _STRING, ONE), ("value", 2, "Shape", ONE)],
    "GraphSpec": [("batch_size", 1, _INT32, ONE), ("input", 2, "InputEntry", MANY)],
    "Cuda": [("graphs", 1, _BOOL, ONE), ("graph_spec", 3, "GraphSpec", MANY)],
    "ModelOptimizationPolicy": [("cuda", 3, "Cuda", ONE)],
    "ModelConfig": [
        ("name", 1, _STRING, ONE),
        ("platform", 2, _STRING, ONE),
        ("max_batch_size", 4, _INT32, ONE),
        ("input", 5, "ModelInput", MANY),
        ("output", 6, "ModelOutput", MANY),
        ("version_policy", 3, "ModelVersionPolicy", ONE),
        ("instance_group", 7, "ModelInstanceGroup", MANY),
        ("dynamic_batching", 11, "ModelDynamicBatching", ONE),
        ("optimization", 12, "ModelOptimizationPolicy", ONE),
    ],
}


def parse_model_config(text: str) -> Any:
    """The ModelConfig message in `text`; where tritonclient is installed NVIDIA's own definition has to read the same.

    Raises:
        text_format.ParseError: It is none, by ours or by that.
    """
    ours = text_format.Parse(text, _model_config_class()())
    official = official_model_config()
    if official is not None:
        theirs = text_format.Parse(text, official())
        assert official.FromString(ours.SerializeToString()) == theirs, "the same fields by number"
    return ours


@cache
def official_model_config() -> Any:
    """The class ModelConfig of tritonclient, from the module that protoc made; None where it is not installed.

    The package around it needs gRPC, which is no part of a text.
    """
    try:
        path = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    except PackageNotFoundError:
        return None
    spec = spec_from_file_location("model_config_pb2", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


def _model_config_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, members in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for member, number in members.items():
            enum.value.add(name=member, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type = _Field.TYPE_ENUM if kind in _ENUMS else _Field.TYPE_MESSAGE
                added.type_name = f".inference.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
