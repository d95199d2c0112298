"""The store: what is made, what is read back, what is taken from another folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts.stores import SETTINGS, Crash, chain, changed, opened, source
from tests.runs import Recorder
from trt_mpq.artifacts.files import write_text
from trt_mpq.artifacts.stage import Job, Kind, Stage, StageError, content_digest, json_kind
from trt_mpq.errors import RunFolderError

# What is made and what is read back.


def test_a_value_is_made_once_even_in_another_process(stage, tmp_path):
    batch = stage("batch", lambda job: job.settings.batch, reads=("batch",))
    store = opened(tmp_path)
    assert store[batch] == store[batch] == 32
    assert opened(tmp_path)[batch] == 32
    assert stage.made == ["batch"]
    assert json.loads((tmp_path / "batch.json").read_text()) == 32


def test_what_is_read_back_is_what_was_made(tmp_path):
    """Fresh or resumed, a run goes by what lies on disk."""
    third = Stage("third", lambda job: (1 / 3, float("inf")), json_kind(tuple[float, ...]))
    assert opened(tmp_path)[third] == opened(tmp_path)[third] == (1 / 3, float("inf"))


def test_a_stage_in_memory_is_made_by_every_process_and_only_once_there(stage, tmp_path):
    batch = stage("batch", lambda job: job.settings.batch, None, reads=("batch",))
    for _ in range(2):
        store = opened(tmp_path)
        assert store[batch] == store[batch] == 32
    assert stage.made == ["batch", "batch"]
    assert not (tmp_path / "batch.json").exists()


def test_a_stage_may_be_defined_again_and_again(stage, tmp_path):
    store = opened(tmp_path)

    def half() -> Stage[int]:
        return stage("half", lambda job: job.settings.batch // 2, reads=("batch",))

    assert store[half()] == store[half()] == 16
    assert stage.made == ["half"]


@pytest.mark.parametrize(
    ("batch", "redone"),
    [(32, []), (30, ["number", "even"]), (31, ["number", "even", "word"])],
    ids=["same", "same further down", "another"],
)
def test_only_what_comes_out_otherwise_is_passed_on(stage, tmp_path, batch, redone):
    *_, word = chain(stage)
    assert opened(tmp_path)[word] == "even"
    stage.made.clear()
    assert opened(tmp_path, changed(batch=batch))[word] == ("odd" if batch % 2 else "even")
    assert stage.made == redone


def test_a_setting_that_nobody_reads_redoes_nothing(stage, tmp_path):
    number, _, word = chain(stage)
    quick = stage("quick", lambda job: (job.settings.threads, job[number])[1], needs=(number,), uses=("threads",))
    opened(tmp_path)[word], opened(tmp_path)[quick]
    stage.made.clear()
    store = opened(tmp_path, changed(threads=7, workers=3, seed=9))
    store[word], store[quick]
    assert stage.made == []


def test_a_value_in_memory_counts_by_its_digest_or_by_what_it_depends_on(stage, tmp_path):
    """The parity is the same for 32 and 30, so only what hangs on the number itself is done again."""
    by_content = stage("parity", lambda job: job.settings.batch % 2, None, reads=("batch",), digest=content_digest(int))
    by_inputs = stage("copy", lambda job: job.settings.batch % 2, None, reads=("batch",))
    told = [stage(f"of {one.name}", lambda job, one=one: job[one], needs=(one,)) for one in (by_content, by_inputs)]
    for batch in (32, 30):
        store = opened(tmp_path, changed(batch=batch))
        assert [store[one] for one in told] == [0, 0]
    assert stage.made.count("of parity") == 1
    assert stage.made.count("of copy") == 2


def test_constants_count(stage, tmp_path):
    for constant in ("a", "b", "b"):
        assert opened(tmp_path)[stage("same", lambda job, c=constant: c, str, constants=(constant,))] == constant
    assert stage.made == ["same", "same"]


def test_two_stages_cannot_be_kept_in_one_file(stage, tmp_path):
    one, other = stage("one", lambda job: 1), stage("other", lambda job: 2)
    store = opened(tmp_path)
    named = [stage("named", lambda job, of=of: job[of], needs=(of,)) for of in (one, other)]
    assert store[named[0]] == 1
    with pytest.raises(StageError, match="two stages of a run are kept as 'named'"):
        store[named[1]]
    in_memory = [stage("named", lambda job, of=of: job[of], None, needs=(of,)) for of in (one, other)]
    assert [store[one] for one in in_memory] == [1, 2]


def test_part_of_a_setting_can_be_declared(stage, tmp_path):
    rounds = stage("rounds", lambda job: job.settings.engine.rounds, reads=("engine.rounds",))
    store = opened(tmp_path)
    assert store[rounds] == 30
    with_margin = SETTINGS.engine.model_copy(update={"margin": 0.5})
    assert opened(tmp_path, changed(engine=with_margin))[rounds] == 30
    assert stage.made == ["rounds"]
    with_rounds = SETTINGS.engine.model_copy(update={"rounds": 3})
    assert opened(tmp_path, changed(engine=with_rounds))[rounds] == 3


def test_needs_come_first_in_their_order_and_titles_do_not_nest(stage, tmp_path):
    observer = Recorder()
    first = stage("first", lambda job: 1, title="First")
    between = stage("between", lambda job: job[first] + 1, None, needs=(first,))
    last = stage("last", lambda job: job[between] + 1, needs=(between,), title="Last")
    assert opened(tmp_path, observer=observer)[last] == 3
    assert observer.events == ["begin First", "end First", "begin Last", "end Last"]


def test_progress_reaches_whoever_watches(tmp_path):
    observer = Recorder()
    opened(tmp_path, observer=observer)[Stage("s", lambda job: job.progress(1, 2), json_kind(None), title="S")]
    assert observer.events == ["begin S", "S 1/2", "end S"]


def test_a_branch_that_is_not_taken_is_not_made(stage, tmp_path):
    a, b = stage("a", lambda job: 1), stage("b", lambda job: 2)
    either = stage("either", lambda job: job[a], None, uses=(a, b))
    assert opened(tmp_path)[either] == 1
    assert stage.made == ["either", "a"]


def test_a_kind_of_its_own(tmp_path):
    def write(value: np.ndarray, path: Path) -> None:
        np.save(path, value)

    kind = Kind(".npy", write, lambda path: np.load(path))
    ones = Stage("ones", lambda job: np.ones(3), kind)
    assert opened(tmp_path)[ones].tolist() == [1, 1, 1]
    assert (tmp_path / "ones.npy").exists()


# Damage, crashes, refusals to take what was kept.


@pytest.mark.parametrize("damage", ["changed", "absent"])
@pytest.mark.parametrize("file", ["s.json", "more/extra.txt"])
def test_a_damaged_file_is_made_again(stage, tmp_path, damage, file):
    def make(job: Job) -> int:
        job.path("more/extra.txt").parent.mkdir(exist_ok=True)
        write_text(job.path("more/extra.txt"), "x")
        return 5

    two = stage("s", make, files=("more/extra.txt", "more/left-out.txt"))
    opened(tmp_path)[two]
    (tmp_path / file).unlink() if damage == "absent" else (tmp_path / file).write_text("6")
    assert opened(tmp_path)[two] == 5
    assert stage.made == ["s", "s"]
    assert (tmp_path / "more/extra.txt").read_text() == "x"
    opened(tmp_path)[two]
    assert stage.made == ["s", "s"], "a file that may be left out is not missed"


def test_going_back_to_old_inputs_makes_it_again_because_its_file_is_another(stage, tmp_path):
    number, *_ = chain(stage)
    for batch in (1, 2, 1):
        assert opened(tmp_path, changed(batch=batch))[number] == batch
    assert stage.made == ["number"] * 3


@pytest.mark.parametrize("moment", ["before its file", "after its file"])
def test_a_stage_that_crashed_is_made_again(stage, tmp_path, moment):
    def crash(job: Job) -> int:
        if moment == "after its file":
            write_text(job.path("s.json"), "1")
        raise Crash

    with pytest.raises(Crash):
        opened(tmp_path)[stage("s", crash)]
    assert opened(tmp_path)[stage("s", lambda job: 2)] == 2


def test_what_does_not_hold_is_made_again(stage, tmp_path):
    def attempt(job: Job) -> bool:
        return len(stage.made) > 1

    tried = stage("tried", attempt, bool, holds=lambda value, job: value)
    assert opened(tmp_path)[tried] is False
    assert opened(tmp_path)[tried] is True
    assert opened(tmp_path)[tried] is True
    assert stage.made == ["tried"] * 2


def test_what_was_made_can_be_had_without_making_it(stage, tmp_path):
    number, *_ = chain(stage)
    assert opened(tmp_path).kept(number) is None
    opened(tmp_path)[number]
    assert opened(tmp_path).kept(number) == 32
    assert opened(tmp_path, changed(batch=1)).kept(number) is None
    assert stage.made == ["number"]


def test_what_another_process_made_in_the_folder_is_learnt(stage, tmp_path):
    number, *_ = chain(stage)
    leader = opened(tmp_path)
    opened(tmp_path, locked=False)[number]
    leader.reread()
    assert leader[number] == 32
    assert stage.made == ["number"]


def test_seconds_are_those_of_the_run_that_did_the_work(stage, tmp_path):
    number, *_ = chain(stage)
    store = opened(tmp_path)
    assert store.seconds(number) == 0
    store[number]
    assert opened(tmp_path).seconds(number) == store.seconds(number) >= 0


# Nothing can be read that is not declared.


@pytest.mark.parametrize(
    "peek",
    [
        lambda job, other: job.settings.batch,
        lambda job, other: job.settings.engine.margin,
        lambda job, other: job[other],
        lambda job, other: job.path("other.json"),
        lambda job, other: job.path("../elsewhere"),
    ],
    ids=["setting", "part of a setting", "stage", "file", "outside"],
)
def test_what_is_not_declared_cannot_be_read(stage, tmp_path, peek):
    other = stage("other", lambda job: 1)
    nosy = stage("nosy", lambda job: peek(job, other), reads=("engine.rounds", "seed"), needs=(source(),))
    store = opened(tmp_path)
    store[other]
    with pytest.raises(StageError, match="'nosy'"):
        store[nosy]


def test_files_of_what_counts_by_its_content_can_be_read(stage, tmp_path):
    """Not those behind a value in between: that may come out the same while they change."""
    first = stage("first", lambda job: 1)
    in_memory = stage("between", lambda job: job[first], None, needs=(first,))
    told = stage("told", lambda job: job[first], None, needs=(first,), digest=str)
    kept = stage("kept", lambda job: job[first], needs=(first,))
    store = opened(tmp_path)
    for between, readable in ((first, True), (in_memory, True), (told, False), (kept, False)):
        last = stage(f"of {between.name}", lambda job: len(job.path("first.json").read_text()), needs=(between,))
        if readable:
            assert store[last] == 2
        else:
            with pytest.raises(StageError, match=r"no stage that 'of .*' declares writes first.json"):
                store[last]


def test_a_file_that_is_left_out_this_time_does_not_stay(stage, tmp_path):
    """What an earlier value had beside it must not be taken for a part of this one; but a failure loses nothing."""

    def make(job: Job) -> int:
        if job.settings.batch > 32:
            write_text(job.path("weights.bin"), "large")
        if job.settings.batch == 7:
            raise Crash
        return job.settings.batch

    model = stage("model", make, reads=("batch",), files=("weights.bin",))
    opened(tmp_path, changed(batch=64))[model]
    with pytest.raises(Crash):
        opened(tmp_path, changed(batch=7))[model]
    assert (tmp_path / "weights.bin").read_text() == "large"
    opened(tmp_path, changed(batch=128))[model]
    assert (tmp_path / "weights.bin").exists(), "written anew with the same content"
    opened(tmp_path, changed(batch=16))[model]
    assert not (tmp_path / "weights.bin").exists()


def test_what_no_key_can_tell_is_refused():
    with pytest.raises(ValueError, match="object"):
        Stage("s", lambda job: 1, constants=(object(),))


# What another folder has.


def test_what_another_folder_has_for_the_same_inputs_is_copied(tmp_path, stage):
    def make(job: Job) -> int:
        (job.folder / "beside.txt").write_text(str(job.settings.seed), encoding="utf-8")
        return job.settings.seed

    one = stage("one", make, reads=("seed",), files=("beside.txt",))
    two = stage("two", lambda job: job[one] + job.settings.batch, needs=(one,), reads=("batch",))
    lender = opened(tmp_path / "a")
    assert lender[two] == 32
    borrower = opened(tmp_path / "b", changed(batch=5), lenders=[tmp_path / "absent", tmp_path / "a"])
    assert borrower[two] == 5
    assert stage.made == ["two", "one", "two"] or stage.made == ["one", "two", "two"]
    assert (tmp_path / "b" / "beside.txt").read_text(encoding="utf-8") == "0"
    assert borrower.seconds(one) == lender.seconds(one)
    (tmp_path / "a" / "one.json").write_text("9", encoding="utf-8")
    assert opened(tmp_path / "b", changed(batch=5))[two] == 5, "it is a copy, and kept"
    assert opened(tmp_path / "c", lenders=[tmp_path / "a"])[one] == 0, "what was changed there is not taken"
    assert stage.made.count("one") == 2


def test_other_inputs_are_not_copied_and_a_reader_copies_nothing(tmp_path, stage):
    one = stage("one", lambda job: job.settings.seed, reads=("seed",))
    assert opened(tmp_path / "a")[one] == 0
    assert opened(tmp_path / "b", changed(seed=1), lenders=[tmp_path / "a"])[one] == 1
    opened(tmp_path / "c")
    with pytest.raises(RunFolderError, match="a worker does not find stage 'one'"):
        opened(tmp_path / "c", writable=False, lenders=[tmp_path / "a"])[one]
    assert stage.made == ["one", "one"]


def test_a_file_that_the_lender_left_out_does_not_stay(tmp_path, stage):
    def make(job: Job) -> int:
        if job.settings.seed:
            (job.folder / "extra.txt").write_text("x", encoding="utf-8")
        return 0

    one = stage("one", make, reads=("seed",), files=("extra.txt",))
    opened(tmp_path / "a").ensure(one)
    opened(tmp_path / "b", changed(seed=1)).ensure(one)
    assert (tmp_path / "b" / "extra.txt").exists()
    opened(tmp_path / "b", lenders=[tmp_path / "a"]).ensure(one)
    assert not (tmp_path / "b" / "extra.txt").exists()
    assert stage.made == ["one", "one"]
