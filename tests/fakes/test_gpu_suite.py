"""The suite for GPU hosts, on a pretended GPU: it must not fail there for a mistake of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.fixtures import PretendGpu

SUITE = Path(__file__).parents[1] / "gpu"


def test_the_suite_passes_on_its_small_network(pretend_gpu: PretendGpu) -> None:
    pretend_gpu("10.16")  # the version that knows both typings
    options = ["-q", "-m", "gpu", "-k", "small", "-p", "no:cacheprovider", "-p", "no:randomly"]
    assert pytest.main([*options, str(SUITE)]) is pytest.ExitCode.OK
