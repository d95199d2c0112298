"""The settings, each declared once, as a field: the command line takes its name, type, default and docstring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from trt_mpq.settings.engine_options import EngineOptions
from trt_mpq.settings.option import CONFIG, Option
from trt_mpq.settings.paths import anchored
from trt_mpq.settings.spelling import bytes_from_text, device_and_price, output_and_ratio, pairs_of
from trt_mpq.types import Precision

_LEAST_SNR_DB = 10.0


class Settings(BaseModel):
    """Everything that decides the outcome of a run.

    Job files (`engines/jobs/*.toml`) spell the fields exactly like this; the command line uses dashes.
    """

    model_config = CONFIG

    model: Annotated[Path, Option("Data")]
    """ONNX file to quantize, in place of the one that a job file names."""
    calib: Annotated[str | None, Option("Data", daily=True)] = None
    """Calibration data: .npz, .npy, a folder of images, a recipe file, or recipe name[:split]."""
    eval: Annotated[str | None, Option("Data", daily=True)] = None
    """Evaluation data: the same; a folder with a subfolder for each class has labels. Without any, plans are evaluated
    on the calibration data."""
    holdout: Annotated[str | None, Option("Data")] = None
    """Data on which the delivered plan is judged once, in the same forms: nothing is chosen on it, so that its score is
    no better than the truth."""
    preprocess: Annotated[
        str | None, Option("Data", unset="as preprocessor_config.json beside the model says", daily=True)
    ] = None
    """How images of a folder become the model's input: imagenet, clip, 0-1, -1-1, 0-255, yolo, or the JSON file of a
    Hugging Face, timm or torchvision processor."""
    metric: Annotated[str, Option("Goal", daily=True)] = "auto"
    """Task metric: top1, top5, accuracy, perplexity, spearman, pearson, f1, exact-match, miou, map50, map50-95, wer,
    cer, agreement, cosine, kl, sqnr, or your own module:function. auto goes by labels and outputs."""
    decode: Annotated[str | None, Option("Goal")] = None
    """How outputs become what the metric compares: yolov8, detr or ssd for boxes, ctc:VOCABULARY for texts, or your own
    module:function from outputs by name to boxes or a text per sample."""
    outputs: Annotated[tuple[str, ...], Option("Goal", as_text=True, unset="all that have an entry per sample")] = ()
    """Tensors that count, as in boxes,scores: outputs of the model, or what it computes inside, such as scores before
    the NonMaxSuppression of a detector. By them plans are judged, groups ranked, and the network compared with FP32."""
    target_accuracy: Annotated[float, Field(gt=0, le=1), Option("Goal", daily=True)] = 0.99
    """Least share of the FP32 score that the plan must keep, up to 1; of a negative score, what it may lose is the
    rest of its magnitude."""
    max_loss: Annotated[NonNegativeFloat | None, Option("Goal", unset="by --target-accuracy", daily=True)] = None
    """How much less than FP32 the plan may score, in the metric's own unit, in place of a share: 0.01 of an accuracy is
    one point."""
    target_sqnr: Annotated[PositiveFloat | None, Option("Goal", unset="by --target-accuracy")] = None
    """Decibels that the metric sqnr must have, in place of a share: 0.99 comes to 20, 0.999 to 30."""
    target_latency: Annotated[PositiveFloat | None, Option("Goal", daily=True)] = None
    """Milliseconds that the plan may take: then the most accurate such plan is chosen, and no accuracy is required."""
    target_size: Annotated[PositiveInt | None, Option("Goal", as_text=True)] = None
    """Bytes that the parameters may take, also as 12MiB: then the most accurate such plan is chosen, and no accuracy is
    required."""
    objective: Annotated[Literal["latency", "energy", "size"], Option("Goal", daily=True)] = "latency"
    """What is made as little as it can be within the target: the time of an inference, its energy, or the bytes of the
    parameters."""
    price_per_hour: Annotated[tuple[str, ...], Option("Goal", as_text=True, unset="none")] = ()
    """What an hour of the device costs, for inferences per dollar: 0.71, of several devices as in l4=0.71,t4=0.35."""
    comparison_snr: Annotated[tuple[str, ...], Option("Goal", unset="10, a tenth of the power is noise")] = ()
    """Least signal-to-noise ratio in dB, against FP32, with which an output passes Polygraphy's comparison of the
    network and of its engine: for every output, or as OUTPUT=DB for one."""
    require_comparison: Annotated[bool, Option("Goal")] = False
    """End with an error, and ship no engine, if an output does not pass the comparison; otherwise that is a warning."""
    confidence: Annotated[float, Field(gt=0.5, le=1), Option("Search")] = 0.999
    """How sure a search must be of a plan to stop its evaluation early; 1 runs every plan on every sample, as the
    chosen one always is."""
    precisions: Annotated[tuple[Precision, ...], Option("Goal", as_text=True, daily=True)] = (
        Precision.FP16,
        Precision.INT8,
    )
    """Ladder of precisions to search: fp16 or bf16 and any of w8a16, fp8, int8, w4a16, nvfp4, int4, in any order. Its
    top is BF16 where that is named without FP16, else FP16; BF16 beside FP16 is where groups run that overflow FP16,
    named or not."""
    mix_formats: Annotated[bool, Option("Search")] = False
    """Let one plan hold FP8 and INT8; otherwise each is searched alone and the faster plan wins."""
    sensitivity: Annotated[tuple[str, ...], Field(min_length=1), Option("Search", as_text=True)] = ("output-sqnr",)
    """Metrics that rank the groups: quantization-error, noise, hessian, fisher, output-sqnr, output-difference,
    task-loss, dependency, random. Of several, as in noise,fisher, the first ranks, and the report says how well they
    agree with task-loss, the loss of really quantizing every group."""
    compare_function: Annotated[
        Literal["snr", "psnr", "cosine", "l2", "max-abs", "mean-abs", "median-abs"], Option("Search")
    ] = "snr"
    """What the metric output-difference has Polygraphy compare outputs by."""
    compare_runner: Annotated[Literal["onnxruntime", "tensorrt"], Option("Search")] = "onnxruntime"
    """Where the metric output-difference runs the network with a group lowered: in ONNX Runtime, or on this machine's
    GPU as an engine, which is built for every group and precision."""
    search: Annotated[str, Option("Search")] = "ilp"
    """Search algorithm: ilp, pareto, bisection, greedy, uniform."""
    max_evaluations: Annotated[PositiveInt | None, Option("Search", unset="the algorithm's own")] = None
    """Plans that the search may evaluate."""
    max_seconds: Annotated[PositiveFloat | None, Option("Search", unset="no limit")] = None
    """Seconds that the search may spend on evaluations."""
    keep: Annotated[tuple[str, ...], Option("Search", daily=True)] = ()
    """Groups that run in a given precision: PRECISION:PATTERN with a glob over group ids, as in 'fp16:layer1*'."""
    exclude: Annotated[tuple[str, ...], Option("Search")] = ()
    """Groups that stay out of 8 bit and less: a glob over group ids."""
    device: Annotated[str, Option("Goal", daily=True)] = "h200"
    """Device model for latency: a name in engines/targets or a file; without it that of this machine's GPU, if it has
    one. `build` takes several, as in l4,orin-agx: a plan for each and a page that compares them."""
    batch: Annotated[PositiveInt, Option("Goal", daily=True)] = 32
    """Rows (samples) per inference: what the latency is for, and how many the reference runtime takes at a time."""
    calibration: Annotated[tuple[str, ...], Field(min_length=1), Option("Quantizers", as_text=True)] = (
        "mse", "entropy", "minmax", "percentile",
    )  # fmt: skip
    """Calibration methods, one or several of mse, entropy, minmax, percentile: every format takes the first with which
    its fastest plan keeps the target, else what a plan of half the groups scores best with: one of them, or a method
    for each tensor."""
    from_qdq: Annotated[bool, Option("Quantizers")] = False
    """Take a file with QuantizeLinear and DequantizeLinear: its scales are the ranges of the tensors that it quantizes,
    and what it does not quantize stays out of 8 bit."""
    bias_correction: Annotated[bool, Option("Quantizers")] = True
    """Correct the mean output of every quantized group before the search."""
    adaround: Annotated[bool, Option("Quantizers")] = False
    """AdaRound: learn whether to round each weight up or down before the search; needs torch and takes minutes."""
    adaround_steps: Annotated[PositiveInt, Option("Quantizers")] = 100
    """Steps of gradient descent with which a layer's rounding is learned."""
    clip_weights: Annotated[bool, Option("Quantizers")] = False
    """Scales of weights of matrix products, per channel or block, that clip the largest where that loses less."""
    gptq: Annotated[bool, Option("Quantizers")] = False
    """GPTQ: round weights of matrix products so that each input channel makes up for the errors of those before."""
    refine_plan: Annotated[bool, Option("Search")] = True
    """Correct biases once more for exactly the plan that was found, and try to bring more groups down."""
    equalize: Annotated[bool, Option("Quantizers")] = False
    """Equalize weight ranges across layers before calibration."""
    smooth: Annotated[bool, Option("Quantizers")] = False
    """SmoothQuant: move outliers of activations into the weights of linear layers before calibration."""
    smooth_alpha: Annotated[float, Field(ge=0, le=1), Option("Quantizers")] = 0.8
    """How much of the range smoothing takes from activations: 0 evens out weights only, 1 activations only."""
    awq: Annotated[bool, Option("Quantizers")] = False
    """AWQ: scale what linear layers read, channel by channel, so that weights in w8a16, w4a16 and nvfp4 lose less."""
    exclusions: Annotated[Literal["modelopt", "none"], Option("Quantizers")] = "modelopt"
    """Shapes that stay out of 8 bit beforehand: Model Optimizer's list and what TensorRT has no kernel for, or none."""
    calib_samples: Annotated[PositiveInt | None, Option("Data", unset="all")] = None
    """Use the first so many calibration samples."""
    eval_samples: Annotated[PositiveInt | None, Option("Data", unset="all")] = None
    """Use the first so many evaluation samples."""
    batch_axis: Annotated[
        tuple[str, ...], Option("Data", as_text=True, unset="seen from names, sizes and the operators that read it")
    ] = ()
    """Axis of an input or output that counts rows, as in state:1,rate:none: the first of most, the second of the states
    of recurrent networks, none for an input that is the same for all rows and is given once."""
    states: Annotated[tuple[str, ...], Option("Data", as_text=True, unset="none")] = ()
    """Outputs that are inputs of the next step, OUTPUT:INPUT as in stateN:state, of a network that streams: a sample is
    a sequence then, whose steps are the second axis of the data, and every plan runs them in order with its states."""
    sensitivity_samples: Annotated[PositiveInt | None, Option("Search", unset="the metric's own number")] = None
    """Calibration samples that sensitivity metrics run."""
    trials: Annotated[PositiveInt | None, Option("Search", unset="the metric's own number")] = None
    """Random draws of the noise and Hessian metrics."""
    noise_amplitude: Annotated[PositiveFloat, Option("Search")] = 1.0
    """Standard deviation of the injected noise in quantization steps."""
    latency: Annotated[str, Option("Goal")] = "auto"
    """Where latencies come from: modelled; measured on this machine's GPU; or the file of a device table that
    `trt-mpq measure` wrote. auto is measured where a GPU, TensorRT and pycuda are, else modelled."""
    engine: EngineOptions = Field(default_factory=EngineOptions)
    """How engines are built and timed."""
    threads: Annotated[Annotated[int, Field(ge=0, le=1024)], Option("Running")] = 0
    """Threads of the reference runtime; 0 takes every core."""
    workers: Annotated[Annotated[int, Field(ge=1, le=1024)], Option("Running")] = 1
    """Processes that work side by side on calibration, sensitivities and plans; 1 is this one alone."""
    ray: Annotated[str | None, Option("Running")] = None
    """Address of a Ray cluster, or auto for this machine's, whose CPUs take the place of processes; workers then
    says how many, 1 for all. Where this machine has no GPU, one of the cluster builds and times the engines."""
    metric_timeout: Annotated[PositiveFloat | None, Option("Running", unset="no limit")] = None
    """Seconds that a call of your own metric may take."""
    seed: Annotated[NonNegativeInt, Option("Running")] = 0
    """Seed of every random draw."""

    @field_validator("keep")
    @classmethod
    def _check_pins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for spec in value:
            name, _, pattern = spec.partition(":")
            if not pattern or name not in {p.value for p in Precision}:
                raise ValueError(f"spell it PRECISION:PATTERN, as in fp16:layer1*, with one of {', '.join(Precision)}")
        return value

    @field_validator("comparison_snr")
    @classmethod
    def _check_ratios(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        outputs = [output for output, _ in map(output_and_ratio, value)]
        if twice := next((output for output in outputs if outputs.count(output) > 1), None):
            raise ValueError(f"is given twice for the output {twice}")
        if outputs.count("") > 1:
            raise ValueError("is given twice for all outputs")
        return value

    @field_validator("clip_weights", "gptq")
    @classmethod
    def _without_adaround(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("adaround"):
            raise ValueError("excludes adaround, which rounds the same weights: give one of them")
        return value

    @field_validator("target_size", mode="before")
    @classmethod
    def _count_bytes(cls, value: Any) -> Any:
        return bytes_from_text(value) if isinstance(value, str) else value

    @field_validator("target_size")
    @classmethod
    def _one_limit(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value is not None and others.data.get("target_latency") is not None:
            raise ValueError("excludes target_latency: give one of them")
        return value

    @field_validator("target_sqnr")
    @classmethod
    def _of_sqnr(cls, value: float | None, others: ValidationInfo) -> float | None:
        if value is not None and others.data.get("metric") not in ("auto", "sqnr"):
            raise ValueError("is for the metric sqnr: give --metric sqnr, or another target")
        return value

    @field_validator("equalize", "smooth", "awq")
    @classmethod
    def _keep_given_scales(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("from_qdq"):
            raise ValueError("excludes from_qdq: it would change the tensors that the file has scales for")
        return value

    @field_validator("adaround")
    @classmethod
    def _keep_given_codes(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("from_qdq"):
            raise ValueError("excludes from_qdq: it would round anew the weights that the file has codes for")
        return value

    @field_validator("batch_axis")
    @classmethod
    def _check_axes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name, axis in pairs_of(value):
            if not name or not (axis.isdigit() or axis == "none"):
                raise ValueError("spell it NAME:AXIS, as in state:1, counted from 0, or INPUT:none")
        return value

    @field_validator("states")
    @classmethod
    def _check_states(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(output and state for output, state in pairs_of(value)):
            raise ValueError("spell it OUTPUT:INPUT, as in stateN:state")
        return value

    @field_validator("device", mode="before")
    @classmethod
    def _join_devices(cls, value: Any) -> Any:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that was named; a run is for one, several are given a run each."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def batch_axes(self) -> dict[str, int | None]:
        """Input or output to the axis that counts rows, as far as the user says."""
        return {name: None if axis == "none" else int(axis) for name, axis in pairs_of(self.batch_axis)}

    @property
    def next_states(self) -> dict[str, str]:
        """Input to the output that it is at the next step."""
        return {state: output for output, state in pairs_of(self.states)}

    @field_validator("price_per_hour", mode="before")
    @classmethod
    def _price_of_the_only_device(cls, value: Any) -> Any:
        return (str(value),) if isinstance(value, int | float) else value

    @field_validator("price_per_hour")
    @classmethod
    def _check_prices(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for device, price in map(device_and_price, value):
            if price <= 0 or (not device and len(value) > 1):
                raise ValueError("spell it PRICE for one device or DEVICE=PRICE for each, as in l4=0.71,t4=0.35")
        return value

    @property
    def price(self) -> float | None:
        """What an hour of the device costs; None if nobody said."""
        prices = dict(map(device_and_price, self.price_per_hour))
        return prices.get(Path(self.device).stem if self.device.endswith(".toml") else self.device, prices.get(""))

    @field_validator(
        "precisions", "outputs", "batch_axis", "states", "sensitivity", "calibration", "price_per_hour", mode="before"
    )
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("precisions")
    @classmethod
    def _order_ladder(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if Precision.FP32 in value:
            raise ValueError("fp32 is not a rung of the ladder: groups that overflow its top leave it by themselves")
        top = Precision.BF16 if Precision.BF16 in value and Precision.FP16 not in value else Precision.FP16
        formats = tuple(p for p in Precision if p in value and p.quantized)
        if not formats:
            quantized = ", ".join(p for p in Precision if p.quantized)
            raise ValueError(f"name at least one of {quantized} beside {top}")
        return (top, *formats)

    @property
    def top(self) -> Precision:
        """The high precision: what all runs in that is not in 8 bit."""
        return self.precisions[0]

    @field_validator("outputs", "sensitivity", "calibration")
    @classmethod
    def _require_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := next((name for name in value if value.count(name) > 1), None):
            raise ValueError(f"{twice} is named twice")
        return value

    @property
    def formats(self) -> tuple[Precision, ...]:
        """The quantized precisions of the ladder."""
        return tuple(p for p in self.precisions if p.quantized)

    @property
    def calibrated(self) -> tuple[Precision, ...]:
        """Those of them that quantize activations, whose ranges have to be known."""
        return tuple(p for p in self.formats if p.spec.activations is not None)

    @property
    def scaled_by_awq(self) -> tuple[Precision, ...]:
        """Those that AWQ scales channels for: activations keep 16 bit, or get scales of blocks as they come."""
        return tuple(p for p in self.formats if self.awq and not p.spec.between_kernels)

    @property
    def requires_accuracy(self) -> bool:
        """Whether what misses the accuracy target is not to be shipped."""
        return self.target_latency is None and self.target_size is None

    @property
    def least_snr_db(self) -> dict[str, float]:
        """Output to the signal-to-noise ratio with which it passes the comparison; "" stands for all others."""
        return {"": _LEAST_SNR_DB, **dict(map(output_and_ratio, self.comparison_snr))}

    @property
    def task_metric(self) -> str:
        """The metric that is asked for; auto unless it or a target of its own says which."""
        return "sqnr" if self.target_sqnr is not None else self.metric

    @property
    def allowed_loss(self) -> float | None:
        """How much less than FP32 a plan may score, in the metric's own unit; None if a share of it is to be kept."""
        return self.max_loss if self.target_sqnr is None else float(10 ** (-self.target_sqnr / 10))

    @property
    def seeks_target(self) -> bool:
        """Whether the plan is to keep a share of the FP32 score; otherwise the more accurate the better.

        A frontier answers every target, so it must not depend on one.
        """
        return self.search != "pareto" and self.target_latency is None and self.target_size is None

    @property
    def refines_plan(self) -> bool:
        """Whether the plan that is found is refined once more for itself.

        A uniform search is to stay uniform, and a frontier to answer every target with what was measured.
        """
        return self.refine_plan and self.bias_correction and self.search not in ("uniform", "pareto")

    def anchored(self) -> Settings:
        """The same settings with absolute paths, so that they hold in any working directory."""
        here = Path.cwd()
        return Settings(**anchored(self.model_dump(), here))
