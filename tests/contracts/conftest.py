"""What the contract tests share: the real bindings, and the type checker's verdict per TensorRT version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.bindings import BindingUnavailableError, binding, wheel_of
from tests.contracts.facts import RECORDED, VERSIONS
from tests.contracts.typecheck import Verdict, check_all


@pytest.fixture(scope="session")
def binding_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that outlives the session, where pytest keeps one."""
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        return Path(pytestconfig.cache.mkdir("tensorrt-bindings"))
    return tmp_path_factory.mktemp("tensorrt-bindings")


@pytest.fixture(scope="session", params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> str:
    """A version whose real binding can be imported here."""
    return str(request.param)


@pytest.fixture(scope="session")
def dumped(recorded: str, binding_cache: Path) -> dict[str, Any]:
    """The whole API of a real binding."""
    try:
        return binding(wheel_of(recorded), binding_cache).dump()
    except BindingUnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each TensorRT the product supports."""
    return str(request.param)


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """What mypy says about the stubs, the sample and the product's code, by version."""
    return check_all(tmp_path_factory.mktemp("stubs"))


@pytest.fixture
def verdict(verdicts: dict[str, Verdict], version: str) -> Verdict:
    """What mypy says with the stubs of one version."""
    return verdicts[version]
