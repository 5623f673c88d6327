"""Where the running stack listens, and tokens that it believes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.lab.cli.running import port_of

if TYPE_CHECKING:
    from scalelab.lab.supervisor.state import StackPaths

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def token_for(paths: StackPaths, subject: str, ttl_s: float, scope: str = "shop") -> str:
    """A token of the stack's issuer."""
    from month3_messaging.stack import key_path
    from month3_messaging.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
    from scalelab.clock import SystemClock
    from scalelab.issuer import demo_token

    return demo_token(
        key_path(paths.folder),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=[scope],
        ttl_s=ttl_s,
        clock=SystemClock(),
    )


def url_of(paths: StackPaths, process: str) -> str:
    """The base address of a process of the stack."""
    return f"http://127.0.0.1:{port_of(paths, process)}"
