"""Routes, upstreams and rate policies as a document says them, checked at the edge.

Unknown fields are refused: a misspelt `auth` must not open a door. What the document says in
several places must agree: every route's upstream and rate policy exists, and no two routes take
the same request. Each mistake is a `Fault` with the path to it; config_file.py adds the line.

A section of a route or of an upstream is the frozen dataclass that the gateway works with: it is
filled from the document, and what its `__post_init__` refuses is a fault like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from month1_caching_gateway.balancing import Balance, HealthPolicy, HedgePolicy, OutlierPolicy
from month1_caching_gateway.gateway.canary import Canary
from month1_caching_gateway.gateway.cors import Cors
from month1_caching_gateway.gateway.gate import Shed
from month1_caching_gateway.gateway.rate_config import RateModel
from month1_caching_gateway.gateway.routes import PriorityName, Route, RouteTable
from month1_caching_gateway.gateway.settings import Endpoint, HashOn, Retries, Upstream
from month1_caching_gateway.gateway.snapshot import Rules
from month1_caching_gateway.ratelimit import LeaseRule, Policy, Rule
from month1_caching_gateway.response_cache import CachePolicy
from scalelab.errors import InvalidInput

_Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_MAX_FAULTS = 20

Path = tuple[str | int, ...]
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a document: the way to it from the top, and what is wrong."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path)) or 'document'}: {self.reason}"


class BadConfig(InvalidInput):
    """The document cannot be put in force. faults: every mistake found, the first twenty."""

    code = "invalid_config"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        listed = "; ".join(map(str, faults))
        super().__init__(f"the gateway's configuration is wrong: {listed}")
        self.faults = faults


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _in_our_words(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except InvalidInput as error:
            raise ValueError(error.message) from error

    def fields(self) -> dict[str, Any]:
        """The fields by name, as the values they are."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class RouteModel(_Strict):
    """One route as written; see `Route` for the meaning of each field."""

    upstream: str
    template: str | None = None
    prefix: str | None = None
    methods: Annotated[frozenset[_Method], Field(min_length=1)] = frozenset({"GET"})
    auth: Literal["none", "user", "key", "either"] = "user"
    scope: str | None = None
    rate: str | None = None
    cost: Annotated[float, Field(gt=0)] = 1.0
    idempotency_key_required: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    streaming: bool = False
    websocket: bool = False
    websocket_origins: frozenset[str] = frozenset()
    max_body_bytes: Annotated[int, Field(ge=0)] | None = None
    canary: Canary | None = None
    priority: PriorityName = "normal"
    hosts: frozenset[str] = frozenset()
    cors: str | None = None
    cache: str | None = None
    name: str = ""

    def route(self, config: GatewayConfig) -> Route:
        """The checked value the gateway works with. Raises InvalidInput."""
        fields = self.fields()
        fields["cors"] = _named("cors", self.cors, config.cors)
        fields["cache"] = _named("cache", self.cache, config.caches)
        return Route(**fields)


class EndpointModel(_Strict):
    """Where one process of an upstream listens."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class UpstreamModel(_Strict):
    """The processes of one service, and how requests are spread over them; see `Upstream`."""

    endpoints: Annotated[list[EndpointModel], Field(min_length=1)]
    max_connections: Annotated[int, Field(ge=1)] = 64
    max_waiting: Annotated[int, Field(ge=0)] = 256
    balance: Balance = "round_robin"
    hash_on: HashOn = "path"
    health: HealthPolicy | None = None
    outlier: OutlierPolicy | None = OutlierPolicy()
    slow_start_s: Annotated[float, Field(ge=0)] = 0.0
    retries: Retries = Retries()
    hedge: HedgePolicy | None = None
    shed: Shed | None = None

    def upstream(self, name: str) -> Upstream:
        """The checked value the gateway works with. Raises InvalidInput."""
        fields = self.fields()
        fields["endpoints"] = tuple(Endpoint(**at.fields()) for at in self.endpoints)
        return Upstream(name, **fields)


class GatewayConfig(_Strict):
    """The whole document: routes, and by name upstreams, rates, CORS and cache policies.

    Below `anchors` may stand whatever the document repeats by YAML's aliases; it is not read.
    """

    routes: list[RouteModel]
    upstreams: dict[str, UpstreamModel]
    rates: dict[str, RateModel] = {}
    cors: dict[str, Cors] = {}
    caches: dict[str, CachePolicy] = {}
    anchors: Any = None

    def route_table(self) -> RouteTable:
        """Raises InvalidInput for routes that collide."""
        return RouteTable(model.route(self) for model in self.routes)

    def upstream_list(self) -> tuple[Upstream, ...]:
        """The upstreams as values."""
        return tuple(model.upstream(name) for name, model in self.upstreams.items())

    def policies(self) -> dict[str, Policy | Rule | LeaseRule]:
        """The rates as values."""
        return {name: model.rule(name) for name, model in self.rates.items()}

    def rules(self, revision: str = "") -> Rules:
        """All of it as values, for `Gateway.apply`."""
        return Rules(
            self.route_table().routes, self.upstream_list(), self.policies(), revision=revision
        )


def load_config(document: str | bytes | dict[str, object]) -> GatewayConfig:
    """Check a JSON text or a dict. Raises BadConfig naming every wrong field."""
    try:
        if isinstance(document, dict):
            config = GatewayConfig.model_validate(document)
        else:
            config = GatewayConfig.model_validate_json(document)
    except ValidationError as error:
        found = [Fault(one["loc"], _reason(one["type"], one["msg"])) for one in error.errors()]
        raise BadConfig(tuple(found[:_MAX_FAULTS])) from error
    faults = tuple(_disagreements(config))
    if faults:
        raise BadConfig(faults[:_MAX_FAULTS])
    return config


def _disagreements(config: GatewayConfig) -> Iterator[Fault]:
    """What each part alone cannot know."""
    for name, upstream in config.upstreams.items():
        try:
            upstream.upstream(name)
        except InvalidInput as error:
            yield Fault(("upstreams", name, error.field or ""), error.message)
    table = RouteTable(())
    for index, model in enumerate(config.routes):
        at: Path = ("routes", index)
        if model.upstream not in config.upstreams:
            yield Fault((*at, "upstream"), f"there is no upstream {model.upstream!r}")
        if model.canary is not None and model.canary.upstream not in config.upstreams:
            reason = f"there is no upstream {model.canary.upstream!r}"
            yield Fault((*at, "canary", "upstream"), reason)
        yield from _rate_faults(config, model, at)
        try:
            table.add(model.route(config))
        except InvalidInput as error:
            yield Fault((*at, *([error.field] if error.field else [])), error.message)


def _rate_faults(config: GatewayConfig, model: RouteModel, at: Path) -> Iterator[Fault]:
    if model.rate is None:
        return
    found = config.rates.get(model.rate)
    if found is None:
        yield Fault((*at, "rate"), f"there is no rate policy {model.rate!r}")
        return
    for limit in (found, *found.plans.values()):
        if limit.capacity is not None and model.cost > limit.capacity:
            reason = f"costs {model.cost:g}, but {model.rate!r} never holds more than"
            yield Fault((*at, "cost"), f"{reason} {limit.capacity:g}")


def _named(field: str, name: str | None, known: Mapping[str, _Value]) -> _Value | None:
    """The policy of that name. Raises InvalidInput."""
    if name is None:
        return None
    if name not in known:
        raise InvalidInput(f"there is no {field} policy {name!r}", field=field)
    return known[name]


def _reason(kind: str, message: str) -> str:
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "there is no such key"
    if kind in ("missing", "missing_argument"):
        return "is missing"
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
