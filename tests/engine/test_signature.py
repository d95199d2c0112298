"""Signatures of manifests: openssl verifies ours, and we verify openssl's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.keys import Keys, make_keys, openssl
from trt_mpq.engine.shipping import signing
from trt_mpq.engine.signature import require_signature, sign_manifest
from trt_mpq.errors import RunFolderError, SettingsError
from trt_mpq.types.observer import SilentObserver

CONTENT = b'{"engine_sha256": "0123"}'


def manifest_in(folder: Path) -> Path:
    manifest = folder / "engine" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_bytes(CONTENT)
    return manifest


def test_openssl_verifies_our_signature(tmp_path: Path, keys: Keys) -> None:
    manifest = manifest_in(tmp_path)
    signature = sign_manifest(manifest, keys.private)
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", keys.public, "-rawin", "-sigfile", signature, "-in", manifest)
    openssl(*verify)
    manifest.write_bytes(CONTENT.replace(b"0", b"1"))
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*verify)


def test_a_signature_of_openssl_is_verified(tmp_path: Path, keys: Keys) -> None:
    manifest = manifest_in(tmp_path)
    signature = manifest.with_name("manifest.json.sig")
    openssl("pkeyutl", "-sign", "-inkey", keys.private, "-rawin", "-in", manifest, "-out", signature)
    require_signature(CONTENT, manifest, keys.public)
    for content, key in ((CONTENT + b" ", keys.public), (CONTENT, make_keys(tmp_path).public)):
        with pytest.raises(RunFolderError, match="was not signed with the key to"):
            require_signature(content, manifest, key)


def test_a_run_is_signed_when_it_is_done_and_the_key_read_before(tmp_path: Path, keys: Keys) -> None:
    with signing(tmp_path, keys.private, SilentObserver()):
        manifest_in(tmp_path)
    require_signature(CONTENT, tmp_path / "engine" / "manifest.json", keys.public)

    with (
        pytest.raises(SettingsError, match="holds no private Ed25519 key"),
        signing(tmp_path, keys.public, SilentObserver()),
    ):
        pytest.fail("the work began before the key was read")


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_without_an_engine_is_not_said_to_be_signed(tmp_path: Path, keys: Keys) -> None:
    observer = Notes()
    with signing(tmp_path, keys.private, observer):
        pass
    assert observer.notes == [f"nothing is signed: there is no engine in {tmp_path}"]


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    manifest, key = manifest_in(tmp_path), tmp_path / "key"
    key.write_bytes(content)
    with pytest.raises(SettingsError, match="holds no private Ed25519 key without a passphrase: make one with"):
        sign_manifest(manifest, key)
    manifest.with_name("manifest.json.sig").write_bytes(bytes(64))
    with pytest.raises(SettingsError, match="holds no public Ed25519 key"):
        require_signature(CONTENT, manifest, key)
    with pytest.raises(SettingsError, match="absent cannot be read"):
        sign_manifest(manifest, tmp_path / "absent")


def test_other_kinds_of_keys_and_passphrases_are_refused(tmp_path: Path, keys: Keys) -> None:
    manifest = manifest_in(tmp_path)
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", tmp_path / "ec.pem")
    openssl("pkey", "-in", keys.private, "-aes256", "-passout", "pass:secret", "-out", tmp_path / "locked.pem")
    for key in ("ec.pem", "locked.pem"):
        with pytest.raises(SettingsError, match="holds no private Ed25519 key without a passphrase"):
            sign_manifest(manifest, tmp_path / key)
