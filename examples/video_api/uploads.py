"""
Taking in a form of large files: block by block, each straight into its file in the job's scope.

FastAPI's own ``UploadFile`` would write each file to the system's temporary directory first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header


if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["UploadError", "receive_form"]

BAD_REQUEST, TOO_LARGE = 400, 413


class UploadError(Exception):
    """A form that is not taken; ``status`` is the HTTP status that says why."""

    def __init__(self, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


async def receive_form(
    content_type: str, blocks: AsyncIterable[bytes], files: Mapping[str, Path], max_bytes: int
) -> None:
    """
    Write each field of a form that *blocks* are, of the names in *files*, to its file.

    Holds no more than one block in memory.

    Args:
        content_type: Of the request, with its boundary.

        blocks: The body of the request.

        files: An existing file for each field.

        max_bytes: How long the body may be.

    Raises:
        UploadError: If it is no such form, is too long, or a field is missing.

        OSError: If a file cannot be written.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise UploadError("the body must be multipart/form-data")
    size = 0
    with ExitStack() as stack:
        form = _Form({name: stack.enter_context(path.open("wb")) for name, path in files.items()})
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        try:
            async for block in blocks:
                size += len(block)
                if size > max_bytes:
                    raise UploadError(f"the body is longer than {max_bytes} bytes", TOO_LARGE)
                # Written in a thread: a disk may be slow, and other requests are not to wait.
                await asyncio.to_thread(parser.write, block)
            parser.finalize()
        except FormParserError as error:
            raise UploadError(f"the form cannot be read: {error}") from error
    if not form.ended or form.received != set(files):
        raise UploadError(f"the form needs the fields {', '.join(files)}, and {form.received or 'none'} came")


class _Form:
    """Follows the parser from part to part; lives for one form."""

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        self._files = files
        self._header = b""
        self._value = b""
        self._file: BinaryIO | None = None
        self.received: set[str] = set()
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._file = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")
            if name in self.received:
                raise UploadError(f"the field {name!r} came twice")
            self._file = self._files.get(name)
            if self._file is not None:
                self.received.add(name)
        self._header = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self.ended = True
