"""The peers: what they are, how they are installed, and what they can be asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A tool that quantizes ONNX.

    Attributes:
        name: Short, for files and the command line.
        title: As the table calls it.
        script: Its adapter, a file of `adapters`.
        requirements: What pip installs for it, pinned; none for ours, which is where the benchmark itself runs.
        targeted: Whether it takes an accuracy target. One that does not runs once per model.
        formats: The 8-bit formats it is asked for.
    """

    name: str
    title: str
    script: str
    requirements: tuple[str, ...]
    targeted: bool = True
    formats: tuple[str, ...] = ("int8",)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("trt-mpq", "trt-mpq", "run_trt_mpq.py", (), formats=("int8", "fp8")),
        Peer("nncf", "NNCF, accuracy control", "run_nncf.py", ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0")),
        Peer(
            "aimet",
            "AIMET, automatic mixed precision",
            "run_aimet.py",
            ("aimet-onnx==2.42.0", "onnx==1.23.2", "onnxruntime==1.32.0", "torch==2.13.0"),
        ),
        Peer(
            "quark",
            "AMD Quark, automatic mixed precision",
            "run_quark.py",
            ("amd-quark==0.13", "onnx==1.22.0", "onnxruntime==1.32.0", "torch==2.13.0"),
        ),
        Peer(
            "neural-compressor",
            "Intel Neural Compressor, accuracy-aware tuning",
            "run_neural_compressor.py",
            # six is imported and not declared; newer ONNX and NumPy are later than the last release with ONNX.
            ("neural-compressor==2.6", "onnx==1.16.2", "onnxruntime==1.18.1", "numpy==1.26.4", "six==1.17.0"),
        ),
        Peer(
            "modelopt",
            "Model Optimizer, ONNX PTQ",
            "run_modelopt.py",
            ("nvidia-modelopt[onnx]==0.47.0", "onnx==1.21.0", "onnxruntime-gpu==1.24.4", "torch==2.13.0"),
            targeted=False,
            formats=("int8", "fp8"),
        ),
        Peer(
            "onnxruntime",
            "ONNX Runtime, static quantization",
            "run_onnxruntime.py",
            ("onnxruntime==1.32.0", "onnx==1.23.2", "sympy==1.14.0"),
            targeted=False,
        ),
    )
}
