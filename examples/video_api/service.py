"""
The application: what is made of what, its settings, and its addresses.
"""

from __future__ import annotations

import asyncio
import errno
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dependency_injector import containers, providers
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from jobs import Job, Jobs
from muxing import Muxer
from tempscope import Settings, TempContainer, check_container, sweep
from tempscope.units import parse_size
from uploads import UploadError, receive_form


__all__ = ["LABEL", "Application", "application_from", "create_app"]

LABEL = "video_api"
_NO_ROOM = frozenset([errno.ENOSPC, errno.EDQUOT])


class Application(containers.DeclarativeContainer):
    """The services, and where their temporary files live."""

    config = providers.Configuration()
    temp = providers.Container(TempContainer, config=config.temp)
    muxer = providers.Factory(Muxer, temp.manager)
    jobs = providers.Factory(Jobs, temp.scopes, muxer.provider, config.at_once, config.keep_seconds)


def application_from(environ: Mapping[str, str] = os.environ) -> Application:
    """
    Return the application that the environment configures.

    ``TEMPSCOPE_...`` say where temporary files live and what stays of them; ``VIDEO_API_AT_ONCE`` how
    many jobs are worked on at once, ``VIDEO_API_KEEP_SECONDS`` how long a result waits to be fetched,
    ``VIDEO_API_MAX_UPLOAD`` how large an upload may be.
    """
    application = Application()
    limit = parse_size(environ.get("VIDEO_API_MAX_UPLOAD", "10GiB"), what="VIDEO_API_MAX_UPLOAD")
    temp = Settings.from_env(environ).as_dict()
    application.config.from_dict(
        {
            "temp": {**temp, "label": temp["label"] or LABEL},
            "at_once": int(environ.get("VIDEO_API_AT_ONCE", "2")),
            "keep_seconds": float(environ.get("VIDEO_API_KEEP_SECONDS", "600")),
            "max_upload": limit,
        }
    )
    check_container(application)
    return application


def create_app(application: Application) -> FastAPI:
    """Return the service; what it takes from *application* it takes when it starts."""
    api = _Api(application)
    app = FastAPI(title="Video API", lifespan=api.lifespan)
    app.add_api_route("/jobs", api.start, methods=["POST"], status_code=202)
    app.add_api_route("/jobs/{name}", api.look, methods=["GET"])
    app.add_api_route("/jobs/{name}/result", api.fetch, methods=["GET"], response_class=StreamingResponse)
    app.add_api_route("/health", api.health, methods=["GET"])
    return app


class _Api:
    def __init__(self, application: Application) -> None:
        self._application = application
        self._max_upload: int = application.config.max_upload()
        self._jobs: Jobs | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Remove what dead workers left, serve beside the janitor, and end the jobs."""
        temp = self._application.temp
        # The janitor's first pass would come beside the first requests, which may need the room.
        await asyncio.to_thread(sweep, temp.storage())
        try:
            async with temp.janitor(), self._application.jobs() as self._jobs:
                yield
        finally:
            await asyncio.to_thread(temp.storage().close)

    async def start(self, request: Request) -> dict[str, str]:
        """Take in a video and its subtitles; the answer comes when both are there."""
        assert self._jobs is not None

        async def fill(files: dict[str, Path]) -> None:
            kind = request.headers.get("content-type", "")
            await receive_form(kind, request.stream(), files, self._max_upload)

        try:
            job = await self._jobs.receive(uuid.uuid4().hex, fill)
        except UploadError as error:
            raise HTTPException(error.status, str(error)) from error
        except ClientDisconnect as error:
            raise HTTPException(499, "the client is gone") from error
        except OSError as error:
            raise HTTPException(507 if error.errno in _NO_ROOM else 500, str(error)) from error
        return {"name": job.name, "state": job.state}

    async def look(self, name: str) -> dict[str, str]:
        """Tell how a job goes."""
        job = self._job(name)
        return {"name": name, "state": job.state, "problem": job.problem}

    async def fetch(self, name: str, request: Request) -> StreamingResponse:
        """Send the result of a job; once it is sent, it is gone."""
        job = self._job(name)
        if job.result is None:
            raise HTTPException(409, f"the job is {job.state}: {job.problem}".rstrip(": "))
        assert self._jobs is not None
        # A server swallows what is sent to a client that is gone.
        size, blocks = self._jobs.send(job, request.is_disconnected)
        headers = {"content-length": str(size)}
        return StreamingResponse(blocks, media_type="video/x-matroska", headers=headers)

    async def health(self) -> dict[str, Any]:
        """Tell how many scopes are open."""
        assert self._jobs is not None
        active = await asyncio.to_thread(self._application.temp.scopes().active)
        return {"open_scopes": len(active), "jobs": self._jobs.states()}

    def _job(self, name: str) -> Job:
        assert self._jobs is not None
        job = self._jobs.get(name)
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job
