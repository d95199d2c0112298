"""Lint against the truth: the graphs of every rule through NVIDIA's parser and compiler, `python -m bench.lint_truth`.

Every rule has pairs of small graphs (`tests/lint/cases.py`), one that breaks it and one that just does not. Both are
compiled with TensorRT for RTX, and what differs between them is the verdict, in the words of `trt_mpq.lint.Severity`.
Files that other tools delivered (`python -m bench.peers`) are compiled too, and lint's false alarms and misses counted;
what was found of files that are not at hand any more is kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from bench.compiled import ADA, MISSING, Compiled, compiled
from bench.program import EIGHT_BIT, Kernel, program
from tests.lint.cases import PAIRS, SOUND
from trt_mpq.lint import RULES, Severity, lint_graph
from trt_mpq.lint.graph import QdqGraph
from trt_mpq.model import load_graph

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "lint-truth.json"
_LONG = 120

_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt"
GUIDE = (
    f"[Q/DQ placement recommendations]({_DOCS}/latest/inference-library/quantized-types-explicit-quantization.html) of "
    "the TensorRT documentation"
)
_EPILOGUE = (
    "TensorRT for RTX cannot tell: its convolutions write floats, and a pointwise kernel takes the quantizer in. "
)
_WEAK = "TensorRT for RTX cannot tell, the rule is for TensorRT 8.6: "
ELSEWHERE: Mapping[str, str] = {
    "weak-opset": f"{_WEAK}[support matrix of 8.6]({_DOCS}/archives/tensorrt-861/support-matrix/index.html), opset 17",
    "weak-type": _WEAK
    + f"[developer guide of 8.6]({_DOCS}/archives/tensorrt-861/developer-guide/index.html), INT8 and FP32",
    "weak-stored-weight": _WEAK + "whether it reads stored INT8 codes is not documented",
    "scale-infinite": "0 · ∞ is NaN by arithmetic, on any device; no text of the program says so",
    "activation-int4": "TensorRT for RTX compiles the matrix product all the same; INT4 is for weights alone in the "
    f"[quantization schemes]({_DOCS}/latest/inference-library/quantized-types-schemes.html)",
    "blocked-epilogue": _EPILOGUE + GUIDE,
    "residual-high-precision": _EPILOGUE + GUIDE,
    "requantize": _EPILOGUE + GUIDE,
    "concat-scales": "TensorRT for RTX writes the tensor twice in one kernel. " + GUIDE,
    "tensor-two-scales": "TensorRT for RTX writes the tensor twice in one kernel. " + GUIDE,
    "standalone": "TensorRT for RTX fuses some with what is before or behind. " + GUIDE,
    "pool-output": "TensorRT for RTX pools floats either way. " + GUIDE,
}
"""Rules whose severity rests on a document instead, and why."""


@dataclass(frozen=True)
class Verdict:
    """What the compiler makes of a pair.

    Attributes:
        verdict: A severity's word; "taken" if nothing differs.
        said: Of a refusal, who and with what first words; else what differs.
    """

    verdict: str
    said: str = ""


def verdicts() -> dict[str, tuple[Verdict, ...]]:
    """Every rule's verdicts, one per pair."""
    graphs = {
        (rule, index, side): getattr(pair, side).model()
        for rule, pairs in PAIRS.items()
        for index, pair in enumerate(pairs)
        for side in ("breaks", "keeps")
    }
    names = {key: "/".join(map(str, key)) for key in graphs}
    done = compiled({names[key]: serialized(model) for key, model in graphs.items()})
    return {
        rule: tuple(
            _verdict(graphs[rule, index, "breaks"], *(done[names[rule, index, side]] for side in ("breaks", "keeps")))
            for index in range(len(pairs))
        )
        for rule, pairs in PAIRS.items()
    }


def serialized(model: ir.Model) -> bytes:
    """A graph as ONNX bytes."""
    return bytes(ir.to_proto(model).SerializeToString())


def _verdict(graph: ir.Model, breaks: Compiled, keeps: Compiled) -> Verdict:
    if keeps.engine is None:
        raise RuntimeError(f"the graph that keeps the rule is refused by the {keeps.stage}: {keeps.message}")
    if breaks.engine is None:
        return Verdict(Severity.REFUSED.value, f"{breaks.stage}: {_short(breaks.message)}")
    found, wanted = program(breaks.engine), program(keeps.engine)
    if read_as := misread(graph, found):
        return Verdict(Severity.WRONG_NUMBERS.value, read_as)
    eight_bit = [sum(kernel.in_eight_bit for kernel in kernels) for kernels in (found, wanted)]
    if eight_bit[0] < eight_bit[1]:
        return Verdict(Severity.HIGH_PRECISION.value, f"{eight_bit[0]} of {eight_bit[1]} products in 8 bit")
    if len(found) > len(wanted):
        return Verdict(Severity.EXTRA_KERNEL.value, f"{len(found)} kernels for {len(wanted)}")
    return Verdict("taken")


def misread(graph: ir.Model, kernels: Sequence[Kernel]) -> str:
    """How the program takes codes or scales for others than the file says, empty if it does not."""
    qdq = QdqGraph(graph)
    wanted = {str(step.node.name): step.codes for step in qdq.quantizers}
    blocks = {str(step.node.name) for step in qdq.dequantizers if step.in_blocks}
    for kernel in kernels:
        if kernel.in_eight_bit and not blocks.isdisjoint(kernel.nodes):
            return "multiplies all blocks as one"
        unsigned = [node for node in kernel.nodes if wanted.get(node) is ir.DataType.UINT8]
        written = sorted(EIGHT_BIT.intersection(kernel.writes))
        if unsigned and written:
            return f"writes UINT8 codes as {written[0]}"
    return ""


def _short(message: str) -> str:
    """The telling part of what NVIDIA said: an assertion, or what follows it."""
    said = message.replace("\n", " ")
    for opening in ("MyelinCheckException: ", "API Usage Error ", "Assertion failed: "):
        said = said.rpartition(opening)[2]
    said = re.split(r"\.? +In \w+ at | LHS: ", said)[0].strip("() .")
    return said if len(said) < _LONG else f"{said[: _LONG - 3]}..."


@dataclass(frozen=True)
class Delivered:
    """A file of another tool: what became of it and what lint says.

    Attributes:
        name: The job that it was delivered for.
        stage: "built", or who refused it.
        said: What was said first.
        misread: Whether codes are read as another type.
        products: Weighted operators that the file quantizes, and how many of these products run in 8 bit.
        findings: Level to rule to how often.
    """

    name: str
    stage: str
    said: str
    misread: bool
    products: tuple[int, int]
    findings: Mapping[str, Mapping[str, int]]

    @property
    def wrong(self) -> bool:
        """Whether the file is refused or computed otherwise."""
        return self.stage != "built" or self.misread

    @property
    def judgement(self) -> str:
        """Whether lint's errors agree."""
        alarmed = "error" in self.findings
        if alarmed == self.wrong:
            return "right"
        return "false alarm" if alarmed else "miss"


def deliveries(folder: Path) -> tuple[Delivered, ...]:
    """Every `delivered.onnx` under a folder of the peers' jobs."""
    graphs = {path.parent.name: load_graph(path) for path in sorted(folder.glob("*/delivered.onnx"))}
    outcomes = compiled({name: serialized(graph) for name, graph in graphs.items()})
    return tuple(_delivered(name, graph, outcomes[name]) for name, graph in graphs.items())


def kept_deliveries() -> dict[str, Delivered]:
    """What was made of files before, by name: the environments of all peers take 7 GB, and not every run has them."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8")).get("peers", [])
    return {row["name"]: Delivered(**{**row, "products": tuple(row["products"])}) for row in rows}


def _delivered(name: str, graph: ir.Model, outcome: Compiled) -> Delivered:
    counts = Counter((finding.severity.level, finding.rule) for finding in lint_graph(graph))
    levels = dict.fromkeys(level for level, _ in counts)
    findings = {level: {rule: n for (own, rule), n in counts.items() if own == level} for level in levels}
    kernels = program(outcome.engine) if outcome.engine else ()
    qdq = QdqGraph(graph)
    quantized = {str(node.name) for node in qdq.weighted() if qdq.in_eight_bit(node)}
    realised = {node for kernel in kernels if kernel.in_eight_bit for node in kernel.nodes}
    return Delivered(
        name, outcome.stage, _short(outcome.message), bool(misread(graph, kernels)),
        (len(quantized), len(quantized & realised)), findings,
    )  # fmt: skip


def sound() -> dict[str, str]:
    """Graphs that lint says nothing about and the compiler refuses: name to what it says."""
    done = compiled({name: serialized(case.model()) for name, case in SOUND.items()})
    return {name: outcome.message for name, outcome in done.items() if not outcome.built}


def table(found: Mapping[str, Sequence[Verdict]], peers: Iterable[Delivered], version: str) -> str:
    """Everything as Markdown."""
    lines = [*_head(version), "", "| rule | severity | TensorRT for RTX, one per pair | agrees |", "|---|---|---|---|"]
    reasons: list[str] = []
    for severity, rules in RULES.items():
        for rule in rules:
            agreed = "yes"
            if rule in ELSEWHERE or not agrees(severity, found[rule]):
                reason = ELSEWHERE[rule]
                reasons += [] if reason in reasons else [reason]
                agreed = f"see {reasons.index(reason) + 1}"
            lines.append(f"| {rule} | {severity} | {_cell(found[rule])} | {agreed} |")
    lines += ["", "Where it does not agree, or cannot tell, the severity rests on:", ""]
    lines += [f"{number}. {reason}." for number, reason in enumerate(reasons, 1)]
    files = list(peers)
    if files:
        lines += ["", *_peers(files)]
    return "\n".join(lines) + "\n"


def agrees(severity: Severity, found: Sequence[Verdict]) -> bool:
    """Whether every pair of a rule shows its severity."""
    wanted = "taken" if severity is Severity.NOTE else severity.value
    return all(one.verdict == wanted for one in found)


def _head(version: str) -> Iterator[str]:
    yield "# Lint against NVIDIA's compiler"
    yield ""
    yield (
        f"TensorRT for RTX {version}, compute capability {ADA}, `python -m bench.lint_truth`. Of every rule, pairs "
        "of small graphs (`tests/lint/cases.py`) are compiled, one that breaks the rule and one that just does not. "
        "*refused*: by the parser or the compiler, with its words; *wrong numbers*: the program takes codes or "
        "scales for others; *high precision*: fewer products in 8 bit; *extra kernel*: more kernels; *taken*: none. "
        "All graphs that keep their rule compile. TensorRT 10 and 11 have the same parser and other kernels: what is "
        "refused here they refuse in all likelihood, which kernels they choose this does not tell."
    )


def _cell(found: Sequence[Verdict]) -> str:
    parts = dict.fromkeys(f"{one.verdict} ({one.said})" if one.said else one.verdict for one in found)
    return "; ".join(parts).replace("|", "\\|")


def _peers(files: Sequence[Delivered]) -> Iterator[str]:
    counts = Counter(one.judgement for one in files)
    yield "## Files that other tools delivered"
    yield ""
    yield (
        f"{len(files)} files of `python -m bench.peers`: lint's errors are right about {counts['right']}, false alarms "
        f"{counts['false alarm']}, misses {counts['miss']}. Wrong is a file that is refused or whose codes are read as "
        "another type. Rows of files that were not at hand are kept from an earlier run."
    )
    yield ""
    yield "| file | TensorRT for RTX | products in 8 bit / quantized | lint | its errors |"
    yield "|---|---|---:|---|---|"
    for one in files:
        what = "wrong numbers" if one.misread else "built" if one.stage == "built" else f"{one.stage}: {one.said}"
        listed = "; ".join(
            f"{level}: " + ", ".join(f"{rule} {count}" for rule, count in rules.items())
            for level, rules in one.findings.items()
            if level != "note"
        )
        share = f"{one.products[1]} / {one.products[0]}" if one.stage == "built" else ""
        yield f"| {one.name} | {what.replace('|', '/')} | {share} | {listed or 'nothing'} | {one.judgement} |"


def main() -> None:
    """Compile everything, then write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.lint_truth", description=__doc__)
    parser.add_argument("--peers", type=Path, default=ROOT / "cache" / "peers" / "jobs", help="jobs of `bench.peers`")
    options = parser.parse_args()
    if MISSING:
        parser.error(MISSING)
    import tensorrt_rtx_bindings as trt

    found, peers = verdicts(), kept_deliveries() | {one.name: one for one in deliveries(options.peers)}
    for name, message in sound().items():
        print(f"lint says nothing about {name!r}, which is refused: {message}")
    text = table(found, [peers[name] for name in sorted(peers)], trt.__version__)
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    content = {
        "version": trt.__version__,
        "verdicts": {rule: [asdict(one) for one in each] for rule, each in found.items()},
        "peers": [asdict(peers[name]) for name in sorted(peers)],
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
