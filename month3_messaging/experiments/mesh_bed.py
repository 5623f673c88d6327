"""A stock service in three instances of two versions, each behind its sidecar; for the mesh's tests
and its experiment.

The level of `pen` says which instance answered: the services are unchanged and know no mesh.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from month3_messaging.experiments.stock_process import Settings
from month3_messaging.mesh import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    Inbound,
    Outbound,
    Sidecar,
    envoy_config,
    identity,
)
from scalelab.lab.runtime import Runtime, ServiceSpec
from scalelab.lab.servers import Envoy, Service
from scalelab.security.certificates import Authority

STOCK, SHOP, STRANGER = "stock", "shop", "stranger"
PENS: Mapping[str, int] = {"a": 1, "b": 2, "canary": 3}
"""Instances, with the level that each of them tells. `a` and `b` are version 1."""
_LASTS = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Workload:
    """Who somebody is: the authority that is trusted, a certificate and its key, in PEM form."""

    authority: str
    certificate: str
    key: str

    @property
    def files(self) -> dict[str, str]:
        """Under the names that a sidecar's configuration has for them."""
        return {AUTHORITY: self.authority, CERTIFICATE: self.certificate, KEY: self.key}


class MeshBed:
    """One mesh in a runtime of its own: instances may be killed. folder: of the authority."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime = runtime
        self._authority = Authority.open(folder, now=dt.datetime.now(dt.UTC))
        self.doors = {name: runtime.port(f"door-{name}", 0) for name in PENS}
        self.services = {name: runtime.port(f"service-{name}", 0) for name in PENS}
        self.ways: dict[str, Outbound] = {}

    def workload(self, service: str, *, ended: bool = False) -> Workload:
        """A certificate of this mesh's authority, good for a day; ended: one that has run out."""
        now = dt.datetime.now(dt.UTC) - (2 * _LASTS if ended else dt.timedelta())
        issued = self._authority.issue_identity(identity(service), now=now, lasts=_LASTS)
        return Workload(self._authority.certificate, issued.certificate, issued.key)

    def way(self, name: str, outbound: Outbound) -> None:
        """Give the shop's sidecar one more way out; its port is chosen here."""
        self.ways[name] = replace(outbound, port=self.runtime.port(f"way-{name}", 0))

    def start(self, *more: Envoy) -> None:
        """Services, their sidecars and the shop's, and whoever else is given."""
        specs: list[ServiceSpec] = []
        sidecars: list[Envoy] = []
        for name, pens in PENS.items():
            port = self.services[name]
            settings = Settings(port, {"": {"pen": pens}}, name, held_share=1.0)
            specs.append(ServiceSpec(f"service-{name}", settings.argv(), port))
            sidecars.append(self.door(name, STOCK, self.doors[name], port))
        shop = Sidecar(SHOP, outbounds=tuple(self.ways.values()))
        sidecars.append(Envoy(envoy_config(shop), SHOP, files=self.workload(SHOP).files))
        self.runtime.start(*map(Service, specs), *sidecars, *more)

    def door(
        self,
        name: str,
        service: str,
        port: int,
        service_port: int,
        callers: Sequence[str] = (SHOP,),
    ) -> Envoy:
        """The sidecar of an instance, not yet started."""
        inbound = Inbound(service, port, service_port, tuple(callers))
        config = envoy_config(Sidecar(service, inbound))
        return Envoy(config, sidecar_of(name), files=self.workload(service).files)

    def envoy(self, name: str) -> Envoy:
        """A started sidecar by the name of its process."""
        server = self.runtime.server(name)
        if not isinstance(server, Envoy):
            raise TypeError(f"{name} is no sidecar")
        return server


def sidecar_of(instance: str) -> str:
    """Name of the process beside an instance."""
    return f"sidecar-{instance}"
