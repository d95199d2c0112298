"""What a sentence-transformers folder computes behind its encoder, as its `modules.json` says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_mpq.errors import ModelError

_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
"""What may follow a Dense module; other names would run code that the folder chooses."""


@dataclass(frozen=True, eq=False)
class SentenceModules:
    """The encoder's folder, and a torch.nn.Module from token embeddings and mask to one embedding per text.

    `head` takes embeddings [n, length, width] and the mask [n, length], and returns [n, width].
    """

    encoder: Path
    head: Any


def is_sentence_folder(folder: Path) -> bool:
    """Whether sentence-transformers saved a model there."""
    return (folder / "modules.json").is_file()


def sentence_modules(torch: Any, folder: Path) -> SentenceModules:
    """The modules of `folder`; raises ModelError where one is missing or of a kind that is not known here."""
    modules = _read_json(folder / "modules.json")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not {*kinds[2:]} <= {"Dense", "Normalize"}:
        raise ModelError(
            f"{folder} is made of {', '.join(kinds)}: a Transformer, a Pooling and then Dense and Normalize can be "
            "exported"
        )
    places = [folder / module["path"] for module in modules]
    pooling = _pooling(torch, _pooling_mode(_read_json(places[1] / "config.json"), folder))
    rest = [
        _dense(torch, place) if kind == "Dense" else _normalize(torch)
        for kind, place in zip(kinds[2:], places[2:], strict=True)
    ]
    return SentenceModules(places[0], _head(torch, pooling, rest))


def _pooling_mode(config: dict[str, Any], folder: Path) -> str:
    """`mean` or `cls`, from either form of the file: one name, or a switch for each."""
    switched = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    names = [config["pooling_mode"]] if "pooling_mode" in config else switched
    modes = [str(name).removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for name in names]
    if modes not in (["mean"], ["cls"]):
        raise ModelError(f"{folder} pools by {', '.join(modes) or 'nothing'}: mean or cls can be exported")
    return modes[0]


def _head(torch: Any, pooling: Any, rest: list[Any]) -> Any:
    class Head(torch.nn.Module):  # type: ignore[misc]
        """Pooling, then the other modules one after another."""

        def __init__(self) -> None:
            super().__init__()
            self.pooling, self.rest = pooling, torch.nn.Sequential(*rest)

        def forward(self, tokens: Any, mask: Any) -> Any:
            return self.rest(self.pooling(tokens, mask))

    return Head().eval()


def _pooling(torch: Any, mode: str) -> Any:
    class Pooling(torch.nn.Module):  # type: ignore[misc]
        """The first token, or the mean of those that the mask shows."""

        def forward(self, tokens: Any, mask: Any) -> Any:
            if mode == "cls":
                return tokens[:, 0]
            weights = mask.unsqueeze(-1).to(tokens.dtype)
            return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)

    return Pooling()


def _normalize(torch: Any) -> Any:
    class Normalize(torch.nn.Module):  # type: ignore[misc]
        """To length 1."""

        def forward(self, embedding: Any) -> Any:
            return torch.nn.functional.normalize(embedding, dim=1)

    return Normalize()


def _dense(torch: Any, place: Path) -> Any:
    config = _read_json(place / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        kind = "a residual" if config.get("use_residual") else activation
        raise ModelError(f"{place} is a Dense module with {kind}: {', '.join(_ACTIVATIONS)} can be exported")
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = _read_weights(place / "model.safetensors")
    try:
        linear.load_state_dict({name.removeprefix("linear."): value for name, value in weights.items()})
    except RuntimeError as error:  # how torch says that names or shapes differ
        raise ModelError(
            f"the weights of {place} do not fit its config.json ({error}): copy the folder again"
        ) from error
    return torch.nn.Sequential(linear, getattr(torch.nn, activation)())


def _read_weights(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}): save the model with safe_serialization=True, or copy it again"
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the model folder again") from error
