"""
The application container: what is made of what, said once.
"""

from __future__ import annotations

from dependency_injector import containers, providers

from services import ClipCutter, SubtitleExtractor, ThumbnailMaker, VideoService
from tempscope import TempContainer


__all__ = ["LABEL", "Application"]

LABEL = "video_service"
DEFAULTS = {
    "clip_seconds": 5.0,
    "thumbnails": 3,
    "thumbnail_width": 320,
    "temp": {"backend": "disk", "label": LABEL, "policy": "keep_on_failure"},
}


class Application(containers.DeclarativeContainer):
    """
    The services and where their temporary files live.

    Lives as long as the process; shared by all its threads.
    ``temp.manager`` is the manager of the job that asks, so whoever receives it is made anew for
    each job: a factory, handed to the :class:`VideoService` uncalled.
    """

    config = providers.Configuration(default=DEFAULTS)
    temp = providers.Container(TempContainer, config=config.temp)

    clip_cutter = providers.Factory(ClipCutter, temp.manager, config.clip_seconds)
    subtitle_extractor = providers.Factory(SubtitleExtractor, temp.manager)
    thumbnail_maker = providers.Factory(
        ThumbnailMaker, temp.manager, config.thumbnails, config.thumbnail_width
    )
    video_service = providers.Factory(
        VideoService,
        temp.scopes,
        clip_cutter.provider,
        subtitle_extractor.provider,
        thumbnail_maker.provider,
    )
