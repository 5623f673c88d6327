"""An application on a free port, in this process. For experiments and tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from scalelab.web.serving import serve


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port."""
    stop = asyncio.Event()
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def heard(_host: str, port: int) -> None:
        listening.set_result(port)

    task = asyncio.create_task(serve(app, host="127.0.0.1", port=0, stop=stop, on_listening=heard))
    try:
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            await task  # raises why it did not start
        yield listening.result()
    finally:
        stop.set()
        await task


@asynccontextmanager
async def serving_url(app: FastAPI) -> AsyncGenerator[str, None]:
    """The same; yields the base URL."""
    async with serving(app) as port:
        yield f"http://127.0.0.1:{port}"
