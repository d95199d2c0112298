"""What to do with a model in a format that is not read here."""

from __future__ import annotations

from pathlib import Path

_FACTORY = (
    "write a function that builds the network with its weights and returns it, or it and example inputs, and give "
    "module:function in place of the file"
)
_TF = "convert it with tf2onnx (`pip install tf2onnx`): `python -m tf2onnx.convert"
_ADVICE = {
    ".pt": f"is torch's: {_FACTORY}",
    ".pth": f"is torch's: {_FACTORY}",
    ".ckpt": f"is a checkpoint: {_FACTORY}",
    ".pt2": f"is torch's: {_FACTORY}",
    ".safetensors": f"holds weights alone: give the Hugging Face folder with its config.json, or {_FACTORY}",
    ".bin": f"holds weights alone: give the Hugging Face folder with its config.json, or {_FACTORY}",
    ".pb": f"is TensorFlow's: {_TF} --saved-model FOLDER --output model.onnx`, for a frozen graph with --graphdef",
    ".h5": f"is Keras's: export it with model.export('saved'), and {_TF} --saved-model saved --output model.onnx`",
    ".keras": f"is Keras's: export it with model.export('saved'), and {_TF} --saved-model saved --output model.onnx`",
    ".tflite": f"is TensorFlow Lite's: {_TF} --tflite model.tflite --output model.onnx`",
    ".engine": "is an engine, which holds no network to search: give the ONNX file that it was built from",
    ".plan": "is an engine, which holds no network to search: give the ONNX file that it was built from",
    ".trt": "is an engine, which holds no network to search: give the ONNX file that it was built from",
    ".pdmodel": "is PaddlePaddle's: convert it with paddle2onnx",
    ".mlmodel": "is Core ML's: export the network that it came from to ONNX",
    ".xml": "is OpenVINO's: give the ONNX file that it was converted from",
    ".uff": "is an old TensorRT format: export the network to ONNX",
    ".caffemodel": "is Caffe's: convert it to ONNX",
    ".gguf": "holds weights for llama.cpp: give the Hugging Face folder of the network",
    ".npz": "holds data: the model comes first, the data after --calib or --eval",
}


def advice_for(source: str) -> str | None:
    """The end of a sentence that begins with `source`, which is in a format that people have; None for others."""
    path = Path(source)
    name, colon, function = source.rpartition(":")
    if colon and name.endswith(".py"):
        module = name.removesuffix(".py").replace("/", ".").strip(".")
        return f"is a path: write {module}:{function}, the module in place of the file"
    if path.suffix == ".py":
        return f"is Python: name the function in it that returns the network, as in {path.stem}:build"
    if (path / "saved_model.pb").is_file():
        return f"is TensorFlow's: {_TF} --saved-model {source} --output model.onnx`"
    return _ADVICE.get(path.suffix.lower())
