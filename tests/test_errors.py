"""What is said of packages that are not installed works where this product is on no package index."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from trt_mpq.errors import install_command, missing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def declared(extra: str) -> set[str]:
    """Names of the packages of an extra, those of extras in it too."""
    names: set[str] = set()
    for requirement in map(Requirement, EXTRAS[extra]):
        names |= set.union(*map(declared, requirement.extras)) if requirement.name == "trt-mpq" else {requirement.name}
    return names


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra != "dev"])
def test_an_extra_is_installed_by_the_names_of_its_packages(extra: str) -> None:
    command = install_command(extra)
    assert "trt-mpq" not in command
    if "'.[" in command:
        pytest.skip(f"what is installed was made before the extra {extra}")
    assert {Requirement(text).name for text in re.findall(r"'(.*?)'", command)} == declared(extra)


def test_one_package_is_installed_alone() -> None:
    assert install_command("cuda", "nvidia-ml-py") == "pip install 'nvidia-ml-py>=12.535'"
    assert install_command("", "onnx") == "pip install 'onnx>=1.18'"
    assert install_command("torch", upgrade=True).startswith("pip install --upgrade 'torch")


def test_what_metadata_does_not_know_comes_from_a_checkout() -> None:
    assert install_command("none") == "pip install '.[none]'"
    assert "speaking needs it: run `pip install '.[none]'`" in str(missing("x", "speaking", "none"))


def test_no_text_names_an_extra_of_a_package_that_no_index_has() -> None:
    root = Path(__file__).parents[1]
    files = [*root.glob("trt_mpq/**/*.py"), *root.glob("docs/*.md"), *root.glob("*.md"), *root.glob("calib/*.md")]
    said = [str(file) for file in files if re.search(r"pip install\s+'?trt-mpq", file.read_text(encoding="utf-8"))]
    assert said == []
