"""One architecture as ONNX, as its user would export it: `python -m bench.corpus.export NAME EXPORTER OPSET FOLDER`.

It runs where torch and the libraries are that `requirements.txt` beside this file names, and knows nothing of trt-
mpq. The folder gets `model.onnx`, with a free batch where the exporter manages that, and `data.npz`.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.corpus.own import OWN, Made

TRACED_ROWS = 2


def make(name: str) -> Made:
    """The module called `name`, its random weights always the same, and its data."""
    import torch

    torch.manual_seed(0)
    if name in OWN:
        module, inputs = OWN[name][1]()
    else:
        from bench.corpus.libraries import LIBRARIES

        module, inputs = LIBRARIES[name][1]()
    return _standardized(_awake(module.eval()), inputs), inputs


def _standardized(module: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
    """`module` whose BatchNorms know the statistics of its data, as training would have left them.

    Otherwise what sums many branches grows from layer to layer, beyond the range of FP16.
    """
    import torch

    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    for layer in norms:
        layer.momentum = 1.0
        layer.train()
    if norms:
        with torch.no_grad():
            module(*(torch.from_numpy(rows) for rows in inputs.values()))
    return module.eval()


def _awake(module: Any) -> Any:
    """Zeros and ones that training would have moved (the last scale of a branch, say) are random instead.

    Otherwise whole branches compute nothing, and a comparison of outputs says nothing of them.
    """
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            if (
                parameter.is_floating_point()
                and parameter.numel() > 1
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                parameter += 0.1 * torch.randn(parameter.shape)
    return module


def export(name: str, exporter: str, opset: int, folder: Path) -> None:
    import torch

    torch.backends.mha.set_fastpath_enabled(False)  # the TorchScript exporter has no operator for that kernel
    module, inputs = make(name)
    examples = tuple(torch.from_numpy(rows[:TRACED_ROWS]) for rows in inputs.values())
    options: dict[str, Any] = {"input_names": list(inputs), "opset_version": opset}
    with torch.no_grad():
        if exporter == "dynamo":
            free = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
            torch.onnx.export(
                module, examples, folder / "model.onnx", dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=free, **options,
            )  # fmt: skip
        else:
            axes = {input_name: {0: "batch"} for input_name in inputs}
            torch.onnx.export(module, examples, str(folder / "model.onnx"), dynamo=False, dynamic_axes=axes, **options)
    np.savez(folder / "data.npz", **inputs)
    (folder / "versions.json").write_text(json.dumps(_versions()), encoding="utf-8")


def _versions() -> dict[str, str]:
    """Packages that the network came from."""
    names = ("torch", "torchvision", "timm", "transformers", "onnxscript")
    return {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}


def main() -> None:
    """Export what the arguments say."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    name, exporter, opset, folder = sys.argv[1:]
    export(name, exporter, int(opset), Path(folder))


if __name__ == "__main__":
    main()
