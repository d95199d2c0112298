"""A virtual environment per peer, at pinned versions, made once; a failed attempt is remembered with pip's error."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""torch without its gigabytes of CUDA packages, as everywhere in this repository."""


class InstallationError(Exception):
    """A peer cannot be installed here; the message is pip's own."""


@dataclass(frozen=True)
class Environment:
    """Where a peer lives.

    Attributes:
        folder: The virtual environment; `<folder>.json` says what was asked for, and how it ended.
        requirements: What pip installs, pinned.
    """

    folder: Path
    requirements: tuple[str, ...]

    def python(self) -> Path:
        """The interpreter of the environment, which is made if it is not there yet.

        Raises:
            InstallationError: pip could not install the requirements, now or at the last attempt.
        """
        record = self._record()
        if record is None:
            record = self._make()
        if record["failure"] is not None:
            raise InstallationError(record["failure"])
        return self._python

    @property
    def _record_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.json")

    def _record(self) -> dict[str, str | None] | None:
        """How the last attempt at these requirements ended, if there was one."""
        if not self._record_file.exists():
            return None
        content = json.loads(self._record_file.read_text(encoding="utf-8"))
        same = content["requirements"] == list(self.requirements)
        return {"failure": content["failure"]} if same else None

    def _make(self) -> dict[str, str | None]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.folder)], check=True)
        pip = [str(self._python), "-m", "pip", "--disable-pip-version-check"]
        installed = subprocess.run(
            [*pip, "install", "--quiet", "--constraint", str(CONSTRAINTS), *self.requirements],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        failure = pip_error(installed.stderr) if installed.returncode else None
        frozen = subprocess.run([*pip, "freeze"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        content = {"requirements": list(self.requirements), "failure": failure, "installed": frozen}
        self._record_file.write_text(json.dumps(content, indent=2), encoding="utf-8")
        return {"failure": failure}

    @property
    def _python(self) -> Path:
        return self.folder / "bin" / "python"


def pip_error(text: str) -> str:
    """What pip says went wrong: its last line that begins with ERROR, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip failed without a word"])[-1]
