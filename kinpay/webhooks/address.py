"""Where a message may go: to a public address of the internet, never into the house's own networks. Pure.

Whoever may name an address that we then ask could otherwise make us ask for them: metadata of a cloud, a database's port, a
neighbour behind the firewall (server-side request forgery). Source: IANA special-purpose address registries (IPv4, IPv6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from kinpay.primitives.errors import Invalid

URL_PATTERN: Final = (
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$"
)
"""No credentials, no fragment, nothing that two parsers could read differently."""
URL_LENGTH: Final = 500
_URL = re.compile(URL_PATTERN)
_TLS_PORT: Final = 443
_FIRST_FREE_PORT: Final = 1024

Network = IPv4Network | IPv6Network

_SPECIAL_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's translation; one cloud's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # one cloud's own services, at an address that looks public
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # the former 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
"""Everything else is loopback, link-local, unique-local, multicast, IPv4 in disguise, or nothing yet."""
_SPECIAL_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, tunnels among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator lets through: plain `http`, and networks that are not public (a sandbox, a test)."""

    http: bool = False
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address that was read: `host` a name or a literal address without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What goes into `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _TLS_PORT and self.scheme == "https" else f"{host}:{self.port}"


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks in CIDR form, separated by commas. Raises: ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def read_url(text: str, rules: Rules) -> Target:
    """Reads an endpoint's address.

    Raises: Invalid unless it is https (or http, if allowed), without credentials, at port 443 or from 1024 on.
    """
    found = _URL.fullmatch(text) if len(text) <= URL_LENGTH else None
    if found is None:
        raise Invalid("url_malformed", field="url")
    scheme = text.partition(":")[0]
    if scheme == "http" and not rules.http:
        raise Invalid("url_not_https", field="url")
    host, port_text, path, query = found.groups()
    port = int(port_text[1:]) if port_text else (_TLS_PORT if scheme == "https" else 80)
    if port != _TLS_PORT and not _FIRST_FREE_PORT <= port <= 65_535:
        raise Invalid("port_not_allowed", field="url")
    return Target(scheme=scheme, host=host.strip("[]").lower(), port=port, path=(path or "/") + (query or ""))


def literal(host: str) -> str | None:
    """The address that `host` is by itself, or None for a name."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def may_go_to(address: str, rules: Rules) -> bool:
    """Whether a connection to this address is allowed. What cannot be read is not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if any(found.version == network.version and found in network for network in rules.networks):
        return True
    if found.version == 4:
        return not any(found in network for network in _SPECIAL_V4)
    return found in _GLOBAL_V6 and not any(found in network for network in _SPECIAL_V6)


def all_allowed(addresses: Sequence[str], rules: Rules) -> bool:
    """Whether there are any and each may be gone to: a name that also leads inside is not trusted for the rest."""
    return bool(addresses) and all(may_go_to(address, rules) for address in addresses)
