"""Routes, upstreams and rate policies from a dict or JSON, checked at the edge.

Unknown fields are refused: a misspelt `auth` must not open a door. What the document says in
several places must agree: every route's upstream and rate policy exists.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from month1_caching_gateway.gateway.routes import Route, RouteTable
from month1_caching_gateway.gateway.settings import Endpoint, Upstream
from month1_caching_gateway.ratelimit import Policy
from scalelab.errors import InvalidInput

_Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouteModel(_Strict):
    """One route as written; see `Route` for the meaning of each field."""

    upstream: str
    template: str | None = None
    prefix: str | None = None
    methods: Annotated[list[_Method], Field(min_length=1)] = ["GET"]
    auth: Literal["none", "user"] = "user"
    scope: str | None = None
    rate: str | None = None
    cost: Annotated[float, Field(gt=0)] = 1.0
    idempotency_key_required: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    streaming: bool = False
    max_body_bytes: Annotated[int, Field(ge=0)] | None = None
    name: str = ""

    def route(self) -> Route:
        """The checked value the gateway works with. Raises InvalidInput."""
        fields = self.model_dump(exclude={"methods"})
        return Route(methods=frozenset(self.methods), **fields)


class EndpointModel(_Strict):
    """Where one process of an upstream listens."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)]


class UpstreamModel(_Strict):
    """The processes of one service, and how many connections each may get."""

    endpoints: Annotated[list[EndpointModel], Field(min_length=1)]
    max_connections: Annotated[int, Field(ge=1)] = 64
    max_waiting: Annotated[int, Field(ge=0)] = 256


class PolicyModel(_Strict):
    """A token bucket: capacity in tokens, rate in tokens per second."""

    capacity: Annotated[float, Field(ge=1)]
    rate_per_s: Annotated[float, Field(gt=0)]


class GatewayConfig(_Strict):
    """The whole document: routes, upstreams by name, rate policies by name."""

    routes: list[RouteModel]
    upstreams: dict[str, UpstreamModel]
    rates: dict[str, PolicyModel] = {}

    @model_validator(mode="after")
    def _names_exist(self) -> GatewayConfig:
        for route in self.routes:
            if route.upstream not in self.upstreams:
                raise ValueError(f"route names an unknown upstream {route.upstream!r}")
            if route.rate is not None and route.rate not in self.rates:
                raise ValueError(f"route names an unknown rate policy {route.rate!r}")
        return self

    def route_table(self) -> RouteTable:
        """Raises InvalidInput for routes that collide."""
        return RouteTable(model.route() for model in self.routes)

    def upstream_list(self) -> tuple[Upstream, ...]:
        """The upstreams as values."""
        return tuple(
            Upstream(
                name=name,
                endpoints=tuple(Endpoint(at.host, at.port) for at in model.endpoints),
                max_connections=model.max_connections,
                max_waiting=model.max_waiting,
            )
            for name, model in self.upstreams.items()
        )

    def policies(self) -> dict[str, Policy]:
        """The rate policies as values."""
        return {n: Policy(model.capacity, model.rate_per_s) for n, model in self.rates.items()}


def load_config(document: str | bytes | dict[str, object]) -> GatewayConfig:
    """Check a JSON text or a dict. Raises InvalidInput naming every wrong field."""
    try:
        if isinstance(document, dict):
            return GatewayConfig.model_validate(document)
        return GatewayConfig.model_validate_json(document)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['msg']}"
            for one in error.errors()
        )
        raise InvalidInput(f"the gateway's configuration is wrong: {wrong}") from error
