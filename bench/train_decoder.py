"""Train a small decoder of bytes: `python bench/train_decoder.py` writes its Hugging Face folder and its data.

A Llama (rotary embeddings, RMSNorm, SwiGLU, grouped queries) of 1.2 million weights that predicts the next byte of
Python's help topics, which ship with Python (`pydoc_data`). Every tenth topic is held back to evaluate on. Minutes on
two cores; nothing of it is kept in this project.
"""

# ruff: noqa: TID253 - a training script is about torch

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Bytes = NDArray[np.uint8]

FOLDER = Path(__file__).parent / "cache" / "decoder"
WINDOW = 128
"""Bytes that the decoder sees at a time."""
STEPS, BATCH, RATE, WARMUP = 600, 8, 4e-3, 50
CALIBRATION, EVALUATION = 128, 256
"""Windows of the training text, and of what was held back."""
SIZES = {
    "vocab_size": 256, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": WINDOW, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def texts() -> tuple[Bytes, Bytes]:
    """What is learned from and what is held back: Python's help topics in the order of their names."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    held_back = names[::10]
    learned = [name for name in names if name not in held_back]
    joined = ("\n\n".join(topics[name] for name in part) for part in (learned, held_back))
    first, second = (np.frombuffer(text.encode(), np.uint8) for text in joined)
    return first, second


def windows(text: NDArray[Any], count: int, length: int = WINDOW) -> dict[str, NDArray[np.int64]]:
    """The arrays of `--calib` and `--eval`: windows [count, length] evenly over the text, and what follows each token.

    `text` is of bytes, or of tokens of another vocabulary.
    """
    starts = np.linspace(0, len(text) - length - 1, count).astype(np.int64)
    rows = text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
    ids = np.ascontiguousarray(rows[:, :-1])
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": np.ascontiguousarray(rows[:, 1:])}


def make_decoder() -> Any:
    """The network with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager"))


def train(decoder: Any, text: Bytes, steps: int) -> None:
    """AdamW with a warm-up and a cosine to nothing, on windows drawn anywhere."""
    content = torch.from_numpy(text.astype(np.int64))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    decoder.train()
    for step in range(steps):
        starts = torch.randint(0, len(content) - WINDOW - 1, (BATCH, 1))
        rows = content[starts + torch.arange(WINDOW + 1)]
        loss = _loss(decoder, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item() / math.log(2):.3f} bits per byte", flush=True)


def _rate(step: int, steps: int) -> float:
    return min(step / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _loss(decoder: Any, ids: Any, following: Any) -> Any:
    logits = decoder(input_ids=ids, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), following.flatten())


@torch.no_grad()
def bits_per_byte(decoder: Any, data: dict[str, NDArray[np.int64]]) -> float:
    """The mean over the windows of `data`."""
    decoder.eval()
    ids, following = (torch.from_numpy(data[name]) for name in ("input_ids", "labels"))
    parts = zip(ids.split(32), following.split(32), strict=True)
    return float(np.mean([_loss(decoder, *part).item() for part in parts])) / math.log(2)


def made(folder: Path = FOLDER, steps: int = STEPS, seed: int = 0) -> Path:
    """The folder, trained if it is not there: `model/` as transformers saves it, `calib.npz` and `test.npz`."""
    if not (folder / "model").exists():
        torch.manual_seed(seed)
        learned, held_back = texts()
        decoder = make_decoder()
        train(decoder, learned, steps)
        test = windows(held_back, EVALUATION)
        print(
            f"{sum(p.numel() for p in decoder.parameters())} weights, {bits_per_byte(decoder, test):.3f} bits per byte"
        )
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "calib.npz", **windows(learned, CALIBRATION))
        np.savez(folder / "test.npz", **test)
        decoder.save_pretrained(folder / "model")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(made(options.output, options.steps, options.seed))


if __name__ == "__main__":
    main()
