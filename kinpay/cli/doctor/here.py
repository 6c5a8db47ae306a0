"""What can be seen without the database: Python, settings, secret, keyring, disk, file descriptors, the way people come in."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kinpay.cli.doctor.found import Found, ok, told, warning, wrong
from kinpay.server.secret_file import read_keys
from kinpay.server.settings import Settings, SettingsWrong, read_settings, unknown_names

OLDEST_PYTHON: Final = (3, 11)
FEW_FILES: Final = 1024
LITTLE_BYTES: Final = 2 << 30
TOO_LITTLE_BYTES: Final = 256 << 20


def look_at_python() -> Found:
    """The interpreter's version."""
    if sys.version_info < OLDEST_PYTHON:
        return wrong("Python", f"{platform.python_version()} is too old", "install Python 3.11 or newer")
    return ok("Python", platform.python_version())


def look_at_settings(environment: Mapping[str, str]) -> tuple[list[Found], Settings | None]:
    """Every problem of the configuration at once; the settings where there is none."""
    strange = [
        warning("settings", sentence, "unset it or spell it as `kinpay config` does") for sentence in unknown_names(environment)
    ]
    try:
        settings = read_settings(environment)
    except SettingsWrong as error:
        return [*strange, *(wrong("settings", problem, "see docs/configuration.md") for problem in error.problems)], None
    return [*strange, *_together(settings)], settings


def _together(settings: Settings) -> Iterator[Found]:
    if settings.code_channel is None:
        yield wrong("settings", "KINPAY_CODE_CHANNEL is empty, so nobody could sign in", "write command:… or webhook:https://…")
    elif settings.demo:
        yield warning("settings", "KINPAY_DEMO=1: this is a machine where nothing is real", "unset it before anything is")
    else:
        yield ok("settings", "readable and complete")


def look_at_secret(settings: Settings) -> Found:
    """The file of the root secrets: there, closed to others, readable; how many roots it has."""
    path = settings.secret_file
    if settings.embedded and not path.exists():
        return told("secret", f"{path} is not there yet; the first `kinpay serve` makes it")
    try:
        keys = read_keys(path, may_create=False)
    except SettingsWrong as error:
        return wrong("secret", error.problems[0], "a lost secret cannot be made anew: take it from where you keep it")
    owner = path.stat().st_uid
    if owner != os.geteuid():
        return warning(
            "secret", f"{path} belongs to account {owner}, not to this one ({os.geteuid()})", "chown it to who runs kinpay"
        )
    if len(keys.roots) > 1:
        return told("secret", f"{len(keys.roots)} roots: one in use, older ones accepted; keep them, see docs/operating.md")
    return ok("secret", f"one root, closed to others ({path})")


def look_at_keyring(settings: Settings) -> Found:
    """The folder of the templates' keys: its owner and mode."""
    folder = settings.keyring
    if not folder.exists():
        return told("keyring", f"{folder} is not there yet; the first start makes it")
    about = folder.stat()
    if not stat.S_ISDIR(about.st_mode):
        return wrong("keyring", f"{folder} is no folder", "move it away")
    if about.st_mode & 0o077:
        return wrong("keyring", f"others may enter {folder}", f"chmod 700 {folder}")
    if about.st_uid != os.geteuid():
        return wrong(
            "keyring", f"{folder} belongs to account {about.st_uid}, not to this one", "chown -R it to who runs kinpay"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return wrong("keyring", f"{folder} cannot be written to", "mount or own it so that it can")
    return ok("keyring", f"closed to others ({folder})")


def look_at_disk(settings: Settings) -> Found:
    """Room where this process writes."""
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    says = f"{free / (1 << 30):.1f} GiB free under {settings.home}"
    if free < TOO_LITTLE_BYTES:
        return wrong("disk", says, "make room: a database whose disk is full stops")
    if free < LITTLE_BYTES:
        return warning("disk", says, "make room before it runs out")
    return ok("disk", says)


def look_at_files() -> Found:
    """How many file descriptors a process started from here may have; every connection is one."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < FEW_FILES:
        return wrong("file descriptors", f"at most {most}", "ulimit -n 65536, or LimitNOFILE= in the service file")
    if most == FEW_FILES:
        return warning(
            "file descriptors", f"at most {most} (could be {hard}): so many tills and phones at once", "raise it for more"
        )
    return ok("file descriptors", f"at most {most}")


def look_at_the_way_in(settings: Settings) -> Iterator[Found]:
    """Whether what people type and scan is protected on its way."""
    about = "way in"
    url = settings.public_url
    if url is None:
        if settings.demo:
            yield told(about, "KINPAY_PUBLIC_URL is empty: phones find this server only on this machine")
        else:
            yield warning(
                about, "KINPAY_PUBLIC_URL is empty: QR codes would name this machine", "write https://…, as phones reach it"
            )
    elif urlsplit(url).scheme != "https" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        say = told if settings.demo else wrong
        yield say(about, f"{url} is not https: tokens and codes would travel readably", "put a reverse proxy with TLS in front")
    else:
        yield ok(about, url)
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        yield told(about, f"it listens on {settings.host}: only the reverse proxy should reach port {settings.port}")


def count_keys(folder: Path) -> int:
    """Keys in the keyring's folder."""
    return sum(1 for entry in os.scandir(folder) if entry.name.endswith(".key")) if folder.is_dir() else 0
