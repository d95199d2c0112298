"""Functions of a Python program: named so that the same one is found again, and another is not taken for it."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from trt_mpq.api.functions import name_of_function
from trt_mpq.errors import SettingsError
from trt_mpq.runtime.user_code import UserCodeError, given_functions, import_user_function, title_of

Function = Callable[..., Any]


def top_level(outputs: Any, labels: Any) -> float:
    return 1.0


def cell(text: str, **known: Any) -> Function:
    """A function as a notebook defines it: its module has no file."""
    module = types.ModuleType("__main__")
    vars(module).update(known, np=np)
    exec(text, vars(module))
    function: Function = module.score  # type: ignore[attr-defined]
    return function


def afresh(function: Function) -> str:
    """The name in a process that has not seen the function."""
    before = dict(given_functions())
    name = name_of_function(function)
    for added in set(given_functions()) - set(before):
        del given_functions()[added]  # type: ignore[attr-defined]
    return name


def test_what_can_be_imported_is_called_as_on_the_command_line() -> None:
    name = name_of_function(top_level)
    assert name == f"{top_level.__module__}:top_level"
    assert import_user_function(name, "") is top_level


def test_others_are_kept_under_their_own_name() -> None:
    own = lambda outputs, labels: 0.5  # noqa: E731
    name = name_of_function(own)
    assert name == name_of_function(own)
    assert import_user_function(name, "") is own
    assert title_of(name_of_function(cell("def score(o, l): return 1.0"))) == "score"
    assert title_of("module:function") == "module:function"


SCORE = "def score(outputs, labels):\n    return helper(outputs['y'], SCALE)"
HELPER = "def score(value, scale):\n    return np.mean(value) * scale"


def test_the_same_cell_run_again_is_the_same_function() -> None:
    def made() -> Function:
        return cell(SCORE, helper=cell(HELPER), SCALE=2.0)

    assert afresh(made()) == afresh(made())
    assert afresh(partial(made(), scale=1)) == afresh(partial(made(), scale=1))


@pytest.mark.parametrize(
    "other",
    [
        cell(SCORE.replace("'y'", "'z'"), helper=cell(HELPER), SCALE=2.0),
        cell(SCORE, helper=cell(HELPER), SCALE=3.0),
        cell(SCORE, helper=cell(HELPER.replace("mean", "sum")), SCALE=2.0),
        cell(SCORE, helper=np.mean, SCALE=2.0),
        cell(SCORE, helper=cell(HELPER), SCALE=np.ones(3)),
        partial(cell(SCORE, helper=cell(HELPER), SCALE=2.0), labels=None),
    ],
    ids=["code", "value", "helper", "library", "array", "argument"],
)
def test_whatever_it_computes_by_makes_another(other: Function) -> None:
    assert afresh(other) != afresh(cell(SCORE, helper=cell(HELPER), SCALE=2.0))


def test_functions_that_call_themselves_have_an_end() -> None:
    made = cell("def score(n): return 1 if n == 0 else score(n - 1)")
    assert afresh(made) == afresh(cell("def score(n): return 1 if n == 0 else score(n - 1)"))


def test_closures_count_by_what_they_hold() -> None:
    def closing(held: object) -> Function:
        return lambda outputs, labels: held

    assert afresh(closing(1)) == afresh(closing(1))
    assert afresh(closing(1)) != afresh(closing(2))
    assert afresh(closing(object())) != afresh(closing(object())), "what cannot be told is never taken for the same"


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(SettingsError, match="type int for a metric"):
        name_of_function(3)  # type: ignore[arg-type]
    with pytest.raises(UserCodeError, match="no other process knows"):
        import_user_function("session:gone_123456789abc", "")
