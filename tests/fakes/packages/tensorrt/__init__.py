"""The fake TensorRT: the version that `fake.json` names."""

from trt_fake import world
from trt_fake.module import make_module

globals().update(make_module(world.configuration()["version"]))
