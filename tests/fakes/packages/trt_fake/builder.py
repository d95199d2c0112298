"""The builder: checks network and configuration against each other and the device, and writes a plan."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import onnx

from trt_fake import world
from trt_fake.basics import host_memory
from trt_fake.checks import complaint, quantized_types, requested_precisions
from trt_fake.classes import Stored
from trt_fake.engine_layer import Border
from trt_fake.layers import Fuser, Request
from trt_fake.onnx_graph import Graph
from trt_fake.plan import Plan


class Builder:
    """Makes networks, configurations and plans."""

    max_threads = Stored(1)
    error_recorder = Stored(None)

    def _construct(self, logger: Any) -> None:
        refuse_without_driver(logger, "createInferBuilder")
        self._logger = logger

    def _error(self, code: int, kind: str, message: str) -> None:
        """Log an error in TensorRT's form."""
        self._logger.log(self._api.Logger.ERROR, f"Error Code {code}: {kind} Error {message}")

    @property
    def logger(self) -> Any:
        return self._logger

    @property
    def platform_has_fast_fp16(self) -> bool:
        return True

    @property
    def platform_has_fast_int8(self) -> bool:
        return True

    @property
    def platform_has_tf32(self) -> bool:
        return world.behaviour().sm >= 80

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802 - the real name
        return world.behaviour().dla_cores

    @property
    def max_DLA_batch_size(self) -> int:  # noqa: N802 - the real name
        return 4096

    def create_network(self, flags: int) -> Any:
        return self._api.INetworkDefinition._create(builder=self, flags=flags)

    def create_builder_config(self) -> Any:
        return self._api.IBuilderConfig._create(builder=self)

    def create_optimization_profile(self) -> Any:
        return self._api.IOptimizationProfile._create()

    def is_network_supported(self, network: Any, config: Any) -> bool:
        return complaint(network, config) is None

    def reset(self) -> None:
        pass

    def build_serialized_network(self, network: Any, config: Any, kernel_text: Any = None) -> Any:
        plan = self._build(network, config)
        return None if plan is None else host_memory(self._api, plan.serialize())

    def build_engine(self, network: Any, config: Any) -> Any:
        plan = self._build(network, config)
        return None if plan is None else self._api.ICudaEngine._create(plan=plan, logger=self._logger)

    build_engine_with_config = build_engine

    def _build(self, network: Any, config: Any) -> Plan | None:
        refused = complaint(network, config)
        if refused is not None:
            self._error(*refused)
            return None
        graph: Graph = network._graph
        settings = world.behaviour()
        misbehaves = not settings.only_with or settings.only_with in quantized_types(graph)
        if misbehaves:
            self._misbehave()
        shapes = self._profiles(network, config)
        concrete = Graph.of(graph.model, {name: tuple(sizes[1]) for name, sizes in shapes[0].items()})
        layers = Fuser(concrete, self._request(network, config), settings.int8_ignored, settings.hidden).layers()
        for layer in layers if misbehaves and settings.failing_node else []:
            if settings.failing_node in layer.nodes:
                self._error(10, "Internal", f"(Could not find any implementation for node {layer.name}.)")
                return None
        self._time(config, [f"{layer.name} in {layer.precision}" for layer in layers])
        flag = self._api.BuilderFlag
        return Plan(
            version=world.configuration()["version"],
            gpu=settings.gpu,
            sm=settings.sm,
            name=network.name,
            portable=config.hardware_compatibility_level.name,
            version_compatible=config.get_flag(flag.VERSION_COMPATIBLE),
            refittable=config.get_flag(flag.REFIT),
            verbosity=config.profiling_verbosity.name,
            capability=config.engine_capability.name,
            inputs=tuple(_border(tensor) for tensor in network._inputs),
            outputs=tuple(_border(tensor) for tensor in network._outputs),
            profiles=tuple(shapes),
            layers=tuple(layers),
            model=_computed(graph, settings.wrong_in_8_bit).SerializeToString(),
        )

    def _misbehave(self) -> None:
        settings = world.behaviour()
        if settings.crash == "abort":
            os.abort()
        if settings.crash == "segfault":
            ctypes.string_at(0)
        while settings.hang:
            time.sleep(0.05)

    def _request(self, network: Any, config: Any) -> Request | None:
        if network._strong:
            return None
        flag = self._api.BuilderFlag
        asked = {
            network._graph.nodes[layer._node].name: precision
            for layer, precision in requested_precisions(network, config)
            if layer._node >= 0
        }
        return Request(config.get_flag(flag.FP16), config.get_flag(flag.INT8), asked)

    def _profiles(self, network: Any, config: Any) -> list[dict[str, list[list[int]]]]:
        """Shapes of every input per profile, fixed ones included."""
        fixed = {t.name: [list(t._shape)] * 3 for t in network._inputs}
        dynamic = [
            {name: [list(s) for s in profile.get_shape(name)] for name in fixed if profile.get_shape(name)}
            for profile in config._profiles
        ]
        return [fixed | ranges for ranges in dynamic] or [fixed]

    def _time(self, config: Any, names: list[str]) -> None:
        """Note the layers in the timing cache, and say how many were new."""
        cache = config.get_timing_cache()
        entries = {} if cache is None else cache._entries
        fresh = [name for name in names if name not in entries]
        entries.update(dict.fromkeys(fresh, 1))
        self._logger.log(self._api.Logger.INFO, f"Timed {len(fresh)} of {len(names)} layers, the others were cached")


def _computed(graph: Graph, wrong: tuple[str, ...]) -> onnx.ModelProto:
    """What the engine computes: the network, with the results of 8-bit nodes called `wrong` negated."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for node in list(model.graph.node):
        writers = (graph.nodes[graph.producer[name]].op_type for name in node.input if name in graph.producer)
        if node.name in wrong and "DequantizeLinear" in writers:
            right, node.output[0] = node.output[0], f"{node.output[0]}/right"
            model.graph.node.append(onnx.helper.make_node("Neg", [node.output[0]], [right], name=f"{node.name}/wrong"))
    by_need = {name: node for node in model.graph.node for name in node.output}
    ordered: dict[str, onnx.NodeProto] = {}

    def place(node: onnx.NodeProto) -> None:
        for name in node.input:
            if name in by_need and by_need[name].output[0] not in ordered:
                place(by_need[name])
        ordered[node.output[0]] = node

    for node in model.graph.node:
        place(node)
    nodes = list(ordered.values())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def refuse_without_driver(logger: Any, function: str) -> None:
    """Do what the real constructors do without a CUDA driver; 8.6.0 was seen to call it a warning."""
    if not world.behaviour().available:
        logger.log(
            type(logger).WARNING if world.configuration()["version"] == "8.6" else type(logger).ERROR,
            f"CUDA initialization failure with error: 35. Please check your CUDA installation ({function})",
        )
        raise TypeError("pybind11::init(): factory function returned nullptr")


def _border(tensor: Any) -> Border:
    return Border(tensor.name, tensor._code, tuple(tensor._shape or ()))
