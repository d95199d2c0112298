"""Factories as users write them: small modules with example inputs, sound and broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # noqa: TID253  a module that needs torch, as a user's does
from torch import nn  # noqa: TID253

IMAGE = (3, 8, 8)


class ConvNet(nn.Module):
    """Most of what changes between opset 18 and 17: padding, splitting, reducing, resizing, normalizing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.group_norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Any) -> Any:
        x = torch.relu(self.norm(self.stem(nn.functional.pad(image, (1, 0, 2, 1)))))
        left, right = self.group_norm(x).chunk(2, 1)
        x = nn.functional.interpolate(torch.cat([right, left], 1), scale_factor=2.0, mode="bilinear")
        x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-3)
        return self.head(x.mean((2, 3)) + x.amax((2, 3)))


def conv_net() -> tuple[nn.Module, Any]:
    return ConvNet(), torch.randn(1, *IMAGE)


class Encoder(nn.Module):
    """A transformer encoder over tokens with a mask; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.positions = nn.Parameter(torch.randn(12, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2)
        self.classes = nn.Linear(16, 3)
        for parameter in self.parameters():  # the layers begin as copies of one
            nn.init.normal_(parameter, std=0.3)

    def forward(self, tokens: Any, mask: Any) -> dict[str, Any]:
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        x = self.layers(x, src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).to(x.dtype)
        return {"logits": self.classes((x * weights).sum(1) / weights.sum(1)), "states": x}


def encoder() -> tuple[nn.Module, Any]:
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    return Encoder(), {"mask": mask, "tokens": torch.randint(0, 50, (2, 8))}


class Categories(nn.Module):
    """Looks up a fixed number of categories, so only the batch is free; returns a tuple, integers among it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)
        self.mix = nn.Linear(4 * 3 + 2, 6)

    def forward(self, numbers: Any, categories: Any) -> tuple[Any, Any]:
        scores = self.mix(torch.cat([numbers, self.table(categories).flatten(1)], 1))
        return scores, scores.argmax(1)


def categories() -> tuple[nn.Module, Any]:
    return Categories(), (torch.randn(3, 2), torch.randint(0, 20, (3, 3)))


def factory_of(function: Callable[[Any], Any]) -> Callable[[], tuple[nn.Module, Any]]:
    """A factory of a module that computes `function` of its input `x`, float32 [3, 8]."""

    class Module(nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return lambda: (Module(), torch.randn(3, 8))


scaled = factory_of(lambda x: x * 2.0)
branching = factory_of(lambda x: x * 2.0 if x.sum() > 0 else x)
three_rows = factory_of(lambda x: x.reshape(3, 8) + 1.0)
nothing_is_a_number = factory_of(lambda x: torch.log(-x.abs() - 1.0))
singular_values = factory_of(lambda x: torch.linalg.svd(x)[1])
random_noise = factory_of(lambda x: x + torch.rand_like(x))
text = factory_of(lambda x: "text")


def no_module() -> int:
    return 3


def no_examples() -> nn.Module:
    return scaled()[0]


def wrong_names() -> tuple[nn.Module, Any]:
    module, x = scaled()
    return module, {"y": x}


def no_tensor() -> tuple[nn.Module, Any]:
    return scaled()[0], {"x": 3.0}


def lost() -> nn.Module:
    raise ValueError("lost the\nweights")


THREE = 3
