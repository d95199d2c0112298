"""The trtexec command that repeats a build and its timing, for those who want to check with NVIDIA's own tool.

trtexec's defaults differ: from 11 on it launches CUDA graphs, spins while it waits and leaves the copies out; before,
the reverse. The command names what differs from the defaults of its version, so that the numbers are comparable.
Where an engine is shipped it saves none: that one has its manifest.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from trt_mpq.settings import EngineOptions
from trt_mpq.types import Precision
from trt_mpq.types.engine import Shape, ShapeRange, Typing


def trtexec_command(
    onnx: Path | str,
    options: EngineOptions,
    typing: Typing,
    shapes: Mapping[str, ShapeRange],
    version_major: int,
    constraints: Mapping[str, Precision] | None = None,
    quantized: Collection[Precision] = (),
    save: str = "",
) -> str:
    """One line for a shell.

    Args:
        onnx: The emitted network.
        options: How it was built and timed.
        typing: How the network is typed.
        shapes: Optimization profile of the dynamic inputs; they are timed at the optimum.
        version_major: 8, 10 or 11, of trtexec.
        constraints: Precision of layers of a weakly typed network.
        quantized: 8-bit formats of its Q/DQ, which a weakly typed build has to allow.
        save: File for the engine; empty to keep none.

    Raises:
        ValueError: This version has no such typing.
    """
    words = ["trtexec", f"--onnx={onnx}", *([f"--saveEngine={save}"] if save else [])]
    words += _typing(typing, version_major, constraints or {}, quantized)
    words += _profile(shapes)
    words += _build(options)
    words += _timing(options, version_major)
    return shlex.join(words)


def _typing(
    typing: Typing, version_major: int, constraints: Mapping[str, Precision], quantized: Collection[Precision]
) -> list[str]:
    if typing == "strong":
        if version_major < 10:
            raise ValueError(f"trtexec {version_major} has no strongly typed networks")
        return ["--stronglyTyped"] if version_major == 10 else []
    if version_major > 10:
        raise ValueError(f"trtexec {version_major} has no weakly typed networks")
    low = {Precision.FP16, *constraints.values(), *quantized} - {Precision.FP32}
    words = [f"--{precision.value}" for precision in Precision if precision in low]
    if constraints:
        layers = ",".join(f"{layer}:{precision.value}" for layer, precision in constraints.items())
        words += ["--precisionConstraints=obey", f"--layerPrecisions={layers}"]
    return words


def _profile(shapes: Mapping[str, ShapeRange]) -> list[str]:
    if not shapes:
        return []
    chosen: dict[str, dict[str, Shape]] = {
        "minShapes": {name: shape.minimum for name, shape in shapes.items()},
        "optShapes": {name: shape.optimum for name, shape in shapes.items()},
        "maxShapes": {name: shape.maximum for name, shape in shapes.items()},
        "shapes": {name: shape.optimum for name, shape in shapes.items()},
    }
    return [
        f"--{flag}=" + ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in of_flag.items())
        for flag, of_flag in chosen.items()
    ]


def _build(options: EngineOptions) -> list[str]:
    words = ["--profilingVerbosity=detailed"]
    if not options.tf32:
        words.append("--noTF32")
    if options.workspace_mib is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mib}")
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.hardware_compatible == "ampere_plus":
        words.append("--hardwareCompatibilityLevel=ampere+")
    if options.hardware_compatible == "same_compute_capability":
        words.append("--hardwareCompatibilityLevel=sameComputeCapability")
    if options.refit:
        words.append("--refit")
    if options.sparsity:
        words.append("--sparsity=enable")
    if options.dla_core is not None:
        words += [f"--useDLACore={options.dla_core}", "--allowGPUFallback"]
    words += [f"--staticPlugins={plugin}" for plugin in options.plugins]
    return words


def _timing(options: EngineOptions, version_major: int) -> list[str]:
    seconds = options.rounds * options.round_ms / 1000
    words = [f"--warmUp={options.warm_up_ms:g}", f"--duration={seconds:g}", "--percentile=90,95,99", "--dumpProfile"]
    if version_major >= 11:
        words.append("--includeDataTransfers")
        return words if options.cuda_graph else [*words, "--noCudaGraph"]
    words += ["--useSpinWait", "--separateProfileRun"]
    return [*words, "--useCudaGraph"] if options.cuda_graph else words
