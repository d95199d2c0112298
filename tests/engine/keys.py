"""Ed25519 keys as the openssl command writes them: an implementation that is not the one in use."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Keys:
    """PEM files of a private key and of the public key to it."""

    private: Path
    public: Path


def openssl(*words: object) -> None:
    """Run the openssl command; a failure is an error."""
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def make_keys(folder: Path) -> Keys:
    """New keys in `folder`."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    keys = Keys(folder / "key.pem", folder / "key.pub.pem")
    openssl("genpkey", "-algorithm", "ed25519", "-out", keys.private)
    openssl("pkey", "-in", keys.private, "-pubout", "-out", keys.public)
    return keys
