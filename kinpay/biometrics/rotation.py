"""The secret rotation of an operator's vectors: other operators' templates of the same person cannot be linked to theirs, and
after a leak every template is made worthless to whoever has it without asking anybody to come and be enrolled again.

A rotation changes no angle, so no score. It is no encryption: who holds some 200 pairs of plain and rotated vectors knows it
(measured, docs/decisions/0014). Templates are encrypted besides.

Which version is in use says the database; the seeds lie in the keyring's folder, sealed by the server's keys.
"""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from kinpay.biometrics.vectors import Vector, unit
from kinpay.primitives.errors import KinpayError
from kinpay.primitives.ids import is_id, new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken, ServerKeys, derive

_PURPOSE: Final = "biometric-rotation-seed"
_SUFFIX: Final = ".seed"
_KEPT_MATRICES: Final = 16

Matrix = NDArray[np.float64]


class RotationGone(KinpayError):
    """The seed was forgotten, or this server has another keyring: what it rotated cannot be compared any more."""

    code = "rotation-gone"


def matrix_of(seed: Sealed[bytes], *, model_id: str, dimension: int) -> Matrix:
    """The rotation that a seed means for one model: orthogonal, and the same for ever and on every machine.

    Normal numbers from a keystream of our own (a library's generator may change with its version), then Householder's QR
    with the signs of R made positive: uniform over all rotations and reflections. Source: Mezzadri 2007, §5.
    """
    key = derive(seed.open(), f"rotation\n{model_id}\n{dimension}")
    count = dimension * dimension
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(16 * count))
    drawn = np.frombuffer(stream, dtype="<u8").astype(np.float64)
    above_zero, angle = (drawn[:count] + 1.0) / 2.0**64, drawn[count:] * (2.0 * np.pi / 2.0**64)
    normal = np.sqrt(-2.0 * np.log(above_zero)) * np.cos(angle)
    q, r = np.linalg.qr(normal.reshape(dimension, dimension))
    made: Matrix = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return made


def turn(matrix: Matrix, vector: Vector) -> Vector:
    """Rotates; the length stays 1."""
    return unit((matrix @ np.asarray(vector, dtype=np.float64)).astype(np.float32))


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A seed's file."""

    version: int
    seed: str


class Rotations:
    """The seeds of every operator, one file a version, and the matrices made from them (in memory, the latest few)."""

    def __init__(self, folder: Path, keys: ServerKeys) -> None:
        self._folder = folder
        self._keys = keys
        self._made: dict[tuple[str, int, str, int], Matrix] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Rotations(…)"

    async def begin(self, operator_id: str, version: int) -> None:
        """Makes and keeps the seed of a version; one that is there already stays (its transaction was tried again)."""
        await asyncio.to_thread(self._begin, operator_id, version)

    async def forget(self, operator_id: str, version: int) -> bool:
        """Removes a seed for good; False if it was gone already."""
        return await asyncio.to_thread(self._forget, operator_id, version)

    async def wrap_anew(self) -> int:
        """Seals every seed under the server's newest root; returns how many."""
        return await asyncio.to_thread(self._wrap_anew)

    async def matrix(self, operator_id: str, version: int, *, model_id: str, dimension: int) -> Matrix:
        """The rotation. Raises: RotationGone; SealBroken."""
        return await asyncio.to_thread(self.matrix_now, operator_id, version, model_id=model_id, dimension=dimension)

    def matrix_now(self, operator_id: str, version: int, *, model_id: str, dimension: int) -> Matrix:
        """`matrix`, for a thread that may wait. Raises: RotationGone; SealBroken."""
        key = (operator_id, version, model_id, dimension)
        with self._lock:
            found = self._made.pop(key, None)
            if found is None:
                found = matrix_of(self._seed(operator_id, version), model_id=model_id, dimension=dimension)
            self._made[key] = found
            while len(self._made) > _KEPT_MATRICES:
                self._made.pop(next(iter(self._made)))
        return found

    def _path(self, operator_id: str, version: int) -> Path:
        if not is_id(operator_id) or version < 1:
            raise ValueError("an operator's id and a version from 1 on")
        return self._folder / f"{operator_id}.{version}{_SUFFIX}"

    def _seed(self, operator_id: str, version: int) -> Sealed[bytes]:
        path = self._path(operator_id, version)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            raise RotationGone(operator_id=operator_id, version=version) from None
        except msgspec.DecodeError:
            raise SealBroken(purpose=_PURPOSE) from None
        bound_to = f"{operator_id}\n{version}"
        return Sealed(self._keys.unseal(base64.b64decode(kept.seed), purpose=_PURPOSE, bound_to=bound_to))

    def _write(self, path: Path, seed: Sealed[bytes], *, bound_to: str) -> None:
        sealed = self._keys.seal(seed.open(), purpose=_PURPOSE, bound_to=bound_to)
        beside = path.parent / f".{path.name}.{new_id()}.new"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_Kept(1, base64.b64encode(sealed).decode())))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)  # Fails where another process was first; its seed stands.
        finally:
            beside.unlink()
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _begin(self, operator_id: str, version: int) -> None:
        path = self._path(operator_id, version)
        if path.exists():
            return
        try:
            self._write(path, Sealed(os.urandom(32)), bound_to=f"{operator_id}\n{version}")
        except FileExistsError:
            return

    def _forget(self, operator_id: str, version: int) -> bool:
        with self._lock:
            for key in [key for key in self._made if key[:2] == (operator_id, version)]:
                del self._made[key]
            try:
                self._path(operator_id, version).unlink()
            except FileNotFoundError:
                return False
        self._sync()
        return True

    @staticmethod
    def kept_in(folder: Path) -> frozenset[tuple[str, int]]:
        """Operator and version of every seed that lies in `folder`."""
        parts = (path.name.removesuffix(_SUFFIX).partition(".") for path in folder.glob(f"*{_SUFFIX}"))
        return frozenset((name, int(number)) for name, _, number in parts if is_id(name) and number.isdigit())

    def _wrap_anew(self) -> int:
        count, newest = 0, ServerKeys(self._keys.roots[:1])
        for operator_id, number in sorted(self.kept_in(self._folder)):
            path, seed = self._path(operator_id, number), self._seed(operator_id, number)
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
                newest.unseal(base64.b64decode(kept.seed), purpose=_PURPOSE, bound_to=f"{operator_id}\n{number}")
            except SealBroken:
                count += 1
                self._replace(path, seed, bound_to=f"{operator_id}\n{number}")
        return count

    def _replace(self, path: Path, seed: Sealed[bytes], *, bound_to: str) -> None:
        aside = path.parent / f".{path.name}.{new_id()}.seed-new"
        self._write(aside, seed, bound_to=bound_to)
        os.replace(aside, path)
        self._sync()
