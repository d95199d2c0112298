"""Settings: what is refused, in which words, and where paths point."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_mpq.errors import SettingsError
from trt_mpq.settings import Settings, fields_from_job, overridden, settings_from
from trt_mpq.types import Precision

_, FP16, BF16, FP8, INT8, INT4 = map(Precision, ("fp32", "fp16", "bf16", "fp8", "int8", "int4"))
FORMATS = "w8a16, fp8, int8, w4a16, nvfp4, int4"


def settings(**fields: object) -> Settings:
    return settings_from({"model": "m.onnx", **fields}, "here")


def test_the_defaults_are_a_full_job():
    assert settings().precisions == (FP16, INT8)
    assert settings().target_accuracy == 0.99
    assert settings().bias_correction


@pytest.mark.parametrize(
    ("given", "ladder"),
    [
        (["int8"], (FP16, INT8)),
        (["int8", "fp16"], (FP16, INT8)),
        (["int4", "int8", "fp8", "fp8"], (FP16, FP8, INT8, INT4)),
        ((FP8,), (FP16, FP8)),
        ("fp16, int8", (FP16, INT8)),
        ("int4", (FP16, INT4)),
        ("bf16,int8", (BF16, INT8)),
        (["int8", "bf16", "fp8"], (BF16, FP8, INT8)),
        ("int8,bf16,fp16", (FP16, INT8)),
    ],
)
def test_the_ladder_is_ordered_and_starts_with_its_high_precision(given, ladder):
    assert settings(precisions=given).precisions == ladder
    assert settings(precisions=given).formats == ladder[1:]


@pytest.mark.parametrize("given", ["noise, fisher", ["noise", "fisher"], ("noise", "fisher")])
def test_several_sensitivity_metrics_are_a_list(given):
    assert settings(sensitivity=given).sensitivity == ("noise", "fisher")
    assert settings(sensitivity="output-sqnr").sensitivity == ("output-sqnr",) == settings().sensitivity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sensitivity": "noise,noise"}, "here: sensitivity: noise is named twice"),
        ({"sensitivity": []}, "here: sensitivity: Tuple should have at least 1 item"),
        (
            {"precisions": ["int9"]},
            f"here: precisions: got 'int9', choose from fp16, bf16, {FORMATS}",
        ),
        (
            {"precisions": ["fp16"]},
            f"here: precisions: name at least one of {FORMATS} beside fp16 (got ['fp16'])",
        ),
        (
            {"precisions": "bf16"},
            f"here: precisions: name at least one of {FORMATS} beside bf16 (got 'bf16')",
        ),
        ({"precisions": ["fp32", "int8"]}, "here: precisions: fp32 is not a rung of the ladder"),
        ({"precisions": []}, f"here: precisions: name at least one of {FORMATS}"),
        (
            {"precisions": "int8,int9"},
            f"here: precisions: got 'int9', choose from fp16, bf16, {FORMATS}",
        ),
        ({"precisions": 8}, "here: precisions: Input should be a valid tuple (got 8)"),
        (
            {"precission": ["int8"]},
            "here: precission: unknown setting; known are model, calib, eval, holdout, preprocess",
        ),
        ({"target_accuracy": 0}, "here: target_accuracy: Input should be greater than 0 (got 0)"),
        ({"target_accuracy": 1.01}, "here: target_accuracy: Input should be less than or equal to 1 (got 1.01)"),
        ({"target_accuracy": float("nan")}, "here: target_accuracy: Input should be a finite number (got nan)"),
        ({"target_accuracy": "most"}, "here: target_accuracy: Input should be a valid number"),
        ({"noise_amplitude": float("inf")}, "here: noise_amplitude: Input should be a finite number (got inf)"),
        ({"batch": 0}, "here: batch: Input should be greater than 0 (got 0)"),
        ({"batch": 2.5}, "here: batch: Input should be a valid integer"),
        ({"calib_samples": -1}, "here: calib_samples: Input should be greater than 0 (got -1)"),
        (
            {"engine": {"tipyng": "weak"}},
            "here: engine.tipyng: unknown setting; known are build, flavour",
        ),
        (
            {"engine": {"typing": "soft"}},
            "here: engine.typing: Input should be 'auto', 'strong' or 'weak' (got 'soft')",
        ),
        ({"engine": {"margin": 1}}, "here: engine.margin: Input should be less than 1 (got 1)"),
        ({"engine": 3}, "here: engine: Input should be"),
        ({"trials": 0}, "here: trials: Input should be greater than 0"),
        ({"threads": -1}, "here: threads: Input should be greater than or equal to 0"),
        ({"seed": -1}, "here: seed: Input should be greater than or equal to 0"),
        ({"bias_correction": "perhaps"}, "here: bias_correction: Input should be a valid boolean"),
        ({"exclusions": "all"}, "here: exclusions: Input should be 'modelopt' or 'none' (got 'all')"),
        ({"calib": 3}, "here: calib: Input should be a valid string (got 3)"),
    ],
)
def test_a_bad_field_is_one_sentence(fields, message):
    with pytest.raises(SettingsError) as caught:
        settings(**fields)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [((), {"": 10.0}), (("15",), {"": 15.0}), (("logits=5.5",), {"": 10.0, "logits": 5.5}),
     (("a=b=-3", "20"), {"a=b": -3.0, "": 20.0})],
)  # fmt: skip
def test_ratios_that_outputs_need_are_for_all_or_for_one(given, found):
    assert settings(comparison_snr=given).least_snr_db == found


@pytest.mark.parametrize(
    ("given", "message"),
    [(("high",), "spell it DB or OUTPUT=DB"), (("y=1", "y=2"), "given twice for the output y"),
     (("1", "2"), "given twice for all outputs"), (("y=",), "spell it DB or OUTPUT=DB"), (("nan",), "spell it DB")],
)  # fmt: skip
def test_ratios_that_make_no_sense_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        settings(comparison_snr=given)


def test_a_missing_model_is_said_without_a_dump():
    with pytest.raises(SettingsError) as caught:
        settings_from({"seed": 1}, "job.toml")
    assert str(caught.value) == "job.toml: model: is needed and was not given"


def test_settings_survive_the_manifest():
    given = settings(precisions=["fp8"], trials=3, calib="calib.npz")
    assert settings_from(given.model_dump(mode="json"), "manifest") == given


def test_settings_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        settings().seed = 4


# Paths.


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    for name in ("net.onnx", "calib.npz", "recipe.toml", "device.toml"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_anchored_settings_hold_in_any_folder(files):
    given = settings(model="net.onnx", calib="recipe.toml:train", eval="cifar10-resnet:test", device="device.toml")
    found = given.anchored()
    assert found.model == files / "net.onnx"
    assert found.calib == f"{files / 'recipe.toml'}:train"
    assert found.eval == "cifar10-resnet:test", "the name of a committed recipe is no path"
    assert found.device == str(files / "device.toml")
    assert found.anchored() == found
    assert settings(model="net.onnx").anchored().calib is None


def test_a_jobs_paths_are_relative_to_the_job(files, monkeypatch):
    job = files / "job.toml"
    job.write_text(
        'model = "net.onnx"\ncalib = "recipe.toml:train"\neval = "other.npz"\nprecisions = ["fp8"]\n', encoding="utf-8"
    )
    monkeypatch.chdir("/")
    assert fields_from_job(job) == {
        "model": str(files / "net.onnx"),
        "calib": f"{files / 'recipe.toml'}:train",
        "eval": "other.npz",
        "precisions": ["fp8"],
    }


def test_a_jobs_odd_values_are_left_to_validation(files):
    job = files / "job.toml"
    job.write_text('model = 3\ncalib = ["a"]\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"job.toml: model: Input is not a valid path .*\(got 3\)"):
        settings_from(fields_from_job(job), str(job))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model = ", r"job.toml is not valid TOML: "),
        (b"\xff\xfe", r"cannot read .*job.toml: "),
        (None, r"cannot read .*job.toml: No such"),
    ],
)
def test_a_bad_job_file_is_one_sentence(tmp_path, content, message):
    if content is not None:
        (tmp_path / "job.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        fields_from_job(tmp_path / "job.toml")
    assert "\n" not in str(caught.value)


def test_of_the_engine_only_what_was_given_changes():
    stored = {"batch": 8, "engine": {"typing": "weak", "rounds": 5}}
    assert overridden(stored, {"engine": {"rounds": 9}}) == {"batch": 8, "engine": {"typing": "weak", "rounds": 9}}
    assert overridden(stored, {"batch": 1}) == {"batch": 1, "engine": {"typing": "weak", "rounds": 5}}
    assert overridden({}, {"engine": {"rounds": 9}}) == {"engine": {"rounds": 9}}


def test_a_job_file_locates_engine_files_beside_itself(tmp_path):
    (tmp_path / "plugin.so").touch()
    job = tmp_path / "job.toml"
    job.write_text('model = "m.onnx"\n[engine]\ntiming_cache = "out"\nplugins = ["plugin.so", "libelsewhere.so"]\n')
    engine = settings_from(fields_from_job(job), "job").engine
    assert engine.timing_cache == tmp_path / "out"
    assert engine.plugins == (tmp_path / "plugin.so", Path("libelsewhere.so"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1200000", 1_200_000),
        ("12MiB", 12 * 2**20),
        ("1.5 kB", 1500),
        ("2 GB", 2 * 10**9),
        (" 7B ", 7),
        ("1GiB", 2**30),
    ],
)
def test_a_size_is_written_as_people_write_it(text, size):
    assert settings(target_size=text).target_size == size


@pytest.mark.parametrize("text", ["", "MiB", "12 mib", "1.2.3MB", "-1MB", "1e6"])
def test_what_is_no_size_says_how_to_spell_it(text):
    with pytest.raises(SettingsError, match="target_size: spell it as bytes or with one of B, kB"):
        settings(target_size=text)


def test_targets_replace_each_other():
    stored = {"target_accuracy": 0.99, "target_latency": None, "batch": 8}
    assert overridden(stored, {"target_latency": 2.0}) == {"batch": 8, "target_latency": 2.0}
    assert overridden({"target_size": 9}, {"target_accuracy": 0.9}) == {"target_accuracy": 0.9}
    with pytest.raises(SettingsError, match="--target-accuracy and --target-size exclude each other"):
        overridden({}, {"target_accuracy": 0.9, "target_size": "1MB"})
    with pytest.raises(SettingsError, match="target_size: excludes target_latency: give one of them"):
        settings(target_latency=1.0, target_size=9)


@pytest.mark.parametrize("spec", ["fp16", "fp16:", "half:x", ":x"])
def test_a_pin_has_a_precision_and_a_pattern(spec):
    with pytest.raises(SettingsError, match=r"keep: spell it PRECISION:PATTERN, as in fp16:layer1\*, with one of fp32"):
        settings(keep=(spec,))


def test_prices_are_of_one_device_or_of_each_by_name() -> None:
    def price(given: object, device: str = "l4") -> float | None:
        return settings_from({"model": "m.onnx", "device": device, "price_per_hour": given}, "here").price

    assert price(0.5) == price("0.5") == price(["0.5"]) == 0.5
    assert price("l4=0.71, t4=0.35", "t4") == 0.35
    assert price("l4=0.71", "gpus/l4.toml") == 0.71
    assert price("l4=0.71", "t4") is None
    assert price(()) is None
    for wrong in ("cheap", "l4=", "0.5,0.6", "0", "l4=-1"):
        with pytest.raises(SettingsError, match="price_per_hour: spell it PRICE"):
            price(wrong)
