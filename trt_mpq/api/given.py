"""What a Python program gives, brought into the run folder, and the run opened there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from trt_mpq.api.data import Expected, arrays_from, is_data
from trt_mpq.api.functions import name_of_function
from trt_mpq.api.models import (
    GIVEN,
    expected_by_file,
    expected_by_module,
    exported_module,
    is_file,
    is_torch_module,
    named_source,
    written_proto,
)
from trt_mpq.api.opening import check_early, fields_from_source, open_build
from trt_mpq.api.options import DATA, Given, settings_given
from trt_mpq.artifacts.files import write_arrays
from trt_mpq.artifacts.folder import make_folder
from trt_mpq.artifacts.store import opened_folder
from trt_mpq.export import ExportOptions
from trt_mpq.model import model_digest

if TYPE_CHECKING:
    from trt_mpq.pipeline.devices import DevicesRun
    from trt_mpq.pipeline.run import Run
    from trt_mpq.runtime.base import Array
    from trt_mpq.types import Observer

_LONGEST = 80
"""Characters of an argument that is recorded as it was given."""


def opened_run(model: object, given: Given, folder: Path, observer: Observer) -> Run | DevicesRun:
    """The run in `folder` that does what the arguments say, of several devices one each.

    Settings are checked before any work.

    Raises:
        TrtMpqError: The model, the data or a setting cannot be used.
    """
    return _Opening(model, given, folder, observer).run()


class _Opening:
    def __init__(self, model: object, given: Given, folder: Path, observer: Observer) -> None:
        self._model, self._given, self._folder, self._observer = model, given, folder, observer
        self._fields = settings_given(given)
        self._options = given.get("export") or ExportOptions()
        self._arrays: dict[str, dict[str, Array]] = {}

    def run(self) -> Run | DevicesRun:
        """The run, opened."""
        said = f"trt_mpq.build({', '.join(self._words())})"
        data = {name: self._fields.pop(name) for name in DATA if is_data(self._fields.get(name))}
        if not isinstance(metric := self._fields.get("metric", ""), str):
            self._fields["metric"] = name_of_function(metric)
        check_early(self._fields, "trt_mpq")
        source, expected = self._source(data)
        for name in data:
            self._fields[name] = str(self._kept(name, self._read(name, data, expected)))
        trust = self._given.get("trust", False)
        return open_build(source, self._fields, self._folder, self._observer, trust=trust, command=said)

    def _source(self, data: dict[str, Any]) -> tuple[Path, Callable[[], Expected]]:
        """The model as a name that settings can say, and what it takes, which is asked only where it matters."""
        if is_torch_module(self._model):
            examples = self._given.get("example_inputs")
            takes = expected_by_module(self._model, examples)
            arrays = self._read("calib", data, lambda: takes) if "calib" in data else None
            path = exported_module(self._model, examples, arrays, self._folder, self._options, self._observer)
        elif isinstance(self._model, onnx.ModelProto):
            path = written_proto(self._model, self._folder)
        else:
            path = named_source(self._model)
            if not is_file(path):
                return path, lambda: self._expected_by_name(path, data)
        if data:
            opened_folder(self._folder, model_digest(path) if path.is_file() else "")
        return path, lambda: expected_by_file(path)

    def _expected_by_name(self, source: Path, data: dict[str, Any]) -> Expected:
        """What a job's model or a torch source takes, which is exported for it unless all data goes by name."""
        if all(isinstance(value, Mapping) for value in data.values()):
            return Expected((), 0)
        return expected_by_file(Path(fields_from_source(source, self._fields, self._folder, self._observer)["model"]))

    def _read(self, name: str, data: dict[str, Any], expected: Callable[[], Expected]) -> dict[str, Array]:
        """The arrays of `data[name]`, read once."""
        if name not in self._arrays:
            limit = self._given.get("calib_samples" if name == "calib" else "eval_samples")
            limit = limit if isinstance(limit, int) and name != "holdout" else None
            self._arrays[name] = arrays_from(data[name], expected(), f"{name}=", limit)
        return self._arrays[name]

    def _kept(self, name: str, arrays: dict[str, Array]) -> Path:
        opened_folder(self._folder)
        make_folder(self._folder / GIVEN)
        path = self._folder / GIVEN / f"{name}.npz"
        write_arrays(arrays, path)
        return path

    def _words(self) -> Iterator[str]:
        """The call as it is recorded; what is no name or number is said by its type."""
        yield _said(self._model)
        yield from (f"{name}={_said(value)}" for name, value in self._given.items() if value is not None)


def _said(value: object) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    plain = isinstance(value, str | int | float | bool | tuple | list | dict) and len(repr(value)) < _LONGEST
    return repr(value) if plain else getattr(value, "__name__", f"<{type(value).__name__}>")
