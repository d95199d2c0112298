"""The signature of an engine's manifest: who vouches for an engine, for the network and for the plugins it names.

The manifest holds the digests of the rest, so that its bytes are all that is signed.
"""

from __future__ import annotations

from pathlib import Path

from trt_mpq.artifacts.files import atomic_path
from trt_mpq.errors import RunFolderError
from trt_mpq.runtime.signatures import is_signed, signature_of


def signature_file(manifest: Path) -> Path:
    """Where the signature of a manifest lies: beside it."""
    return manifest.with_name(f"{manifest.name}.sig")


def sign_manifest(manifest: Path, key: Path) -> Path:
    """Sign `manifest` with the private key in the PEM file `key`; the result is the file that holds the signature.

    Raises:
        SettingsError: `key` holds no private Ed25519 key.
        RunFolderError: The manifest cannot be read or its signature not be written.
    """
    try:
        content = manifest.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{manifest} cannot be read ({error.strerror}): make it readable") from error
    with atomic_path(signature_file(manifest)) as path:
        path.write_bytes(signature_of(content, key))
    return signature_file(manifest)


def require_signature(content: bytes, manifest: Path, key: Path) -> None:
    """Check that `content`, which was read from `manifest`, was signed by the owner of the public key in `key`.

    Raises:
        SettingsError: `key` holds no public Ed25519 key.
        RunFolderError: There is no signature, or it is not the one of `content` and `key`.
    """
    file = signature_file(manifest)
    try:
        signature = file.read_bytes()
    except OSError as error:
        raise RunFolderError(
            f"{manifest} is not signed ({file.name}: {error.strerror}): let its maker sign it with "
            "`trt-mpq engine RUN_DIR --sign KEY`"
        ) from error
    if not is_signed(content, signature, key):
        raise RunFolderError(
            f"{manifest} was not signed with the key to {key}, or was changed since: do not use the engine beside it"
        )
