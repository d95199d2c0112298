"""What a user asks for: one validated value, from the command line, a job file, or a run folder."""

from __future__ import annotations

from trt_mpq.settings.engine_options import EngineOptions
from trt_mpq.settings.option import Option
from trt_mpq.settings.options import Settings
from trt_mpq.settings.reading import fields_from_job, overridden, settings_from

__all__ = ["EngineOptions", "Option", "Settings", "fields_from_job", "overridden", "settings_from"]
