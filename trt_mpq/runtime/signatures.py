"""Detached Ed25519 signatures (RFC 8032), keys in PEM files as `openssl genpkey -algorithm ed25519` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trt_mpq.errors import SettingsError, missing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_Key = TypeVar("_Key")


def signature_of(content: bytes, key: Path) -> bytes:
    """The signature of `content`, 64 bytes, by the private key in the PEM file `key`.

    Raises:
        SettingsError: `key` holds no private Ed25519 key without a passphrase.
        MissingDependencyError: cryptography is not installed.
    """
    return private_key(key).sign(content)


def is_signed(content: bytes, signature: bytes, key: Path) -> bool:
    """Whether `signature` is that of `content` by the private key to the public key in the PEM file `key`.

    Raises:
        SettingsError: `key` holds no public Ed25519 key.
        MissingDependencyError: cryptography is not installed.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        public_key(key).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def private_key(file: Path) -> Ed25519PrivateKey:
    """The private key to sign with; raises as `signature_of`."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    def load(content: bytes) -> Ed25519PrivateKey:
        key = load_pem_private_key(content, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError(type(key))
        return key

    return _read(
        file,
        load,
        "private Ed25519 key without a passphrase: make one with `openssl genpkey -algorithm ed25519 -out KEY`",
    )


def public_key(file: Path) -> Ed25519PublicKey:
    """The public key to verify with; raises as `is_signed`."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    def load(content: bytes) -> Ed25519PublicKey:
        key = load_pem_public_key(content)
        if not isinstance(key, Ed25519PublicKey):
            raise TypeError(type(key))
        return key

    return _read(
        file, load, "public Ed25519 key: `openssl pkey -in PRIVATE_KEY -pubout -out KEY` writes that of a private one"
    )


def _read(file: Path, load: Callable[[bytes], _Key], meant: str) -> _Key:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"the key {file} cannot be read ({error.strerror}): check its path") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{file} holds no {meant}") from error


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise missing("cryptography", "signing", "signing") from error
