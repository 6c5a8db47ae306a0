"""The server's own keys, all derived from one root secret (HKDF-SHA256), with older roots still accepted after a rotation.

Source: RFC 5869 (HKDF), NIST SP 800-38D (AES-GCM).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kinpay.primitives.errors import KinpayError
from kinpay.primitives.sealed import Sealed

_NONCE: Final = 12


class SealBroken(KinpayError):
    """A sealed value does not open with any of our roots, or was sealed for another purpose."""

    code = "seal-broken"


def derive(root: bytes, purpose: str, size: int = 32) -> bytes:
    """A key of `size` bytes for one purpose."""
    return HKDF(SHA256(), size, salt=b"kinpay", info=purpose.encode()).derive(root)


def _framed(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """`roots`: 32 random bytes each; the first makes, all are accepted."""

    roots: tuple[Sealed[bytes], ...]

    @classmethod
    def of(cls, roots: Sequence[bytes]) -> ServerKeys:
        """From raw roots, newest first. Raises: ValueError for none or a short one."""
        if not roots or any(len(root) < 32 for root in roots):
            raise ValueError("at least one root of 32 bytes")
        return cls(tuple(Sealed(root) for root in roots))

    def key(self, purpose: str) -> bytes:
        """The current key for `purpose`."""
        return derive(self.roots[0].open(), purpose)

    def all_keys(self, purpose: str) -> tuple[bytes, ...]:
        """The current key for `purpose` and those of older roots."""
        return tuple(derive(root.open(), purpose) for root in self.roots)

    def mac(self, purpose: str, *parts: bytes) -> bytes:
        """HMAC-SHA256 over length-prefixed `parts`: for peppered hashes of codes, PINs and fingerprints."""
        return hmac.new(self.key(purpose), _framed(parts), hashlib.sha256).digest()

    def macs(self, purpose: str, *parts: bytes) -> tuple[bytes, ...]:
        """`mac` under the current key and under those of older roots: for what is kept longer than a root."""
        message = _framed(parts)
        return tuple(hmac.new(key, message, hashlib.sha256).digest() for key in self.all_keys(purpose))

    def seal(self, plain: bytes, *, purpose: str, bound_to: str) -> bytes:
        """Encrypts for a database column; `bound_to` (a row's id) keeps a value from being moved to another row."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.key(purpose)).encrypt(nonce, plain, bound_to.encode())

    def unseal(self, sealed: bytes, *, purpose: str, bound_to: str) -> bytes:
        """The inverse of `seal`. Raises: SealBroken."""
        for key in self.all_keys(purpose):
            try:
                return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to.encode())
            except InvalidTag:
                continue
        raise SealBroken(purpose=purpose)

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs audit checkpoints."""
        return Ed25519PrivateKey.from_private_bytes(self.key("checkpoint"))
