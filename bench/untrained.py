"""Fourteen small networks with random weights for `bench.fusions`: what is compiled does not depend on values.

`python -m bench.untrained FOLDER` writes each as `<name>.onnx` and two samples beside it as `<name>.npz`. It needs
torch, timm, transformers and onnxscript (`bench/corpus/requirements.txt`), which the other benchmarks do not.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 2
LENGTH = 64
"""Tokens of a text."""
_SMALL: Mapping[str, Any] = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256
}  # fmt: skip


def _timm(name: str, size: int = 64, **options: Any) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def make() -> tuple[Any, dict[str, Any]]:
        import timm
        import torch

        return timm.create_model(name, num_classes=16, **options), {"image": torch.randn(SAMPLES, 3, size, size)}

    return make


def _texts(model: str, config: str, **options: Any) -> Callable[[], tuple[Any, dict[str, Any]]]:
    def make() -> tuple[Any, dict[str, Any]]:
        import torch
        import transformers

        settings = getattr(transformers, config)(vocab_size=200, **options)
        network = getattr(transformers, model)(settings)
        network.config.return_dict = False
        return network, {"input_ids": torch.randint(3, 200, (SAMPLES, LENGTH))}

    return make


NETWORKS: Mapping[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "resnet18": _timm("resnet18"),
    "regnety": _timm("regnety_002"),
    "mobilenetv3": _timm("mobilenetv3_small_100"),
    "efficientnet": _timm("efficientnet_b0"),
    "densenet": _timm("densenet121", memory_efficient=False),
    "convnext": _timm("convnext_atto"),
    "vit": _timm("vit_tiny_patch16_224", img_size=64, depth=2),
    "swin": _timm("swin_tiny_patch4_window7_224", 56, img_size=56, depths=(2, 2), num_heads=(2, 4), embed_dim=64),
    "mobilevit": _timm("mobilevit_xxs"),
    "bert": _texts("BertModel", "BertConfig", **_SMALL),
    "gpt2": _texts("GPT2Model", "GPT2Config", n_embd=128, n_layer=2, n_head=4, use_cache=False),
    "llama": _texts("LlamaModel", "LlamaConfig", **_SMALL, num_key_value_heads=4, use_cache=False),
    "t5": _texts(
        "T5EncoderModel",
        "T5Config",
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        attn_implementation="eager",
    ),
    "clip-text": _texts("CLIPTextModel", "CLIPTextConfig", **_SMALL, max_position_embeddings=LENGTH),
}
"""Name to what makes the module and its sample inputs."""


def write(name: str, folder: Path) -> None:
    """Export one of `NETWORKS` with a dynamic batch."""
    import torch

    torch.manual_seed(0)
    module, inputs = NETWORKS[name]()
    arguments = tuple(inputs.values())
    torch.onnx.export(
        module.eval(), arguments, folder / f"{name}.onnx", dynamo=True, opset_version=18, verbose=False,
        external_data=False, input_names=list(inputs),
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
    )  # fmt: skip
    np.savez(folder / f"{name}.npz", **{key: value.numpy() for key, value in inputs.items()})


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m bench.untrained", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for name in options.networks.split(","):
        if not (options.folder / f"{name}.npz").exists():
            write(name, options.folder)
            print(name, flush=True)


if __name__ == "__main__":
    main()
