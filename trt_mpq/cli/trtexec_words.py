"""Options that hands know from trtexec, in the words of this program, where they mean the same.

`--fp16 --int8` names the ladder, `--minShapes`, `--optShapes` and `--maxShapes` the profile of the inputs. What means
something else here, as `--device`, which is a number there, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trt_mpq.errors import SettingsError

_SHAPES = ("minShapes", "optShapes", "maxShapes")
_FORMATS = ("bf16", "fp16", "fp8", "int8", "int4")
_FLAGS = {
    "noTF32": ("--no-tf32",),
    "stronglyTyped": ("--typing", "strong"),
    "versionCompatible": ("--version-compatible",),
    "useCudaGraph": ("--cuda-graph",),
    "noCudaGraph": ("--no-cuda-graph",),
    "skipInference": ("--engine",),
}
_VALUES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "onnx": lambda value: (value,),
    "saveEngine": lambda value: ("--save-engine", value),
    "builderOptimizationLevel": lambda value: ("--optimization-level", value),
    "memPoolSize": lambda value: ("--workspace-mib", _workspace(value)),
    "useDLACore": lambda value: ("--dla-core", value),
    "staticPlugins": lambda value: ("--plugins", value),
    "plugins": lambda value: ("--plugins", value),
    "warmUp": lambda value: ("--warm-up-ms", value),
}
COMMANDS = ("build", "engine")
"""Those that understand these words."""


def translated(words: Sequence[str]) -> list[str]:
    """Arguments of a command with trtexec's words as this program has them.

    Raises:
        SettingsError: A profile is incomplete, or a memory pool is none that is known.
    """
    left, ours = list(words), []
    shapes: dict[str, dict[str, str]] = {}
    formats: list[str] = []
    while left:
        word = left.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in (*_SHAPES, *_FORMATS, *_FLAGS, *_VALUES):
            ours.append(word)
        elif name in _FORMATS and not equals:
            formats.append(name)
        elif name in _FLAGS and not equals:
            ours += _FLAGS[name]
        else:
            if not equals:
                value = left.pop(0) if left else ""
            if name in _SHAPES:
                for tensor, shape in _named(value):
                    shapes.setdefault(tensor, {})[name] = shape
            else:
                ours += _VALUES[name](value)
    ours += ["--precisions", ",".join(formats)] if formats else []
    for tensor, given in shapes.items():
        ours += ["--shapes", f"{tensor}={_range(tensor, given)}"]
    return ours


def _named(text: str) -> list[tuple[str, str]]:
    """Tensors and shapes of a:1x3,b:1x4."""
    return [(name, shape) for name, _, shape in (part.rpartition(":") for part in text.split(","))]


def _range(tensor: str, given: dict[str, str]) -> str:
    if lacking := [name for name in _SHAPES if name not in given]:
        raise SettingsError(
            f"--{lacking[0]} does not name {tensor!r}: give --minShapes, --optShapes and --maxShapes for it"
        )
    return ":".join(given[name] for name in _SHAPES)


def _workspace(value: str) -> str:
    pool, _, size = value.partition(":")
    number = size.removesuffix("MiB").removesuffix("M")
    if pool != "workspace" or not number.isdigit():
        raise SettingsError(f"--memPoolSize={value} is not understood: give workspace:MIB, or --workspace-mib MIB")
    return number
