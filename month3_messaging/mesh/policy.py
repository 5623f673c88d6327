"""What a mesh is told: who may call whom, how often, how long, and which version answers. Pure.

Theory of operation
    Beside each instance stands a proxy, its sidecar. What comes in passes through it, and what goes
    out does. So encryption, identity, retries and the split of traffic are the mesh's business, and
    the service's code has none of it. A workload is named by a URI in its certificate, not by an
    address: addresses are reused.

Invariants (tests cite them)
    M1  Nobody reaches a service but over mutual TLS, under a certificate of the mesh's authority
        that has not run out.
    M2  Of those, only the identities that the service names are let in; a service that names none
        lets nobody in.
    M3  A caller talks to a service under that service's identity only.
    M4  Retries stay within `retries` a call and within their budget; the last answer is the call's.
    M5  Of many calls a version gets its weight's share; a retry stays with its call's version.

Source: SPIFFE (identities as URIs); differs in: certificates are files that are read at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput

TRUST_DOMAIN = "scalelab.test"


def identity(service: str) -> str:
    """The URI that names a service. Raises InvalidInput for a name that no URI should hold."""
    _check_name(service)
    return f"spiffe://{TRUST_DOMAIN}/{service}"


@dataclass(frozen=True, slots=True)
class Version:
    """Instances of one release. weight: its share of the calls is weight / sum. ports: of their
    sidecars' doors, on loopback."""

    name: str
    weight: int
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retries:
    """retries: after the first try. try_s: for one try. budget_percent: of the calls under way."""

    retries: int = 2
    try_s: float = 1.0
    budget_percent: float = 20.0


@dataclass(frozen=True, slots=True)
class Ejection:
    """failures: in a row, after which an instance gets nothing for `ejected_s`.

    most_percent: of a version's instances that may be out at once: the rest must carry the load.
    """

    failures: int = 3
    ejected_s: float = 30.0
    most_percent: int = 50


@dataclass(frozen=True, slots=True)
class Outbound:
    """Calls to `service` through `port` on loopback. timeout_s: of a call, its retries included."""

    service: str
    port: int
    versions: tuple[Version, ...]
    timeout_s: float = 5.0
    retries: Retries = Retries()
    ejection: Ejection = Ejection()

    def __post_init__(self) -> None:
        """Raises InvalidInput naming the field."""
        _check_name(self.service)
        for version in self.versions:
            _check_name(version.name)
            if not version.ports:
                raise InvalidInput(f"version {version.name} has no instance", field="ports")
        if len({version.name for version in self.versions}) < len(self.versions):
            raise InvalidInput("two versions have one name", field="versions")
        weights = [version.weight for version in self.versions]
        if min(weights, default=0) < 0 or sum(weights) < 1:
            raise InvalidInput("weights are counts, and their sum is above 0", field="weight")
        if not 0 <= self.retries.retries <= 10:
            raise InvalidInput("a call is repeated 0 to 10 times", field="retries")
        if not (0 < self.retries.try_s <= self.timeout_s):
            raise InvalidInput("a try is no longer than its call", field="try_s")
        if self.ejection.failures < 1 or not 0 <= self.ejection.most_percent <= 100:
            raise InvalidInput("an ejection needs a failure and a share", field="ejection")


@dataclass(frozen=True, slots=True)
class Inbound:
    """The door of `service`'s sidecar. service_port: of the service behind it, on loopback.

    callers: names of the services that may call.
    """

    service: str
    port: int
    service_port: int
    callers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput for a name that is none."""
        for name in (self.service, *self.callers):
            _check_name(name)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One proxy: of `service`, with a door for it (or none) and its ways out."""

    service: str
    inbound: Inbound | None = None
    outbounds: tuple[Outbound, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidInput for a door of another service, or a port that is given twice."""
        _check_name(self.service)
        if self.inbound is not None and self.inbound.service != self.service:
            raise InvalidInput("a sidecar is the door of its own service", field="inbound")
        ports = [outbound.port for outbound in self.outbounds]
        ports += [self.inbound.port] if self.inbound is not None else []
        if len(set(ports)) < len(ports):
            raise InvalidInput("two listeners have one port", field="port")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 63 or not all(c.isascii() and (c.isalnum() or c == "-") for c in name):
        raise InvalidInput(f"{name[:80]!r} is not a name for a service", field="service")
