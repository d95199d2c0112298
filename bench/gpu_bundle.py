"""One folder that takes the GPU tests and the GPU benchmark to a host without network.

    python -m bench.gpu_bundle OUT --prepared FOLDER [--python 3.10] [--wheel TENSORRT.whl --wheel PYCUDA.whl ...]

On the host: copy OUT there and run `OUT/run.sh PYTHON`, where PYTHON is an interpreter of that version. TensorRT and
pycuda come from `--wheel`, or else from a Python whose site packages already have them. Wheels that are given so are
installed without their dependencies: what their libraries link must be on the host (LD_LIBRARY_PATH), or be given too.
Results are in OUT/results.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from bench.gpu_prepare import CACHE, SUBJECTS
from trt_mpq.artifacts.store import MANIFEST
from trt_mpq.engine.handover import DESCRIBED, SEARCHED, read_network, read_searched
from trt_mpq.errors import DataError, TrtMpqError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "bench/__init__.py", "bench/networks.py", "bench/real.py", "tests/__init__.py", "tests/networks.py",
    "tests/runs.py", "pyproject.toml",
)  # fmt: skip
"""What the benchmark and the tests need beside `bench/gpu*.py` and `tests/gpu`; the product comes as a wheel.

The suite's own conftest.py stays behind: it pretends GPUs.
"""
TEST_PACKAGES = ("pytest", "pytest-randomly", "hypothesis")
BACKPORTS = ("exceptiongroup", "tomli", "typing-extensions")
"""What only older Pythons need: pip picks versions for the host, but conditions hold for the Python it runs on."""
CUDA_PACKAGES = ("mako", "platformdirs", "pytools", "nvidia-ml-py")
"""What pycuda needs, and the library that reads the GPU's clocks: in the bundle with or without pycuda itself."""

RUN_FILE = "run.sh"
RUN = """\
#!/usr/bin/env bash
# run.sh [PYTHON] [ARGUMENTS OF `bench.gpu measure`]: installs offline into venv/, then the GPU tests and the benchmark.
# Stopped at any moment, the same command goes on where it was. Results: results/*.json.
set -euo pipefail
cd "$(dirname "$0")"
python=${1:-python%(python)s}
[ $# -eq 0 ] || shift
if [ ! -e venv/.complete ]; then
  "$python" -m venv --system-site-packages venv
  venv/bin/python -m pip install --quiet --no-index --find-links wheels %(packages)s
%(extra)s  touch venv/.complete
fi
venv/bin/python -m bench.gpu platform   # ends here, in one sentence, where there is no GPU or no TensorRT
venv/bin/python -m pytest -m gpu tests/gpu && tested=0 || tested=$?
venv/bin/python -m bench.gpu measure prepared --results results "$@"
exit "$tested"
"""


def bundle(out: Path, prepared: Path, python: str, wheels: list[Path]) -> None:
    """Make the folder `out`.

    Args:
        out: The folder; what an earlier call put there is replaced.
        prepared: What `python -m bench.gpu prepare` wrote.
        python: Version of the Python of the host, such as 3.10.
        wheels: Further wheels to install there, such as TensorRT's and pycuda's.

    Raises:
        DataError: A wheel is absent, or nothing is prepared.
        RunFolderError: A prepared folder is damaged.
    """
    absent = [str(path) for path in wheels if not path.is_file()]
    if absent:
        raise DataError(f"there is no wheel {absent[0]}")
    names = [name for name in SUBJECTS if (prepared / name / SEARCHED.written[0]).is_file()]
    if not names:
        raise DataError(f"{prepared} holds no prepared network: run `python -m bench.gpu prepare {prepared}` first")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        _copy_prepared(prepared / name, out / "prepared" / name)
    _copy_sources(out)
    _collect_wheels(out / "wheels", python, wheels)
    run = out / RUN_FILE
    run.write_text(_script(python, wheels), encoding="utf-8")
    run.chmod(0o755)


def _script(python: str, wheels: list[Path]) -> str:
    # Given wheels are installed without what they ask for: TensorRT 8.6 asks for 1.3 GB of libraries it need not use.
    given = " ".join(f"wheels/{path.name}" for path in wheels)
    return RUN % {
        "python": python,
        "packages": " ".join(("trt-mpq", *TEST_PACKAGES, *CUDA_PACKAGES)),
        "extra": f"  venv/bin/python -m pip install --quiet --no-index --no-deps {given}\n" if wheels else "",
    }


def _copy_prepared(source: Path, destination: Path) -> None:
    """Of a run folder only what its device half reads."""
    destination.mkdir(parents=True, exist_ok=True)
    described = read_network(source)
    models = {described.model.path, described.original.path}
    kept = [MANIFEST, *DESCRIBED.written, *SEARCHED.written, *read_searched(source).files]
    wanted = [*kept, *models, *(f"{model}.data" for model in models)]
    for name in wanted:
        if (source / name).exists():
            shutil.copy2(source / name, destination / name)


def _copy_sources(out: Path) -> None:
    if (out / RUN_FILE).is_file():  # a bundle: what was left out since must not stay
        for name in ("bench", "tests"):
            shutil.rmtree(out / name, ignore_errors=True)
    files = [*SOURCES, *(str(path.relative_to(ROOT)) for path in (ROOT / "bench").glob("gpu*.py"))]
    files += [str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "gpu").glob("*.py")]
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, out / name)


def _collect_wheels(folder: Path, python: str, extra: list[Path]) -> None:
    """The project's wheel, those of everything it needs on that Python, and `extra`."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("trt_mpq-*.whl"):
        old.unlink()
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (own,) = folder.glob("trt_mpq-*.whl")
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + [
        "--platform=manylinux2014_x86_64"
    ]
    _pip(
        "download", "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms,
        "--dest", str(folder), str(own), *TEST_PACKAGES, *BACKPORTS, *CUDA_PACKAGES,
    )  # fmt: skip
    for path in extra:
        shutil.copy2(path, folder / path.name)


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DataError(f"pip {arguments[0]} failed: {done.stderr.strip().splitlines()[-1]}")


def main() -> None:
    """Make the folder and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", type=Path, default=CACHE / "prepared")
    parser.add_argument("--python", default="3.10", help="Python of the host; TensorRT 8.6.0 has wheels for 3.10 only")
    parser.add_argument("--wheel", type=Path, action="append", default=[], help="a further wheel to install there")
    given = parser.parse_args()
    try:
        bundle(given.out, given.prepared, given.python, given.wheel)
    except TrtMpqError as error:
        sys.exit(f"bench.gpu_bundle: {error}")
    size = sum(path.stat().st_size for path in given.out.rglob("*") if path.is_file())
    print(f"{given.out}: {size / 1e6:.0f} MB; copy it to the host and run {given.out.name}/run.sh there")


if __name__ == "__main__":
    main()
