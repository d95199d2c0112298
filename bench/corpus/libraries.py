"""Architectures of timm, torchvision and transformers with random weights: few layers, small images, short texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from bench.corpus.own import Made, floats, mask, tokens

CLASSES = 10


# timm


def _timm(name: str, size: int, options: dict[str, Any]) -> Made:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options), {"images": floats(3, size, size)}


_TIMM: dict[str, tuple[str, int, dict[str, Any]]] = {
    "resnet18": ("classifier", 64, {}),
    "resnetv2_50d_gn": ("classifier", 64, {"layers": (1, 1, 1, 1)}),
    "seresnext26d_32x4d": ("classifier", 64, {"layers": (1, 1, 1, 1)}),
    "regnety_002": ("classifier", 64, {}),
    "res2net50_14w_8s": ("classifier", 64, {"layers": (1, 1, 1, 1)}),
    "densenet121": ("classifier", 64, {"block_config": (2, 2, 2, 2)}),
    "dla34": ("classifier", 64, {}),
    "hrnet_w18_small": ("classifier", 64, {}),
    "vovnet39a": ("classifier", 64, {}),
    "ese_vovnet19b_slim_dw": ("classifier", 64, {}),
    "cspresnet50": ("classifier", 64, {}),
    "mobilenetv2_050": ("classifier", 64, {}),
    "mobilenetv3_small_050": ("classifier", 64, {}),
    "mobilenetv4_conv_small_050": ("classifier", 64, {}),
    "efficientnet_b0": ("classifier", 64, {}),
    "efficientnet_lite0": ("classifier", 64, {}),
    "mixnet_s": ("classifier", 64, {}),
    "ghostnet_050": ("classifier", 64, {}),
    "rexnet_100": ("classifier", 64, {}),
    "mobileone_s0": ("classifier", 64, {}),
    "repvgg_a0": ("classifier", 64, {}),
    "convnext_atto": ("classifier", 64, {}),
    "convnextv2_atto": ("classifier", 64, {}),
    "inception_next_atto": ("classifier", 64, {}),
    "starnet_s1": ("classifier", 64, {}),
    "hgnetv2_b0": ("classifier", 64, {}),
    "nfnet_l0": ("classifier", 64, {"depths": (1, 1, 1, 1)}),
    "xception41p": ("classifier", 96, {}),
    "fastvit_t8": ("hybrid", 64, {}),
    "edgenext_xx_small": ("hybrid", 64, {}),
    "mobilevit_xxs": ("hybrid", 64, {}),
    "mobilevitv2_050": ("hybrid", 64, {}),
    "efficientformer_l1": ("hybrid", 224, {}),
    "efficientvit_b0": ("hybrid", 64, {}),
    "repvit_m0_9": ("hybrid", 64, {}),
    "levit_128s": ("hybrid", 224, {}),
    "coatnet_pico_rw_224": ("hybrid", 224, {}),
    "maxvit_pico_rw_256": ("hybrid", 256, {}),
    "poolformer_s12": ("hybrid", 64, {}),
    "pvt_v2_b0": ("hybrid", 64, {}),
    "mambaout_femto": ("hybrid", 64, {}),
    "vit_tiny_patch16_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "deit3_small_patch16_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "vit_small_patch14_dinov2": ("vision transformer", 70, {"img_size": 70, "depth": 2}),
    "vit_base_patch16_siglip_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "beit_base_patch16_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "eva02_tiny_patch14_224": ("vision transformer", 70, {"img_size": 70, "depth": 2}),
    "samvit_base_patch16_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "swin_tiny_patch4_window7_224": ("vision transformer", 224, {"depths": (2, 2)}),
    "swinv2_cr_tiny_ns_224": ("vision transformer", 224, {"depths": (2, 2)}),
    "cait_xxs24_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "xcit_nano_12_p16_224": ("vision transformer", 64, {"img_size": 64, "depth": 2}),
    "twins_svt_small": ("vision transformer", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    "davit_tiny": ("vision transformer", 224, {"depths": (1, 1, 1, 1)}),
    "focalnet_tiny_srf": ("vision transformer", 64, {}),
    "mixer_s32_224": ("vision transformer", 64, {"img_size": 64}),
    "gmlp_ti16_224": ("vision transformer", 64, {"img_size": 64}),
}


# torchvision


def _vision(path: str, size: tuple[int, ...], options: dict[str, Any]) -> Made:
    import torchvision

    make: Any = torchvision.models
    for part in path.split("."):
        make = getattr(make, part)
    return make(weights=None, **options), {"images": floats(*size)}


class _Detector(nn.Module):
    """A torchvision detector on one image, which takes and returns lists and dictionaries."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.model = _vision(path, (3, 8, 8), {"weights_backbone": None, "num_classes": 5})[0]

    def forward(self, images: Any) -> Any:
        found = self.model([images[0]])[0]
        return found["boxes"], found["scores"], found["labels"]


def _detector(path: str, size: int) -> Made:
    return _Detector(path), {"images": abs(floats(3, size, size)) % 1}


_SEGMENTATION = {"weights_backbone": None, "num_classes": 4, "aux_loss": False}
_VISION: dict[str, tuple[str, Callable[[], Made]]] = {
    "squeezenet1_1": ("classifier", partial(_vision, "squeezenet1_1", (3, 64, 64), {})),
    "shufflenet_v2_x0_5": ("classifier", partial(_vision, "shufflenet_v2_x0_5", (3, 64, 64), {})),
    "mnasnet0_5": ("classifier", partial(_vision, "mnasnet0_5", (3, 64, 64), {})),
    "googlenet": (
        "classifier",
        partial(_vision, "googlenet", (3, 64, 64), {"aux_logits": False, "init_weights": False}),
    ),
    "lraspp_mobilenet_v3_large": (
        "segmentation",
        partial(
            _vision, "segmentation.lraspp_mobilenet_v3_large", (3, 64, 64), {"weights_backbone": None, "num_classes": 4}
        ),
    ),
    "deeplabv3_mobilenet_v3_large": (
        "segmentation",
        partial(_vision, "segmentation.deeplabv3_mobilenet_v3_large", (3, 64, 64), _SEGMENTATION),
    ),
    "r3d_18": ("video", partial(_vision, "video.r3d_18", (3, 4, 32, 32), {})),
    "mvit_v1_b": ("video", partial(_vision, "video.mvit_v1_b", (3, 16, 224, 224), {})),
    "ssdlite320_mobilenet_v3_large": ("detector", partial(_detector, "detection.ssdlite320_mobilenet_v3_large", 160)),
    "fcos_resnet50_fpn": ("detector", partial(_detector, "detection.fcos_resnet50_fpn", 64)),
}


# transformers

_SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_WORDS = 120


class _Plain(nn.Module):
    """A model of transformers that takes and returns tensors by position."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, outputs


class _Text(_Plain):
    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        result = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return tuple(result[name] for name in self.names)


class _Image(_Plain):
    def forward(self, pixel_values: Any) -> Any:
        result = self.model(pixel_values=pixel_values)
        return tuple(result[name] for name in self.names)


class _Sound(_Plain):
    def forward(self, sound: Any) -> Any:
        return tuple(self.model(sound)[name] for name in self.names)


class _Pair(_Plain):
    def forward(self, input_ids: Any, decoder_input_ids: Any) -> Any:
        result = self.model(input_ids=input_ids, decoder_input_ids=decoder_input_ids)
        return tuple(result[name] for name in self.names)


def _hugging(
    model: str, config: str, options: dict[str, Any], wrapper: type[_Plain], inputs: dict[str, Any], output: str
) -> Made:
    import transformers

    made = getattr(transformers, model)(getattr(transformers, config)(**options))
    made.config.use_cache = False
    return wrapper(made.float(), tuple(output.split(","))), inputs


def _text(model: str, config: str, output: str = "last_hidden_state", **options: Any) -> Callable[[], Made]:
    given = {"vocab_size": _WORDS, "max_position_embeddings": 64, **_SIZES, **options}
    inputs = {"input_ids": tokens(16, _WORDS), "attention_mask": mask(16)}
    return partial(_hugging, model, config, given, _Text, inputs, output)


def _image(
    model: str, config: str, output: str = "last_hidden_state", size: int = 32, **options: Any
) -> Callable[[], Made]:
    return partial(_hugging, model, config, options, _Image, {"pixel_values": floats(3, size, size)}, output)


def _sound(model: str, config: str, shape: tuple[int, ...], **options: Any) -> Callable[[], Made]:
    return partial(_hugging, model, config, options, _Sound, {"sound": floats(*shape)}, "last_hidden_state")


_GPT = {"vocab_size": _WORDS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
_T5 = {"vocab_size": _WORDS, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_VIT = {**_SIZES, "image_size": 32, "patch_size": 8}
_WAV = {
    **_SIZES,
    "conv_dim": (32, 32),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_PAIR = {"input_ids": tokens(12, _WORDS), "decoder_input_ids": tokens(8, _WORDS, 1)}
_HUGGING: dict[str, tuple[str, Callable[[], Made]]] = {
    "bert": ("text", _text("BertModel", "BertConfig", "last_hidden_state,pooler_output")),
    "distilbert": ("text", _text("DistilBertModel", "DistilBertConfig", dim=64, n_layers=2, n_heads=4, hidden_dim=128)),
    "roberta": (
        "text",
        _text("RobertaForSequenceClassification", "RobertaConfig", "logits", max_position_embeddings=80),
    ),
    "albert": ("text", _text("AlbertModel", "AlbertConfig", embedding_size=32)),
    "electra": ("text", _text("ElectraForTokenClassification", "ElectraConfig", "logits", embedding_size=32)),
    "deberta-v2": (
        "text",
        _text(
            "DebertaV2Model",
            "DebertaV2Config",
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=16,
        ),
    ),
    "mpnet": ("text", _text("MPNetModel", "MPNetConfig", max_position_embeddings=80)),
    "mobilebert": (
        "text",
        _text("MobileBertModel", "MobileBertConfig", embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32),
    ),
    "esm": (
        "text",
        _text(
            "EsmModel",
            "EsmConfig",
            pad_token_id=1,
            mask_token_id=2,
            position_embedding_type="rotary",
            token_dropout=False,
        ),
    ),
    "modernbert": (
        "text",
        _text(
            "ModernBertModel",
            "ModernBertConfig",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
        ),
    ),
    "t5-encoder": (
        "text",
        partial(
            _hugging,
            "T5EncoderModel",
            "T5Config",
            _T5,
            _Text,
            {"input_ids": tokens(16, _WORDS), "attention_mask": mask(16)},
            "last_hidden_state",
        ),
    ),
    "t5": ("encoder-decoder", partial(_hugging, "T5ForConditionalGeneration", "T5Config", _T5, _Pair, _PAIR, "logits")),
    "bart": (
        "encoder-decoder",
        partial(
            _hugging,
            "BartModel",
            "BartConfig",
            {
                "vocab_size": _WORDS,
                "d_model": 64,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 128,
                "decoder_ffn_dim": 128,
            },
            _Pair,
            _PAIR,
            "last_hidden_state",
        ),
    ),
    "gpt2": (
        "decoder",
        partial(
            _hugging,
            "GPT2LMHeadModel",
            "GPT2Config",
            _GPT,
            _Text,
            {"input_ids": tokens(16, _WORDS), "attention_mask": mask(16)},
            "logits",
        ),
    ),
    "gpt-neox": ("decoder", _text("GPTNeoXForCausalLM", "GPTNeoXConfig", "logits")),
    "opt": ("decoder", _text("OPTForCausalLM", "OPTConfig", "logits", ffn_dim=128, word_embed_proj_dim=64)),
    "bloom": ("decoder", _text("BloomForCausalLM", "BloomConfig", "logits", n_layer=2, n_head=4)),
    "llama": ("decoder", _text("LlamaForCausalLM", "LlamaConfig", "logits", num_key_value_heads=2)),
    "qwen2": ("decoder", _text("Qwen2ForCausalLM", "Qwen2Config", "logits", num_key_value_heads=2)),
    "gemma": ("decoder", _text("GemmaForCausalLM", "GemmaConfig", "logits", num_key_value_heads=1, head_dim=16)),
    "phi": ("decoder", _text("PhiForCausalLM", "PhiConfig", "logits")),
    "vit": ("vision transformer", _image("ViTForImageClassification", "ViTConfig", "logits", **_VIT)),
    "dinov2": ("vision transformer", _image("Dinov2Model", "Dinov2Config", **{**_VIT, "mlp_ratio": 2})),
    "clip-vision": ("vision transformer", _image("CLIPVisionModel", "CLIPVisionConfig", **_VIT)),
    "siglip-vision": ("vision transformer", _image("SiglipVisionModel", "SiglipVisionConfig", **_VIT)),
    "clip-text": ("text", _text("CLIPTextModel", "CLIPTextConfig", eos_token_id=_WORDS - 1)),
    "segformer": (
        "segmentation",
        _image(
            "SegformerForSemanticSegmentation",
            "SegformerConfig",
            "logits",
            64,
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 32, 64],
            decoder_hidden_size=32,
        ),
    ),
    "mobilevit-hf": (
        "hybrid",
        _image(
            "MobileViTModel",
            "MobileViTConfig",
            size=64,
            image_size=64,
            hidden_sizes=[32, 48, 64],
            neck_hidden_sizes=[16, 16, 24, 32, 48, 64, 96],
            num_hidden_layers=1,
        ),
    ),
    "yolos": (
        "detector",
        _image(
            "YolosForObjectDetection",
            "YolosConfig",
            "logits,pred_boxes",
            32,
            **{**_VIT, "image_size": [32, 32], "num_detection_tokens": 8},
        ),
    ),
    "depth-anything-dpt": (
        "depth",
        _image(
            "DPTForDepthEstimation",
            "DPTConfig",
            "predicted_depth",
            32,
            **{
                **_VIT,
                "num_hidden_layers": 4,
                "backbone_out_indices": [0, 1, 2, 3],
                "neck_hidden_sizes": [16, 16, 32, 32],
                "fusion_hidden_size": 16,
                "is_hybrid": False,
            },
        ),
    ),
    "whisper-encoder": (
        "speech",
        partial(
            _hugging,
            "WhisperModel",
            "WhisperConfig",
            {
                "d_model": 64,
                "encoder_layers": 2,
                "decoder_layers": 1,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 128,
                "decoder_ffn_dim": 128,
                "num_mel_bins": 20,
                "max_source_positions": 32,
                "vocab_size": _WORDS,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "decoder_start_token_id": 1,
            },
            _Sound,
            {"sound": floats(20, 64)},
            "last_hidden_state",
        ),
    ),
    "wav2vec2": ("speech", _sound("Wav2Vec2Model", "Wav2Vec2Config", (800,), **_WAV)),
    "hubert": ("speech", _sound("HubertModel", "HubertConfig", (800,), **_WAV)),
    "audio-spectrogram": (
        "speech",
        _sound("ASTModel", "ASTConfig", (64, 32), **_SIZES, num_mel_bins=32, max_length=64),
    ),
}


def _encoder_only(name: str, make: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        module, inputs = make()
        return _Sound(module.model.encoder, ("last_hidden_state",)), inputs

    return made if name == "whisper-encoder" else make


LIBRARIES: dict[str, tuple[str, Callable[[], Made]]] = {
    **{name: (kind, partial(_timm, name, size, options)) for name, (kind, size, options) in _TIMM.items()},
    **_VISION,
    **{name: (kind, _encoder_only(name, make)) for name, (kind, make) in _HUGGING.items()},
}
"""Name to its kind and what makes it."""
