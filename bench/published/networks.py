"""Architectures of published latencies at full size, with random weights: `python -m bench.published.networks FOLDER`.

It runs where torch, torchvision, timm, transformers and ultralytics are, and knows nothing of trt-mpq. Each network is
written as `<name>.onnx` for a batch of one; of the values in it nothing is used.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Made = tuple[Any, tuple[Any, ...]]
"""A module and its inputs."""
OPSET = 17


@dataclass(frozen=True)
class Architecture:
    """What was measured under which names.

    Attributes:
        kind: For an even split of all.
        published: Pairs of model and input as `published.csv` has them.
        make: Builds the module and one sample.
    """

    kind: str
    published: tuple[tuple[str, str], ...]
    make: Callable[[], Made]


def _image(height: int, width: int | None = None) -> Any:
    import torch

    return torch.rand(1, 3, height, width or height)


def _timm(name: str, size: int) -> Made:
    import timm

    return timm.create_model(name, pretrained=False), (_image(size),)


def _torchvision(name: str, *size: int, **options: Any) -> Made:
    import torchvision

    return torchvision.models.get_model(name, weights=None, **options), (_image(*size),)


def _segmentation(name: str, *size: int) -> Made:
    from torch import nn

    class Mask(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Any) -> Any:
            return self.model(image)["out"]

    model, inputs = _torchvision(name, *size, weights_backbone=None, num_classes=19)
    return Mask(model), inputs


def _detector(name: str, *size: int) -> Made:
    """Backbone, pyramid and heads of a detector: what is measured, but for the selection of boxes."""
    from torch import nn

    class Heads(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.backbone, self.head = model.backbone, model.head

        def forward(self, image: Any) -> Any:
            return tuple(self.head(list(self.backbone(image).values())).values())

    model, inputs = _torchvision(name, *size, weights_backbone=None, num_classes=80)
    return Heads(model), inputs


def _resnet_v1(name: str) -> Made:
    """The stride in the first convolution of a block, as in the original paper; torchvision has version 1.5."""
    model, inputs = _torchvision(name, 224)
    for module in model.modules():
        if type(module).__name__ == "Bottleneck":
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return model, inputs


def _text(model: str, config: str, length: int, **options: Any) -> Made:
    import torch
    import transformers
    from torch import nn

    class Text(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, segments: Any) -> Any:
            return tuple(self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).values())[:2]

    settings = getattr(transformers, config)(**options)
    settings._attn_implementation = "eager"
    made = getattr(transformers, model)(settings)
    ones = torch.ones(1, length, dtype=torch.int64)
    return Text(made), (ones, ones.clone(), torch.zeros_like(ones))


_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def _bert(length: int, **options: Any) -> Made:
    return _text("BertForQuestionAnswering", "BertConfig", length, **options)


def _ultralytics(kind: str, file: str) -> Made:
    """A network of ultralytics as its own exporter leaves it: convolutions fused, the head in its export mode."""
    from ultralytics.nn import tasks

    model = getattr(tasks, kind)(file, verbose=False).eval().fuse(verbose=False)
    for module in model.modules():
        if hasattr(module, "export"):
            module.export, module.dynamic, module.format = True, False, "onnx"
    return model, (_image(640),)


_DETECTION, _RT_DETR = "DetectionModel", "RTDETRDetectionModel"


def _yolov7() -> Made:
    """YOLOv7 (Wang et al., 2022), figure of its repository's `cfg/deploy/yolov7.yaml`, re-parameterized."""
    import torch
    from torch import nn
    from torch.nn import functional

    def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.SiLU())

    class Elan(nn.Module):
        def __init__(self, inputs: int, hidden: int, inner: int, outputs: int, every: int) -> None:
            super().__init__()
            self.one, self.two, self.every = conv(inputs, hidden), conv(inputs, hidden), every
            self.chain = nn.ModuleList(conv(hidden if i == 0 else inner, inner, 3) for i in range(4))
            self.out = conv(2 * hidden + 4 // every * inner, outputs)

        def forward(self, x: Any) -> Any:
            found = [self.one(x), self.two(x)]
            y = found[-1]
            for index, step in enumerate(self.chain):
                y = step(y)
                if (index + 1) % self.every == 0:
                    found.append(y)
            return self.out(torch.cat(found[::-1], 1))

    class Down(nn.Module):
        def __init__(self, inputs: int, half: int) -> None:
            super().__init__()
            self.pooled, self.strided = conv(inputs, half), nn.Sequential(conv(inputs, half), conv(half, half, 3, 2))

        def forward(self, x: Any) -> Any:
            return torch.cat([self.strided(x), self.pooled(functional.max_pool2d(x, 2, 2))], 1)

    class Sppcspc(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Sequential(conv(1024, 512), conv(512, 512, 3), conv(512, 512))
            self.after = nn.Sequential(conv(2048, 512), conv(512, 512, 3))
            self.beside, self.out = conv(1024, 512), conv(1024, 512)

        def forward(self, x: Any) -> Any:
            y = self.before(x)
            pooled = [functional.max_pool2d(y, size, 1, size // 2) for size in (5, 9, 13)]
            return self.out(torch.cat([self.after(torch.cat([y, *pooled], 1)), self.beside(x)], 1))

    class Yolo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(conv(3, 32, 3), conv(32, 64, 3, 2), conv(64, 64, 3), conv(64, 128, 3, 2))
            self.p2 = Elan(128, 64, 64, 256, 2)
            self.p3 = nn.Sequential(Down(256, 128), Elan(256, 128, 128, 512, 2))
            self.p4 = nn.Sequential(Down(512, 256), Elan(512, 256, 256, 1024, 2))
            self.p5 = nn.Sequential(Down(1024, 512), Elan(1024, 256, 256, 1024, 2), Sppcspc())
            self.up5, self.side4, self.n4 = conv(512, 256), conv(1024, 256), Elan(512, 256, 128, 256, 1)
            self.up4, self.side3, self.n3 = conv(256, 128), conv(512, 128), Elan(256, 128, 64, 128, 1)
            self.down3, self.m4 = Down(128, 128), Elan(512, 256, 128, 256, 1)
            self.down4, self.m5 = Down(256, 256), Elan(1024, 512, 256, 512, 1)
            self.heads = nn.ModuleList(
                nn.Sequential(conv(c, 2 * c, 3), nn.Conv2d(2 * c, 255, 1)) for c in (128, 256, 512)
            )

        def forward(self, x: Any) -> Any:
            p3 = self.p3(self.p2(self.stem(x)))
            p4 = self.p4(p3)
            p5 = self.p5(p4)
            n4 = self.n4(torch.cat([self.side4(p4), functional.interpolate(self.up5(p5), scale_factor=2.0)], 1))
            n3 = self.n3(torch.cat([self.side3(p3), functional.interpolate(self.up4(n4), scale_factor=2.0)], 1))
            m4 = self.m4(torch.cat([self.down3(n3), n4], 1))
            m5 = self.m5(torch.cat([self.down4(m4), p5], 1))
            return tuple(torch.sigmoid(head(m)) for head, m in zip(self.heads, (n3, m4, m5), strict=True))

    return Yolo(), (_image(640),)


_224, _640 = "224x224", "640x640"
NETWORKS: Mapping[str, Architecture] = {
    "bert-base-128": Architecture(
        "text", (("BERT base", "seq 128"), ("BERT-base", "seq 128? batch 1")), partial(_bert, 128)
    ),
    "bert-base-384": Architecture("text", (("BERT base", "seq 384"),), partial(_bert, 384)),
    "bert-large-128": Architecture("text", (("BERT large", "seq 128"),), partial(_bert, 128, **_LARGE)),
    "bert-large-384": Architecture("text", (("BERT large", "seq 384"),), partial(_bert, 384, **_LARGE)),
    "ernie": Architecture(
        "text", (("UIE-base (ERNIE)", "seq 128"),),
        partial(_text, "ErnieModel", "ErnieConfig", 128, vocab_size=40000, use_task_id=False),
    ),
    "resnet18": Architecture("classifier", (("ResNet-18", _224),), partial(_torchvision, "resnet18", 224)),
    "resnet34": Architecture("classifier", (("ResNet-34", _224),), partial(_torchvision, "resnet34", 224)),
    "resnet50": Architecture(
        "classifier", (("ResNet-50", _224), ("ResNet-50 v1.5", _224)), partial(_torchvision, "resnet50", 224)
    ),
    "resnet50-v1": Architecture("classifier", (("ResNet50-v1", _224),), partial(_resnet_v1, "resnet50")),
    "resnet101-v1": Architecture("classifier", (("ResNet101-v1", _224),), partial(_resnet_v1, "resnet101")),
    "resnet50-vd": Architecture("classifier", (("ResNet50-vd", _224),), partial(_timm, "resnet50d", 224)),
    "inception-v3": Architecture(
        "classifier", (("Inception-v3", "299x299"),),
        partial(_torchvision, "inception_v3", 299, init_weights=False, aux_logits=False),
    ),
    "hgnet-tiny": Architecture("classifier", (("PP-HGNet-tiny", _224),), partial(_timm, "hgnet_tiny", 224)),
    "mobilenet-v1": Architecture("depthwise", (("MobileNet-v1", _224),), partial(_timm, "mobilenetv1_100", 224)),
    "mobilenet-v3": Architecture(
        "depthwise", (("MobileNetV3-Large", _224),), partial(_torchvision, "mobilenet_v3_large", 224)
    ),
    "efficientnet-b0": Architecture(
        "depthwise", (("EfficientNet-B0", _224), ("EfficientNet-B0", "224/300")), partial(_timm, "efficientnet_b0", 224)
    ),
    "efficientnet-b3": Architecture(
        "depthwise", (("EfficientNet-B3", "224/300"),), partial(_timm, "efficientnet_b3", 300)
    ),
    "vit-tiny": Architecture("vision transformer", (("ViT-Tiny", _224),), partial(_timm, "vit_tiny_patch16_224", 224)),
    "vit-base": Architecture(
        "vision transformer", (("ViT (size not stated, 174 MB FP16 engine = ViT-B)", "224x224?"),),
        partial(_timm, "vit_base_patch16_224", 224),
    ),
    "fcn-r50": Architecture(
        "segmentation", (("FCN-R50-D8", "512x1024"),), partial(_segmentation, "fcn_resnet50", 512, 1024)
    ),
    "deeplabv3-r50": Architecture(
        "segmentation", (("DeepLabV3-R50-D8", "512x1024"),), partial(_segmentation, "deeplabv3_resnet50", 512, 1024)
    ),
    "retinanet-r50": Architecture(
        "detector", (("RetinaNet-R50", "800x1344"),), partial(_detector, "retinanet_resnet50_fpn", 800, 1344)
    ),
    "fcos-r50": Architecture(
        "detector", (("FCOS-R50", "800x1344"),), partial(_detector, "fcos_resnet50_fpn", 800, 1344)
    ),
    "rt-detr-r50": Architecture(
        "detector", (("RT-DETR-R50", _640),), partial(_ultralytics, _RT_DETR, "rtdetr-resnet50.yaml")
    ),
    "rt-detr-r101": Architecture(
        "detector", (("RT-DETR-R101", _640),), partial(_ultralytics, _RT_DETR, "rtdetr-resnet101.yaml")
    ),
    "rt-detr-l": Architecture(
        "detector", (("RT-DETR-HGNetv2-L", _640),), partial(_ultralytics, _RT_DETR, "rtdetr-l.yaml")
    ),
    "rt-detr-x": Architecture(
        "detector", (("RT-DETR-HGNetv2-X", _640),), partial(_ultralytics, _RT_DETR, "rtdetr-x.yaml")
    ),
    "yolov6-n": Architecture(
        "yolo", (("YOLOv6-N-base", _640), ("YOLOv6-N v3", _640), ("YOLOv6-N (RepOpt INT8)", _640)),
        partial(_ultralytics, _DETECTION, "yolov6n.yaml"),
    ),
    "yolov6-s": Architecture(
        "yolo", (("YOLOv6-S-base", _640), ("YOLOv6-S v3", _640), ("YOLOv6-S (RepOpt INT8)", _640)),
        partial(_ultralytics, _DETECTION, "yolov6s.yaml"),
    ),
    "yolov7": Architecture("yolo", (("YOLOv7", _640), ("YOLOv7 QAT", _640)), _yolov7),
    **{
        f"yolov8{size}": Architecture(
            "yolo", ((f"YOLOv8{size}", _640),), partial(_ultralytics, _DETECTION, f"yolov8{size}.yaml")
        )
        for size in "nsl"
    },
    "yolov8n-seg": Architecture(
        "yolo", (("YOLOv8n-seg", _640),), partial(_ultralytics, "SegmentationModel", "yolov8n-seg.yaml")
    ),
    "yolov8n-obb": Architecture(
        "yolo", (("YOLOv8n-obb", _640),), partial(_ultralytics, "OBBModel", "yolov8n-obb.yaml")
    ),
    **{
        f"yolo11{size}": Architecture(
            "yolo", ((f"YOLO11{size}", _640),), partial(_ultralytics, _DETECTION, f"yolo11{size}.yaml")
        )
        for size in "nsmlx"
    },
}  # fmt: skip
"""Name to architecture."""


def write(name: str, folder: Path) -> None:
    """Export one of `NETWORKS` by torch's tracing exporter."""
    import torch

    torch.manual_seed(0)
    module, inputs = NETWORKS[name].make()
    with torch.no_grad():
        torch.onnx.export(module.eval(), inputs, str(folder / f"{name}.onnx"), dynamo=False, opset_version=OPSET)


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m bench.published.networks", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for name in options.networks:
        if not (options.folder / f"{name}.onnx").exists():
            write(name, options.folder)
            print(name, flush=True)


if __name__ == "__main__":
    main()
