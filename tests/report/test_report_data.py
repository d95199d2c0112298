import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.device_samples import DEPLOYMENTS, hostile_device, with_device
from tests.report.samples import INT8, compared_report, hostile_report, sample_report
from trt_mpq.errors import RunFolderError
from trt_mpq.report import Report, report_from_json, report_to_json
from trt_mpq.types.engine import BuildStatus, Conditions, Deployment, EngineBuild

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-6, 1e6)
states = st.builds(
    Conditions, st.none() | positive, st.none() | positive, st.none() | positive, st.none() | positive,
    st.none() | st.text(),
)  # fmt: skip
failures = st.builds(
    EngineBuild,
    st.sampled_from([BuildStatus.FAILED, BuildStatus.CRASHED, BuildStatus.TIMED_OUT]),
    st.sampled_from(["strong", "weak"]),
    positive,
    errors=st.lists(st.text(), max_size=2).map(tuple),
    reason=st.text(),
    unused=st.lists(st.text(), max_size=2).map(tuple),
)


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    medians = draw(st.dictionaries(st.sampled_from(["plan", "fp16", "int8"]), positive))
    failed = draw(st.dictionaries(st.sampled_from(["candidate-2", "candidate-3"]), failures))
    before, after = draw(states), draw(states)
    report = with_device(
        sample_report(3),
        medians,
        failed,
        lambda p: replace(p, before=before, after=after, launch_bound=draw(st.booleans())),
    )
    assert report.device is not None
    return replace(report.device, reproduce=draw(st.text()), notes=tuple(draw(st.lists(st.text(), max_size=2))))


@st.composite
def reports(draw: st.DrawFn) -> Report:
    ids = draw(st.lists(st.text(), unique=True, min_size=1, max_size=5))
    report = sample_report(len(ids))
    rows = tuple(
        replace(row, id=name, reason=draw(st.text()), sensitivity={INT8: draw(st.none() | finite)})
        for row, name in zip(report.group_rows, ids, strict=True)
    )
    scores = draw(st.tuples(*(st.none() | finite for _ in range(4))))
    return replace(
        report,
        group_rows=rows,
        plan=replace(report.plan, assignments={row.id: row.precision for row in rows}),
        accuracy=replace(report.accuracy, fp32=scores[0], fp16=scores[1], plan=scores[2], fp32_stderr=scores[3]),
        latency_ms=replace(report.latency_ms, plan=draw(finite), fp32=None),
        comparison=draw(st.sampled_from([None, report.comparison])),
        device=draw(st.none() | deployments()),
        warnings=tuple(draw(st.lists(st.text(), max_size=3))),
        environment=draw(st.dictionaries(st.text(), st.text(), max_size=3)),
    )


@given(reports())
def test_json_round_trip(report: Report) -> None:
    again = report_from_json(report_to_json(report))
    assert again == report
    assert list(again.plan.assignments) == list(report.plan.assignments), "network order is lost"


def test_hostile_names_survive_json() -> None:
    for report in (hostile_report(), hostile_device()):
        assert report_from_json(report_to_json(report)) == report


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_the_device_said_survives_json(name: str) -> None:
    report = DEPLOYMENTS[name]
    assert report_from_json(report_to_json(report)) == report


def test_json_holds_what_scripts_read() -> None:
    report = sample_report(20)
    found = json.loads(report_to_json(report))
    assert {"fp32", "fp16", "plan", "target", "metric", "uniform"} <= found["accuracy"].keys()
    assert {"fp32", "fp16", "plan", "source", "device", "batch", "uniform"} <= found["latency_ms"].keys()
    assert {"fp32", "fp16", "plan", "uniform"} <= found["size_bytes"].keys()
    wanted = {"algorithm", "sensitivity", "evaluations", "full_equivalents", "seconds", "ladder", "path"}
    assert wanted <= found["search"].keys()
    assert {"note", "score", "latency_ms", "feasible", "counts", "plan"} <= found["search"]["path"][0].keys()
    assert found["groups"] == 20 == len(found["group_rows"])
    assert found["plan"]["counts"] == {"fp16": 6, "int8": 14}
    assert found["accuracy"]["uniform"] == {"int8": report.accuracy.uniform[INT8]}
    assert found["latency_ms"]["source"] == "modelled"
    assert found["seed"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_becomes_null_and_reads_back(value: float) -> None:
    report = sample_report(1)
    odd = replace(report, accuracy=replace(report.accuracy, fp32=value))
    text = report_to_json(odd)
    assert json.loads(text, parse_constant=pytest.fail)["accuracy"]["fp32"] is None
    assert report_from_json(text).accuracy.fp32 is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "the file"),
        ("{", "the file"),
        ("{}", "model"),
        (report_to_json(sample_report(2)).replace('"groups": 2', '"groups": "many"'), "groups"),
        (report_to_json(sample_report(2)).replace('"int8"', '"int7"'), "int7"),
    ],
)
def test_damaged_json_is_one_sentence(text: str, where: str) -> None:
    with pytest.raises(RunFolderError, match=where) as caught:
        report_from_json(text)
    assert "\n" not in str(caught.value)


def test_agreement_goes_through_json() -> None:
    report = compared_report()
    assert report_from_json(report_to_json(report)) == report
    assert json.loads(report_to_json(report))["agreement"]["tau"]["fp8"][0] == [1.0, 0.25, None]
