"""nginx configurations of an edge point and of the origin: settings in, text out.

The result is what stands inside `http { }`, with `$PORT` and `$DIR` left for whoever starts nginx.
"""

from __future__ import annotations

from month1_caching_gateway.edge.settings import EdgeSettings, OriginSettings, Servers, Tls
from month1_caching_gateway.edge.template import fill, plain, template

_BALANCE = {
    "round_robin": "",
    "least_conn": " least_conn;",
    "consistent_hash": " hash $request_uri consistent;",
}
_CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    )
)
_TLS = f"""ssl_certificate $DIR/edge.crt;
ssl_certificate_key $DIR/edge.key;
ssl_protocols TLSv1.2 TLSv1.3;
ssl_ciphers {_CIPHERS};
ssl_prefer_server_ciphers off;
ssl_session_cache shared:tls:1m;
ssl_session_tickets off;
"""
_HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;'


def upstream(name: str, servers: Servers, *, keepalive: int = 32) -> str:
    """An upstream block: who gets the next request, and who is left out after failures."""
    lines = [
        f"  server {plain(address, field='addresses')} "
        f"max_fails={servers.max_fails} fail_timeout={servers.fail_timeout_s}s;"
        for address in servers.addresses
    ]
    method = _BALANCE[servers.balance]
    head = [f"upstream {name} {{", f"  zone {name} 128k;{method}"]
    return "\n".join([*head, *lines, f"  keepalive {keepalive};", "}"])


def edge_config(settings: EdgeSettings) -> str:
    """An edge point. Raises InvalidInput for a value that cannot stand in a configuration."""
    limits, cache, tls = settings.limits, settings.cache, settings.tls
    hosts = _hosts(settings.hosts)
    redirects = settings.plain_http == "redirect"
    return fill(
        template("edge.conf"),
        {
            "name": plain(settings.name, field="name"),
            "memory_mb": str(cache.memory_mb),
            "disk_mb": str(cache.disk_mb),
            "inactive_s": str(cache.inactive_s),
            "generation": str(cache.generation),
            "upstream": upstream("origin", settings.origin),
            "read_timeout_s": str(settings.origin.read_timeout_s),
            "tries": str(settings.origin.tries),
            "head_s": str(limits.head_s),
            "silence_s": str(limits.silence_s),
            "idle_s": str(limits.idle_s),
            "header_lines": str(limits.header_lines),
            "header_kb": str(limits.header_kb),
            "body_kb": str(limits.body_kb),
            "connections": str(limits.connections),
            "tls": _TLS if tls else "",
            "tls_listen_default": f";\n  {_tls_listen(tls, default=True)}" if tls else "",
            "redirect": _redirect(hosts, tls) if tls and redirects else "",
            "listen": _listens(tls, plain_too=not redirects),
            "hosts": hosts,
            "hsts": _HSTS if tls else "",
        },
    )


def edge_files(settings: EdgeSettings) -> dict[str, str]:
    """Files that stand beside an edge's configuration, closed to others: certificate and key."""
    if settings.tls is None:
        return {}
    return {"edge.crt": settings.tls.certificate, "edge.key": settings.tls.key}


def origin_config(settings: OriginSettings) -> str:
    """The origin. Raises InvalidInput for a value that cannot stand in a configuration."""
    return fill(
        template("origin.conf"),
        {
            "upstream": upstream("api", settings.api),
            "read_timeout_s": str(settings.api.read_timeout_s),
            "tries": str(settings.api.tries),
            "body_kb": str(settings.body_kb),
            "hosts": _hosts(settings.hosts),
            "site": plain(settings.site, field="site"),
        },
    )


def _hosts(hosts: tuple[str, ...]) -> str:
    return " ".join(plain(host, field="hosts") for host in hosts)


def _tls_listen(tls: Tls, *, default: bool = False) -> str:
    return f"listen 127.0.0.1:{tls.port}{' default_server' if default else ''} ssl http2"


def _listens(tls: Tls | None, *, plain_too: bool) -> str:
    lines = ["listen 127.0.0.1:$PORT;"] if plain_too else []
    if tls:
        lines.append(f"{_tls_listen(tls)};")
    return "\n  ".join(lines)


def _redirect(hosts: str, tls: Tls) -> str:
    return (
        "server {\n"
        "  listen 127.0.0.1:$PORT;\n"
        f"  server_name {hosts};\n"
        "  access_log $DIR/access.log edge;\n"
        f"  return 308 https://$host:{tls.port}$request_uri;\n"
        "}"
    )
