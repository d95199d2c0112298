"""The fake TensorRT for RTX: there is one version of it, beside whatever TensorRT `fake.json` names."""

from trt_fake.module import make_module

globals().update(make_module("rtx-1.7"))
