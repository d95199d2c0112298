"""Hugging Face model folders as torch modules: weights from safetensors only, no code from the folder, no network.

A sentence-transformers folder (with `modules.json`) becomes its encoder and what follows it in one module.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from trt_mpq.errors import ModelError, missing
from trt_mpq.runtime.base import Array, Arrays
from trt_mpq.runtime.sentence_modules import is_sentence_folder, sentence_modules
from trt_mpq.runtime.torch_autograd import import_torch
from trt_mpq.runtime.torch_export import quiet

_ROWS, _TOKENS = 3, 16
_MASKED = -10000.0
"""Added to the score of a hidden token: its weight is exactly 0 in float32, and float16 can hold the number."""
_SAME = 1e-5


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder that transformers could have saved a model to."""
    return (path / "config.json").is_file() or is_sentence_folder(path)


def load_model_folder(folder: Path) -> tuple[Any, Arrays, tuple[tuple[str, int, str], ...]]:
    """The model in `folder` as a module with tensors in and out.

    Text models take `input_ids`, `attention_mask` and, where they have segments, `token_type_ids`; image models take
    `pixel_values`.

    Returns:
        The module; random inputs to trace it with; and its free axes besides the batch, as input, axis and symbol.

    Raises:
        ModelError: The folder is incomplete, or holds a model of another kind.
        MissingDependencyError: torch or transformers is not installed.
    """
    torch, transformers = import_torch("the export", exporter=True), _import_transformers()
    sentence = sentence_modules(torch, folder) if is_sentence_folder(folder) else None
    model = _load(transformers, folder) if sentence is None else _load(transformers, sentence.encoder, pooled=True)
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{folder} holds an encoder and a decoder: export each with a factory of your own")
    model.config.use_cache = False
    if model.main_input_name == "pixel_values":
        return model, _pixels(model.config, folder), ()
    if model.main_input_name != "input_ids":
        raise ModelError(f"{folder} takes {model.main_input_name}: export it with a factory that gives example inputs")
    examples = _tokens(model)
    module = _text_module(torch, model, sentence and sentence.head, _additive_masks_work(torch, model, examples))
    return module, examples, tuple((name, 1, "sequence") for name in examples)


def _load(transformers: Any, folder: Path, *, pooled: bool = False) -> Any:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors: save the model with save_pretrained(folder, safe_serialization=True); "
            "pickled weights are not read"
        )
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model, report = _class_of(transformers, config, pooled=pooled).from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True,
                attn_implementation="eager",
            )  # fmt: skip
    except Exception as error:  # transformers has no common base for a damaged or unknown folder
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"transformers cannot load {folder}: {lines[0]}") from error
    # Of an encoder under a pooling only the token embeddings are used, so its own pooler may be absent.
    missing = [key for key in report["missing_keys"] if not (pooled and key.startswith("pooler."))]
    if missing:
        raise ModelError(
            f"{folder} lacks the weights {', '.join(sorted(missing)[:3])} of {type(model).__name__}, which would be "
            "drawn at random: give the folder of the finished model"
        )
    return model.eval().float()


def _class_of(transformers: Any, config: Any, *, pooled: bool) -> Any:
    """The class that `config` names; under a pooling its encoder, without the head that it was trained with."""
    if pooled:
        listed = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        return transformers.AutoModelForTextEncoding if listed else transformers.AutoModel
    return getattr(transformers, (getattr(config, "architectures", None) or [""])[0], transformers.AutoModel)


def _text_module(torch: Any, model: Any, head: Any, additive: bool) -> Any:
    class TextModel(torch.nn.Module):  # type: ignore[misc]
        """Tokens in, tensors out; with a `head`, one `embedding` per text."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.head = model, head

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            mask = _additive(attention_mask) if additive else attention_mask
            segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            result = self.model(input_ids=input_ids, attention_mask=mask, **segments)
            return result if head is None else {"embedding": head(result[0], attention_mask)}

    return TextModel()


def _additive_masks_work(torch: Any, model: Any, examples: Arrays) -> bool:
    """Whether the model computes the same with the mask spelled out as what is added to the attention scores.

    Encoders do. What transformers makes of a plain mask is traced into gathers over [n, 1, length, length], with a
    constant that float16 cannot hold. Causal models do not, because their own mask would be replaced.
    """
    tensors = {name: torch.tensor(value) for name, value in examples.items()}
    with torch.no_grad(), quiet():
        plain = model(**tensors)[0]
        try:
            spelled_out = model(**{**tensors, "attention_mask": _additive(tensors["attention_mask"])})[0]
        except (ValueError, RuntimeError, IndexError, TypeError):  # how models refuse a mask of four dimensions
            return False
    return plain.shape == spelled_out.shape and bool((plain - spelled_out).abs().max() < _SAME)


def _additive(mask: Any) -> Any:
    return (1.0 - mask[:, None, None, :].float()) * _MASKED


def _tokens(model: Any) -> Arrays:
    """Random token ids; the texts have different lengths, and the second half of each is its second segment."""
    random = np.random.default_rng(0)
    lengths = _TOKENS - 4 * np.arange(_ROWS)[:, None]
    places = np.broadcast_to(np.arange(_TOKENS), (_ROWS, _TOKENS))
    examples: Arrays = {
        "input_ids": random.integers(0, model.config.vocab_size, (_ROWS, _TOKENS), dtype=np.int64),
        "attention_mask": (places < lengths).astype(np.int64),
    }
    segments = getattr(model.config, "type_vocab_size", 0) or 0
    if segments > 1 and "token_type_ids" in inspect.signature(model.forward).parameters:
        examples["token_type_ids"] = (places >= lengths // 2).astype(np.int64)
    return examples


def _pixels(config: Any, folder: Path) -> Arrays:
    size = getattr(config, "image_size", None)
    if size is None:
        raise ModelError(f"{folder} says no image_size: pass example inputs with --inputs and a factory of your own")
    height, width = size if isinstance(size, list | tuple) else (size, size)
    shape = (_ROWS, int(getattr(config, "num_channels", 3)), int(height), int(width))
    pixels: Array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return {"pixel_values": pixels}


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise missing("transformers", "exporting a Hugging Face folder", "hf") from error
    return transformers
