"""
A service that joins videos and subtitles: ``--serve`` runs it, without that it shows itself at work.

Run it as ``python examples/video_api/main.py [--serve] [--port N]``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys

import httpx
import uvicorn

from muxing import make_subtitles, make_video
from service import LABEL, Application, application_from, create_app


def server_of(application: Application, port: int) -> uvicorn.Server:
    """Return a server of *application* on loopback."""
    config = uvicorn.Config(
        create_app(application),
        host="127.0.0.1",
        port=port,
        loop="asyncio",
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


async def show(application: Application) -> int:
    """Serve, do one job that goes well and one that does not, and tell what is left; return the status."""
    server = server_of(application, 0)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event to wait for
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            made = io.BytesIO()
            make_video(made)
            for name, video in (("a video", made.getvalue()), ("no video", b"something else")):
                print(f"{name}: {await one_job(client, video)}")
            print(f"health: {(await client.get('/health')).json()['open_scopes']} scopes open")
    finally:
        server.should_exit = True
        await serving
    left = [each for each in application.temp.storage().areas() if each.label == LABEL]
    print(f"left behind: {len(left)}")
    return len(left)


async def one_job(client: httpx.AsyncClient, video: bytes) -> str:
    """Upload, wait, fetch, and tell how it went."""
    answer = await client.post("/jobs", files={"video": video, "subtitles": make_subtitles()})
    answer.raise_for_status()
    address = f"/jobs/{answer.json()['name']}"
    job = answer.json()
    while job["state"] not in ("done", "failed"):
        await asyncio.sleep(0.02)
        job = (await client.get(address)).json()
    if job["state"] == "failed":
        return f"failed: {job['problem']}"
    result = await client.get(f"{address}/result")
    result.raise_for_status()
    return f"done, {len(result.content)} bytes came back"


def main() -> int:
    """Serve, or show; return the exit status."""
    parser = argparse.ArgumentParser(description="Join videos and subtitles.")
    parser.add_argument("--serve", action="store_true", help="serve until SIGTERM or SIGINT")
    parser.add_argument("--port", type=int, default=8000, help="where to listen on 127.0.0.1 (default: 8000)")
    options = parser.parse_args()
    application = application_from()
    if not options.serve:
        return asyncio.run(show(application))
    server_of(application, options.port).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
