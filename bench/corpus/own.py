"""Architectures written here, as people write them: each needs torch and nothing else, and has random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812  its usual name

Inputs = dict[str, NDArray[Any]]
"""Input name to rows [n, ...]; names are the parameters of the module's forward, in order."""
Made = tuple[nn.Module, Inputs]

ROWS = 8
"""Rows of data that come with a network, for calibration and comparison."""


def floats(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((ROWS, *shape)).astype(np.float32)


def tokens(length: int, vocabulary: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, vocabulary, (ROWS, length), dtype=np.int64)


def mask(length: int) -> NDArray[np.int64]:
    return (np.arange(length) < np.random.default_rng(1).integers(length // 2, length + 1, (ROWS, 1))).astype(np.int64)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


# Detectors


class _C2f(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = conv(channels, channels, 1), conv(channels // 2 * 3, channels, 1)
        self.inner = nn.Sequential(conv(channels // 2, channels // 2), conv(channels // 2, channels // 2))

    def forward(self, x: Any) -> Any:
        left, right = self.first(x).chunk(2, 1)
        return self.last(torch.cat([left, right, right + self.inner(right)], 1))


class _Sppf(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = conv(channels, channels // 2, 1), conv(channels * 2, channels, 1)

    def forward(self, x: Any) -> Any:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """C2f blocks, SPPF, a two-level neck, and an anchor-free head whose boxes are distributions (DFL)."""

    def __init__(self, classes: int = 10, bins: int = 8) -> None:
        super().__init__()
        self.classes, self.bins = classes, bins
        self.stem = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2), _C2f(32))
        self.low = nn.Sequential(conv(32, 64, 3, 2), _C2f(64))
        self.high = nn.Sequential(conv(64, 64, 3, 2), _Sppf(64))
        self.neck = nn.Sequential(conv(128, 64, 1), _C2f(64))
        self.heads = nn.ModuleList(nn.Conv2d(64, 4 * bins + classes, 1) for _ in range(2))

    def forward(self, images: Any) -> Any:
        low = self.low(self.stem(images))
        high = self.high(low)
        low = self.neck(torch.cat([low, F.interpolate(high, scale_factor=2.0, mode="nearest")], 1))
        levels = [head(x).flatten(2) for head, x in zip(self.heads, (low, high), strict=True)]
        boxes, scores = torch.cat(levels, 2).split((4 * self.bins, self.classes), 1)
        bins = torch.arange(self.bins, dtype=boxes.dtype)
        boxes = (boxes.view(boxes.shape[0], 4, self.bins, -1).softmax(2) * bins.view(1, 1, -1, 1)).sum(2)
        return torch.cat([boxes, scores.sigmoid()], 1)


class AnchorDetector(nn.Module):
    """Anchors, several outputs, boxes decoded with exp."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2), conv(32, 32))
        self.boxes, self.scores = nn.Conv2d(32, 12, 3, padding=1), nn.Conv2d(32, 9, 3, padding=1)

    def forward(self, images: Any) -> Any:
        x = self.body(images)
        boxes = self.boxes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        scores = self.scores(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3)
        return torch.cat([boxes[..., :2], boxes[..., 2:].clamp(max=4).exp()], -1), scores.softmax(-1)


class Hourglass(nn.Module):
    """Keypoints as heat maps: down, up, and sums across."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.downs, self.ups = (nn.ModuleList(conv(16, 16) for _ in range(3)) for _ in range(2))
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, images: Any) -> Any:
        x, kept = self.stem(images), []
        for down in self.downs:
            kept.append(x)
            x = F.max_pool2d(down(x), 2)
        for up, skip in zip(self.ups, reversed(kept), strict=True):
            x = F.interpolate(up(x), scale_factor=2.0, mode="bilinear", align_corners=False) + skip
        return self.head(x)


# Images to images


class UNet(nn.Module):
    """Transposed convolutions and concatenations."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(3, width), conv(width, 2 * width), conv(2 * width, 4 * width)])
        self.ups = nn.ModuleList(
            [nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)]
        )
        self.up = nn.ModuleList([conv(4 * width, 2 * width), conv(2 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, images: Any) -> Any:
        first = self.down[0](images)
        second = self.down[1](F.max_pool2d(first, 2))
        x = self.down[2](F.max_pool2d(second, 2))
        x = self.up[0](torch.cat([self.ups[0](x), second], 1))
        return self.head(self.up[1](torch.cat([self.ups[1](x), first], 1)))


class UNet3d(nn.Module):
    """Volumes: 3-D convolutions, instance norm, leaky ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = self._block(1, 8), self._block(8, 16, 2), self._block(16, 8)
        self.up, self.head = nn.ConvTranspose3d(16, 8, 2, 2), nn.Conv3d(8, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride, 1), nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.01)
        )

    def forward(self, volume: Any) -> Any:
        first = self.first(volume)
        return self.head(self.last(torch.cat([self.up(self.second(first)), first], 1)))


class SuperResolution(nn.Module):
    """ESPCN: convolutions, then pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.PReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3))

    def forward(self, image: Any) -> Any:
        return self.head(self.body(image)).clamp(0, 1)


class Generator(nn.Module):
    """DCGAN."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(32, 64, 4, 1, 0), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
        ]
        self.body = nn.Sequential(*layers, nn.Tanh())

    def forward(self, noise: Any) -> Any:
        return self.body(noise[:, :, None, None])


class StyleTransfer(nn.Module):
    """Reflection padding, instance norm, residual blocks, nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        layer = self._layer
        self.down = nn.Sequential(layer(3, 16, 9), nn.ReLU(), layer(16, 32, 3, 2), nn.ReLU())
        self.residual = nn.Sequential(layer(32, 32, 3), nn.ReLU(), layer(32, 32, 3))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2.0), layer(32, 16, 3), nn.ReLU(), nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9)
        )

    @staticmethod
    def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.ReflectionPad2d(kernel // 2),
            nn.Conv2d(inputs, outputs, kernel, stride),
            nn.InstanceNorm2d(outputs, affine=True),
        )

    def forward(self, image: Any) -> Any:
        x = self.down(image)
        return self.up(x + self.residual(x))


class Diffusion(nn.Module):
    """A denoising U-Net: sinusoidal times, group norm, FiLM, self and cross attention."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 2 * width))
        self.first, self.last = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)
        self.norm, self.middle = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.own = nn.MultiheadAttention(width, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(width, 2, batch_first=True, kdim=16, vdim=16)

    def forward(self, latent: Any, time: Any, text: Any) -> Any:
        half = self.width // 2
        angles = time[:, None] * torch.exp(torch.arange(half) * (-9.2 / half))
        scale, shift = self.time(torch.cat([angles.sin(), angles.cos()], 1)).chunk(2, 1)
        x = self.first(latent)
        x = x + self.middle(F.silu(self.norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]))
        y = x.flatten(2).transpose(1, 2)
        y = y + self.own(y, y, y, need_weights=False)[0]
        y = y + self.cross(y, text, text, need_weights=False)[0]
        return self.last(y.transpose(1, 2).reshape(x.shape))


# Text and speech


class Crnn(nn.Module):
    """A text recogniser: convolutions, then a bidirectional LSTM over columns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(1, 16),
            nn.MaxPool2d(2),
            conv(16, 32),
            nn.MaxPool2d((4, 2)),
            conv(32, 32),
        )
        self.columns, self.head = nn.LSTM(32, 24, bidirectional=True, batch_first=True), nn.Linear(48, 40)

    def forward(self, image: Any) -> Any:
        x = self.body(image).mean(2).transpose(1, 2)
        return self.head(self.columns(x)[0]).log_softmax(-1)


class Recogniser(nn.Module):
    """SVTR-like: a stem of convolutions, mixing by attention, CTC head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2))
        self.mixer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=True)
        self.head = nn.Linear(32, 50)

    def forward(self, image: Any) -> Any:
        x = self.stem(image)
        x = x.mean(2).transpose(1, 2)
        return self.head(self.mixer(x)).softmax(-1)


class Vocoder(nn.Module):
    """HiFi-GAN: transposed 1-D convolutions and dilated residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(20, 32, 7, padding=3)
        self.ups = nn.ModuleList([nn.ConvTranspose1d(32, 16, 8, 4, 2), nn.ConvTranspose1d(16, 8, 4, 2, 1)])
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(c, c, 3, padding=d, dilation=d) for d in (1, 3, 5)) for c in (16, 8)
        )
        self.last = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, mel: Any) -> Any:
        x = self.first(mel)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            for layer in block:
                x = x + layer(F.leaky_relu(x, 0.1))
        return torch.tanh(self.last(F.leaky_relu(x)))


class WaveNet(nn.Module):
    """Gated dilated convolutions, residual and skip connections, causal padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 16, 1)
        self.gated = nn.ModuleList(nn.Conv1d(16, 32, 2, dilation=2**n) for n in range(4))
        self.mixed = nn.ModuleList(nn.Conv1d(16, 32, 1) for _ in range(4))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(16, 16, 1), nn.ReLU(), nn.Conv1d(16, 8, 1))

    def forward(self, wave: Any) -> Any:
        x, skips = self.first(wave), 0.0
        for n, (gated, mixed) in enumerate(zip(self.gated, self.mixed, strict=True)):
            a, b = gated(F.pad(x, (2**n, 0))).chunk(2, 1)
            y, skip = mixed(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            x, skips = x + y, skips + skip
        return self.last(skips)


class Separator(nn.Module):
    """Conv-TasNet: encoder, depthwise blocks with global norm, masks, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, 32, 16, 8), nn.ConvTranspose1d(32, 1, 16, 8)
        self.blocks = nn.Sequential(
            nn.GroupNorm(1, 32),
            nn.Conv1d(32, 48, 1),
            nn.PReLU(),
            nn.Conv1d(48, 48, 3, padding=2, dilation=2, groups=48),
            nn.PReLU(),
            nn.Conv1d(48, 64, 1),
        )

    def forward(self, wave: Any) -> Any:
        x = F.relu(self.encode(wave))
        masks = self.blocks(x).sigmoid().chunk(2, 1)
        return torch.cat([self.decode(x * own) for own in masks], 1)


class KeywordSpotter(nn.Module):
    """A GRU over features."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.memory, self.head = nn.Linear(20, 32), nn.GRU(32, 32, batch_first=True), nn.Linear(32, 6)

    def forward(self, features: Any) -> Any:
        return self.head(self.memory(self.features(features).relu())[0][:, -1])


class Tcn(nn.Module):
    """A temporal convolutional network with weight-less residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(16, 16, 3, dilation=2**n) for n in range(3))
        self.head = nn.Linear(16, 4)

    def forward(self, series: Any) -> Any:
        x = series
        for n, layer in enumerate(self.layers):
            x = x + layer(F.pad(x, (2 ** (n + 1), 0))).relu()
        return self.head(x[:, :, -1])


class LanguageModel(nn.Module):
    """Embedding, LSTM, tied output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.memory = nn.Embedding(100, 32), nn.LSTM(32, 32, 2, batch_first=True)

    def forward(self, tokens: Any) -> Any:
        return self.memory(self.embedding(tokens))[0] @ self.embedding.weight.t()


class EncoderDecoder(nn.Module):
    """torch's own transformer, with cross attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32)
        self.body = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)
        self.head = nn.Linear(32, 60)

    def forward(self, source: Any, target: Any) -> Any:
        return self.head(self.body(self.embedding(source), self.embedding(target)))


class EinsumTransformer(nn.Module):
    """Attention and projections with einsum."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3, heads, width, width // heads) / width**0.5)
        self.out = nn.Parameter(torch.randn(heads, width // heads, width) / width**0.5)
        self.head = nn.Linear(width, 8)

    def forward(self, states: Any) -> Any:
        q, k, v = (torch.einsum("bnd,hde->bhne", states, w) for w in self.qkv)
        scores = torch.einsum("bhqe,bhke->bhqk", q, k) * q.shape[-1] ** -0.5
        mixed = torch.einsum("bhqk,bhke->bhqe", scores.softmax(-1), v)
        return self.head(states + torch.einsum("bhne,hed->bnd", mixed, self.out))


class Decoder(nn.Module):
    """A causal transformer with rotary positions, RMS norm and a gated MLP."""

    def __init__(self, width: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.embedding = heads, nn.Embedding(80, width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up, self.down = (
            nn.Linear(width, 64, bias=False),
            nn.Linear(width, 64, bias=False),
            nn.Linear(64, width, bias=False),
        )
        self.scale = nn.Parameter(torch.ones(width))

    def _norm(self, x: Any) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale

    def _rotated(self, x: Any) -> Any:
        half = x.shape[-1] // 2
        angles = torch.arange(x.shape[2])[:, None] * 10000 ** (-torch.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self._norm(x)).chunk(3, -1)
        )
        hidden = torch.triu(torch.full((length, length), -1e4), 1)
        scores = self._rotated(q) @ self._rotated(k).transpose(-1, -2) * (width / self.heads) ** -0.5 + hidden
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))
        y = self._norm(x)
        return (x + self.down(F.silu(self.gate(y)) * self.up(y))) @ self.embedding.weight.t()


class MixtureOfExperts(nn.Module):
    """All experts run, a softmax weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(32, 4)
        self.up, self.down = nn.Parameter(torch.randn(4, 32, 64) / 6), nn.Parameter(torch.randn(4, 64, 32) / 8)

    def forward(self, states: Any) -> Any:
        weights = self.router(states).softmax(-1)
        hidden = F.gelu(states[:, None] @ self.up)
        return (hidden @ self.down * weights.transpose(1, 2)[..., None]).sum(1)


# Points, graphs, tables


class PointNet(nn.Module):
    """A learned transform of the points, shared layers, a maximum over points."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 9)
        )
        self.body = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.head = nn.Linear(64, 10)

    def forward(self, points: Any) -> Any:
        moved = (points.transpose(1, 2) @ self.transform(points).view(-1, 3, 3)).transpose(1, 2)
        return self.head(self.body(moved).amax(2))


class GraphNetwork(nn.Module):
    """GCN: the adjacency is an input, so its products are of two computed tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 5)

    def forward(self, nodes: Any, adjacency: Any) -> Any:
        return adjacency @ self.second((adjacency @ self.first(nodes)).relu())


class Recommender(nn.Module):
    """DLRM: embeddings, a bottom MLP, pairwise products, a top MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(50, 16) for _ in range(3))
        self.bottom, self.top = (
            nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 16)),
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)),
        )

    def forward(self, dense: Any, sparse: Any) -> Any:
        x = self.bottom(dense)
        vectors = torch.stack([x, *(table(sparse[:, n]) for n, table in enumerate(self.tables))], 1)
        products = (vectors @ vectors.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([x, products], 1)).sigmoid()


class WideAndDeep(nn.Module):
    """A linear part beside an MLP with one-hot like inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.embedding = nn.Linear(40, 1), nn.Embedding(30, 8)
        self.deep = nn.Sequential(nn.Linear(48, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))

    def forward(self, features: Any, category: Any) -> Any:
        deep = self.deep(torch.cat([features, self.embedding(category)[:, 0]], 1))
        return (self.wide(features) + deep).sigmoid()


class Tabular(nn.Module):
    """An autoencoder of rows with SELU and layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(24, 64), nn.SELU(), nn.LayerNorm(64), nn.Linear(64, 8))
        self.decode = nn.Sequential(nn.Linear(8, 64), nn.ELU(), nn.Linear(64, 24))

    def forward(self, rows: Any) -> Any:
        code = self.encode(rows)
        return self.decode(code), code


class Siamese(nn.Module):
    """Two images through one network."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 16, 3, 2), conv(16, 32, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 16)
        )

    def forward(self, left: Any, right: Any) -> Any:
        a, b = F.normalize(self.body(left), dim=1), F.normalize(self.body(right), dim=1)
        return (a * b).sum(1)


class Mlp(nn.Module):
    """Three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.Hardswish(), nn.Linear(96, 10))

    def forward(self, x: Any) -> Any:
        return self.body(x)


OWN: dict[str, tuple[str, Callable[[], Made]]] = {
    "yolo": ("detector", lambda: (Yolo(), {"images": floats(3, 64, 64)})),
    "anchor-detector": ("detector", lambda: (AnchorDetector(), {"images": floats(3, 48, 48)})),
    "hourglass": ("keypoints", lambda: (Hourglass(), {"images": floats(3, 64, 64)})),
    "unet": ("segmentation", lambda: (UNet(), {"images": floats(3, 32, 32)})),
    "unet-3d": ("segmentation", lambda: (UNet3d(), {"volume": floats(1, 8, 16, 16)})),
    "espcn": ("image to image", lambda: (SuperResolution(), {"image": floats(1, 24, 24)})),
    "dcgan": ("image to image", lambda: (Generator(), {"noise": floats(32)})),
    "style-transfer": ("image to image", lambda: (StyleTransfer(), {"image": floats(3, 32, 32)})),
    "diffusion-unet": (
        "diffusion",
        lambda: (
            Diffusion(),
            {"latent": floats(4, 8, 8), "time": np.abs(floats(seed=1)) * 100, "text": floats(7, 16, seed=2)},
        ),
    ),
    "crnn": ("recogniser", lambda: (Crnn(), {"image": floats(1, 32, 48)})),
    "svtr": ("recogniser", lambda: (Recogniser(), {"image": floats(3, 32, 64)})),
    "hifigan": ("vocoder", lambda: (Vocoder(), {"mel": floats(20, 16)})),
    "wavenet": ("vocoder", lambda: (WaveNet(), {"wave": floats(1, 64)})),
    "conv-tasnet": ("speech", lambda: (Separator(), {"wave": floats(1, 256)})),
    "gru-keywords": ("speech", lambda: (KeywordSpotter(), {"features": floats(16, 20)})),
    "tcn": ("series", lambda: (Tcn(), {"series": floats(16, 32)})),
    "lstm-language-model": ("text", lambda: (LanguageModel(), {"tokens": tokens(12, 100)})),
    "encoder-decoder": ("text", lambda: (EncoderDecoder(), {"source": tokens(10, 60), "target": tokens(8, 60, 1)})),
    "einsum-transformer": ("text", lambda: (EinsumTransformer(), {"states": floats(16, 32)})),
    "rotary-decoder": ("decoder", lambda: (Decoder(), {"tokens": tokens(16, 80)})),
    "mixture-of-experts": ("decoder", lambda: (MixtureOfExperts(), {"states": floats(16, 32)})),
    "pointnet": ("point cloud", lambda: (PointNet(), {"points": floats(3, 64)})),
    "gcn": (
        "graph",
        lambda: (GraphNetwork(), {"nodes": floats(24, 16), "adjacency": np.abs(floats(24, 24, seed=1)) / 24}),
    ),
    "dlrm": ("recommender", lambda: (Recommender(), {"dense": floats(13), "sparse": tokens(3, 50)})),
    "wide-and-deep": ("recommender", lambda: (WideAndDeep(), {"features": floats(40), "category": tokens(1, 30)})),
    "autoencoder": ("table", lambda: (Tabular(), {"rows": floats(24)})),
    "siamese": ("embedding", lambda: (Siamese(), {"left": floats(3, 32, 32), "right": floats(3, 32, 32, seed=1)})),
    "mlp": ("classifier", lambda: (Mlp(), {"x": floats(64)})),
}
"""Name to its kind and what makes it."""
