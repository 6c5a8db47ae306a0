"""The one place of configuration: every setting's name, meaning and default, read and checked once, at the start.

`docs/configuration.md` and `kinpay config` are made from the table below.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from kinpay.biometrics.matcher import REFERENCE
from kinpay.faces.registry import DEFAULT_FACE_MODEL, FACE_MODELS
from kinpay.people.channel import Channel, channel_of
from kinpay.primitives.sealed import Sealed
from kinpay.server import readers
from kinpay.webhooks.address import Network

PREFIX: Final = "KINPAY_"
CONFIG: Final = "KINPAY_CONFIG"


class SettingsWrong(Exception):
    """One line for each thing that is wrong with the configuration, and what to write instead."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process was told, complete and checked. Field by field as in the table `SETTINGS`."""

    home: Path
    database_url: str | None
    secret_file: Path
    keyring: Path
    host: str
    port: int
    public_url: str | None
    code_channel: str | None
    code_webhook_secret: Sealed[bytes] | None
    demo: bool
    worker: Literal["inside", "apart"]
    max_connections: int
    provider_timeout_s: float
    metrics_listen: readers.Place | None
    metrics_token: Sealed[bytes] | None
    webhook_http: bool
    webhook_networks: tuple[Network, ...]
    models: Path
    face_model: str
    gallery: Literal["numpy", "pgvector", "auto"]
    gallery_large: int
    face_bound: float
    face_reference: tuple[readers.Reference, ...]
    face_threads: int
    terminal_templates: bool
    log_level: str

    @property
    def embedded(self) -> bool:
        """Whether the database is our own, under `home`."""
        return self.database_url is None

    def with_texts(self, given: Mapping[str, str]) -> Settings:
        """These settings with some fields read anew from text (a command line's). Raises: SettingsWrong."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in SETTINGS:
            if setting.field in given:
                try:
                    values[setting.field] = setting.read(given[setting.field])
                except ValueError as error:
                    problems.append(f"--{setting.field}: {error} (it is {given[setting.field]!r}).")
        if problems:
            raise SettingsWrong(problems)
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry: `field` of `Settings`, `default` as one would write it, `read` from text (ValueError with the reason)."""

    field: str
    meaning: str
    default: str
    read: Callable[[str], Any]
    secret: bool = False

    @property
    def name(self) -> str:
        """The environment variable."""
        return PREFIX + self.field.upper()


def _default_home() -> str:
    return "/var/lib/kinpay" if os.geteuid() == 0 else "~/.local/share/kinpay"


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "home",
        "The folder of the embedded database, the secret and the keyring. For root it is `/var/lib/kinpay`.",
        "~/.local/share/kinpay",
        readers.path,
    ),
    Setting(
        "database_url",
        "The PostgreSQL (15 or later) to use, `postgresql://…`. Empty: an embedded one, started under `KINPAY_HOME`.",
        "",
        readers.database_url,
        secret=True,
    ),
    Setting(
        "secret_file",
        "The server's root secrets, one base64 line of 32 bytes each, newest first; older ones are still accepted. Made "
        "(readable by its owner only) at the first start with the embedded database; with another database it has to be there.",
        "$KINPAY_HOME/secret",
        readers.path,
    ),
    Setting(
        "keyring",
        "The folder of the templates' wrapped keys, one a template. Keep it out of the database's backups: destroying a key "
        "there is what makes a template unreadable for ever.",
        "$KINPAY_HOME/keyring",
        readers.path,
    ),
    Setting("host", "The address to listen on.", "127.0.0.1", readers.host),
    Setting(
        "port",
        "The port to listen on; `0` takes a free one, and the line `kinpay ready on …` names it.",
        "8700",
        readers.whole(0, 65535),
    ),
    Setting(
        "public_url",
        "Where people's phones reach this server; it stands in QR codes and in the way back from a provider. "
        "Empty: `http://HOST:PORT`.",
        "",
        readers.public_url,
    ),
    Setting(
        "code_channel",
        "How one-time codes reach people: `command:PROGRAM …` (the text on its standard input), `webhook:https://…` "
        "(signed), or `file:/PATH`, which writes codes down readably and is allowed only with `KINPAY_DEMO=1`. "
        "`serve` and `worker` refuse to start without one.",
        "",
        readers.optional,
    ),
    Setting(
        "code_webhook_secret",
        "What a `webhook:` channel signs its requests with, at least 24 characters; the receiver needs the same.",
        "",
        readers.secret,
        secret=True,
    ),
    Setting(
        "demo", "`1` on a machine where nothing is real: allows what must never be allowed elsewhere.", "0", readers.switch
    ),
    Setting(
        "worker",
        "`inside`: `kinpay serve` also does the background work. `apart`: `kinpay worker` does, in its own process.",
        "inside",
        readers.one_of("inside", "apart"),
    ),
    Setting("max_connections", "Database connections of this process, at most.", "20", readers.whole(6, 1000)),
    Setting(
        "provider_timeout_s",
        "How long to wait for a provider's answer, in seconds, where its account does not say otherwise. After it the "
        "outcome is unknown and is asked for later.",
        "10",
        readers.seconds,
    ),
    Setting(
        "metrics_listen",
        "`HOST:PORT` on which this process (`serve` or `worker`) tells its `/metrics` in the text format of Prometheus, and "
        "`/healthz`; apart from the port that people reach. Each process needs its own. Empty: nowhere.",
        "",
        readers.place,
    ),
    Setting(
        "metrics_token",
        "What whoever asks for `/metrics` has to bring as `Authorization: Bearer …`, at least 24 characters. It may be left "
        "out only where `KINPAY_METRICS_LISTEN` is a loopback address.",
        "",
        readers.secret,
        secret=True,
    ),
    Setting(
        "webhook_http",
        "`1` lets webhook endpoints be plain `http`, for a sandbox: whoever is on the way reads and changes what is sent.",
        "0",
        readers.switch,
    ),
    Setting(
        "webhook_networks",
        "Networks (CIDR, separated by commas) that webhook endpoints may be in although they are not public. Whoever may name "
        "an endpoint can then have requests sent into them.",
        "",
        readers.networks,
    ),
    Setting(
        "models",
        "The folder of the face models' files, each pinned by its hash. Empty: where `make install` leaves them, "
        "`share/kinpay/models` of the environment that kinpay is installed in.",
        "",
        readers.models,
    ),
    Setting(
        "face_model",
        f"Which model turns a face into a vector: {', '.join(f'`{name}`' for name in FACE_MODELS)}. Vectors of two models "
        "never compare, so with another one everybody has to be enrolled again.",
        DEFAULT_FACE_MODEL,
        readers.one_of(*FACE_MODELS),
    ),
    Setting(
        "gallery",
        "Where faces are searched: `numpy` in this process's memory, `pgvector` in the database, `auto` in the database for "
        "large sites if it has pgvector 0.7 or newer. The answers are the same.",
        "auto",
        readers.one_of("numpy", "pgvector", "auto"),
    ),
    Setting("gallery_large", "From how many templates on a site is large for `auto`.", "20000", readers.whole(100, 10_000_000)),
    Setting(
        "face_bound",
        "How often, at most, an attempt to pay by face may charge a wrong circle (the 95 % upper bound); beyond it something "
        "else is asked for as well. `0`: no face ever pays alone.",
        "0.0001",
        readers.chance,
    ),
    Setting(
        "face_reference",
        "Up to which amount that bound holds as it is, by currency, in minor units; above, it falls in proportion. In a "
        "currency that is not named no face pays alone.",
        ",".join(f"{currency}:{minor}" for currency, minor in REFERENCE.items()),
        readers.references,
    ),
    Setting(
        "face_threads",
        "How many pictures of faces this process computes on at once, each with one core; eight requests more may wait.",
        "1",
        readers.whole(1, 32),
    ),
    Setting(
        "terminal_templates",
        "`1`: a terminal may hand over a template of its own making, which is kept and compared with nothing. `0`: a face is "
        "enrolled only from frames that this server looked at.",
        "1",
        readers.switch,
    ),
    Setting(
        "log_level",
        "The least that is logged: `debug`, `info`, `warning` or `error`.",
        "info",
        readers.one_of("debug", "info", "warning", "error"),
    ),
)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads `KINPAY_*`, and before it the file `KINPAY_CONFIG` of `KEY=VALUE` lines, which the environment overrides.

    Raises: SettingsWrong with everything that is wrong at once.
    """
    problems: list[str] = []
    given = _from_file(environment.get(CONFIG, ""), problems)
    # A misspelt name in the environment is not an error: container systems put names of their own beside ours.
    given.update({name: environment[name] for name in _NAMES if name in environment})
    home = given.get("KINPAY_HOME") or _default_home()
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = home if setting.field == "home" else given.get(setting.name, "").strip()
        if not text and "$KINPAY_HOME" in setting.default and "home" not in values:
            continue  # Only follows from what was complained of already.
        text = text or setting.default.replace("$KINPAY_HOME", home)
        try:
            values[setting.field] = setting.read(text)
        except ValueError as error:
            shown = "" if setting.secret else f" (it is {text!r})"
            problems.append(f"{setting.name}: {error}{shown}.")
    if not problems:
        _check_together(values, problems)
    if problems:
        raise SettingsWrong(problems)
    return Settings(**values)


_NAMES: Final = frozenset(setting.name for setting in SETTINGS)


def _check_together(values: Mapping[str, Any], problems: list[str]) -> None:
    place = values["metrics_listen"]
    if place is not None and values["metrics_token"] is None and not place.is_loopback:
        problems.append("KINPAY_METRICS_TOKEN: write one, as KINPAY_METRICS_LISTEN is an address that others can reach.")
    if values["code_channel"] is None:
        return
    try:
        open_channel(values["code_channel"], demo=values["demo"], secret=values["code_webhook_secret"])
    except ValueError as error:
        problems.append(f"KINPAY_CODE_CHANNEL: {error}.")


def open_channel(text: str, *, demo: bool, secret: Sealed[bytes] | None) -> Channel:
    """The channel that `KINPAY_CODE_CHANNEL` names. Raises: ValueError with what is wrong with it."""
    kind, _, target = text.partition(":")
    return channel_of(kind, target, demo=demo, secret=secret)


def _from_file(path: str, problems: list[str]) -> dict[str, str]:
    if not path:
        return {}
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{CONFIG}: {path} cannot be read ({type(error).__name__}).")
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        if not separator:
            problems.append(f"{path}, line {number}: write NAME=VALUE.")
        elif name.strip() not in _NAMES:
            problems.append(f"{path}, line {number}: there is no setting {name.strip()!r}.{_likely(name.strip())}")
        else:
            found[name.strip()] = value.strip()
    return found


def _likely(name: str) -> str:
    near = difflib.get_close_matches(name, _NAMES, n=1)
    return f" Is it {near[0]}?" if near else ""


_OF_CLIENTS: Final = frozenset({f"{PREFIX}URL", f"{PREFIX}OPERATOR", f"{PREFIX}CODES"})
"""What the demo has exported for a client of it (docs/getting-started.md), in the same shell as its commands."""


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each `KINPAY_*` of the environment that is no setting but looks like a misspelt one."""
    known = _NAMES | _OF_CLIENTS | {CONFIG}
    strange = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [f"{name} is no setting.{_likely(name)}" for name in strange]


def shown(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of every setting, passwords left out."""
    return [(setting.name, _written(setting, getattr(settings, setting.field)), setting.meaning) for setting in SETTINGS]


def _written(setting: Setting, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Sealed):
        return "…"
    if isinstance(value, readers.Place):
        return str(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return _without_password(str(value)) if setting.secret else str(value)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None and "password=" not in parts.query:
        return url
    user, _, place = parts.netloc.rpartition("@")
    query = "…" if "password=" in parts.query else parts.query
    return urlunsplit((parts.scheme, f"{user.partition(':')[0]}:…@{place}" if user else place, parts.path, query, ""))
