"""What weight-only formats bring where reading weights takes the time: a layer of a decoder, and few tokens.

The layer has the size of those of Llama 2 7B, larger than any cache of these devices, and random weights: nothing is
scored. Cells are the **modelled** time of the uniform plan as a share of FP16's, at batch 1; the last table says in how
many groups of a plan NVIDIA's compiler multiplies as planned (extra `rtx`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.four_bits_realised import line
from bench.observed import Subject
from trt_mpq.artifacts.files import write_text
from trt_mpq.export import export_to_onnx
from trt_mpq.latency.roofline import LatencyModel
from trt_mpq.latency.target import target_from_name
from trt_mpq.types import Precision, Target

TABLE = Path(__file__).parent / "results" / "memory-bound.md"
SIZE = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
TOKENS = (1, 16, 64, 256, 1024)
DEVICES = ("orin-agx", "l4", "rtx5090", "gb10", "b200")
FORMATS = (Precision.W8A16, Precision.W4A16, Precision.FP8, Precision.NVFP4)


def exported(folder: Path) -> Path:
    """One decoder layer as ONNX, its batch and length free."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZE, vocab_size=256, num_hidden_layers=1)).save_pretrained(folder / "layer")
    export_to_onnx(str(folder / "layer"), folder / "layer.onnx")
    return folder / "layer.onnx"


def subject(path: Path, tokens: int) -> Subject:
    """The layer as it runs on one sequence of so many tokens."""
    return Subject(f"{tokens} tokens", path, dict.fromkeys(("input_ids", "attention_mask"), (1, tokens)))


def times(layer: Subject) -> Iterator[str]:
    """A line of Markdown for each device."""
    for device in map(target_from_name, DEVICES):
        model = LatencyModel(layer.grouping, device, 1)
        high = model.plan_ms(layer.grouping.uniform(Precision.FP16))
        shares = (_share(model, layer, device, precision, high) for precision in FORMATS)
        yield f"| {layer.name} | {device.name} | {high:.3f} | {' | '.join(shares)} |"


def _share(model: LatencyModel, layer: Subject, device: Target, precision: Precision, high: float) -> str:
    if not device.supports(precision):
        return "-"
    return f"{model.plan_ms(layer.grouping.uniform(precision)) / high:.2f}"


def main() -> None:
    """Export, model and compile, and write the tables."""
    formats = [precision.value for precision in FORMATS]
    lines = ["# Weight-only formats where reading weights takes the time", "", *(__doc__ or "").splitlines()[2:], ""]
    lines += [
        f"| one sequence of | device | FP16, ms | {' | '.join(formats)} |",
        "|---|---|---:|" + "---:|" * len(formats),
    ]
    with TemporaryDirectory() as name:
        path = exported(Path(name))
        for tokens in TOKENS:
            lines += times(layer := subject(path, tokens))
            print(*lines[-len(DEVICES) :], sep="\n", flush=True)
        lines += ["", "| one sequence of | groups | as planned, by compute capability |", "|---|---|---|"]
        lines += [line(layer, layer.grouping.uniform(precision)) for precision in FORMATS]
    write_text(TABLE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
