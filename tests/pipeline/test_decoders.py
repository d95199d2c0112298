"""Decoders from Hugging Face folders: exported, grouped, searched by perplexity, emitted, compiled by NVIDIA."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compiler import NEEDS_RTX, compiled
from tests.runs import start
from trt_mpq.export import ExportOptions, export_to_onnx
from trt_mpq.pipeline.run import Run
from trt_mpq.pipeline.scoring import FP32
from trt_mpq.types import LayerGroup
from trt_mpq.types.engine import ShapeRange

torch = pytest.importorskip("torch", reason="exporting needs torch")
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers"),
    pytest.mark.filterwarnings("ignore"),
]

WORDS, LENGTH, LAYERS = 96, 40, 1
_TOKENS = {"vocab_size": WORDS, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_LLAMA = {
    "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, **_TOKENS,
}  # fmt: skip
_GPT2 = {"n_embd": 128, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, **_TOKENS}
KINDS = {"Llama": _LLAMA, "Qwen3": {**_LLAMA, "head_dim": 16}, "GPT2": _GPT2}
"""Rotary embeddings, RMSNorm, SwiGLU and grouped queries; the same with norms on Q and K; and none of these."""
HEADS = {"GPT2": "GPT2LMHeadModel"}

FORMATS = {"Llama": "w4a16", "Qwen3": "nvfp4", "GPT2": "fp8"}
"""What is searched beside FP16."""
SIZES = {"w4a16": 1.4, "nvfp4": 1.4, "fp8": 1.6}
"""Bytes that a plan may have per weight, in FP16 two: less than half of them can stay."""

BLOCK = {
    "Llama": [("MatMul", 3), ("Attention", 0), ("MatMul", 1), ("MatMul", 2), ("MatMul", 1)],
    "Qwen3": [("MatMul", 3), ("Attention", 0), ("MatMul", 1), ("MatMul", 2), ("MatMul", 1)],
    "GPT2": [("Gemm", 3), ("Attention", 0), ("Gemm", 1), ("Gemm", 1), ("Gemm", 1)],
}
"""Q, K and V; attention; output projection; gate and up (or up alone); down: operator and number of weights."""


def saved(kind: str, folder: Path) -> Any:
    """A decoder with random weights, saved as transformers saves it."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**KINDS[kind], initializer_range=0.2)
    model = getattr(transformers, HEADS.get(kind, f"{kind}ForCausalLM"))(config).eval()
    model.save_pretrained(folder)
    return model


def write_texts(folder: Path, model: Any) -> dict[str, str]:
    """Random tokens, and as labels the next ones; after every position the decoder would guess, one in four."""
    random = np.random.default_rng(0)
    files = {}
    for name, count in (("calib", 12), ("eval", 24)):
        ids = random.integers(0, WORDS, (count, LENGTH))
        with torch.no_grad():
            labels = model(input_ids=torch.tensor(ids)).logits.argmax(-1).numpy()
        labels = np.where(random.random(labels.shape) < 0.25, random.integers(0, WORDS, labels.shape), labels)
        np.savez(folder / f"{name}.npz", input_ids=ids, attention_mask=np.ones_like(ids), labels=labels)
        files[name] = str(folder / f"{name}.npz")
    return files


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, Run]:
    kind = request.param
    model = saved(kind, tmp_path / "model")
    export_to_onnx(str(tmp_path / "model"), tmp_path / "net.onnx", ExportOptions())
    files = {"model": str(tmp_path / "net.onnx"), **write_texts(tmp_path, model)}
    size = sum(parameter.numel() for parameter in model.parameters())
    options = {
        "metric": "perplexity", "target_accuracy": 0.9, "search": "ilp",
        "target_size": int(SIZES[FORMATS[kind]] * size),
        "precisions": f"fp16,{FORMATS[kind]}", "device": "rtx5090", "calibration": "minmax", "refine_plan": False,
    }  # fmt: skip
    return kind, model, start(files, tmp_path / "run", **options)


def kinds(groups: tuple[LayerGroup, ...]) -> list[tuple[str, int]]:
    return [(group.op_type, len(group.weights)) for group in groups]


@NEEDS_RTX
def test_a_decoder_is_grouped_searched_by_perplexity_and_compiled(run: tuple[str, Any, Run], tmp_path: Path) -> None:
    kind, model, decoder = run
    assert kinds(decoder.inspect().groups) == [*BLOCK[kind] * LAYERS, ("MatMul", 1)]

    plan = decoder.emit()
    assert any(precision.quantized for _, precision in plan.assignments)
    with np.load(tmp_path / "eval.npz") as data, torch.no_grad():
        logits = model(input_ids=torch.tensor(data["input_ids"])).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(data["labels"]).flatten())
    assert decoder.store[FP32].value == pytest.approx(float(torch.exp(-loss)), rel=1e-4)

    shape = ShapeRange((1, 16), (2, LENGTH), (4, 64))
    built = compiled(tmp_path / "run" / "typed.onnx", 120, shapes=dict.fromkeys(("input_ids", "attention_mask"), shape))
    assert built.built, built.reason
