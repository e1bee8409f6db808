"""Read the fields of a request: JSON, or multipart with files; audio as base64, as a data URI or as a path."""

import asyncio
import base64
import binascii
import json
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import soundfile
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..audio.loading import SAMPLING_RATE
from ..embedding.recordings import Recording, read_for_embedding
from .limits import Limits
from .refusals import Refused, sentence_about

MOST_FIELDS = 32  # in a form, and in each list or object of JSON
MOST_SAMPLES_A_SECOND = 8 * 48_000  # of all channels: a short recording is decoded whole
Schema = TypeVar("Schema", bound=BaseModel)


class InFolder(BaseModel, extra="forbid"):
    """Name a recording below the folder that the service was started with."""

    path: str


class _InMemory(MultiPartParser):
    """Keep uploads in memory: a voice is not written to a disk, and the body is limited anyway."""

    spool_max_size = 2**40


async def fields_of(request: Request, schema: type[Schema]) -> Schema:
    """Read the fields of a request and check them.

    Args:
        request: with a body of JSON, or of multipart/form-data.
        schema: the fields.

    Raises:
        Refused: with 415 for another content type, with 400 for fields that cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        fields = await asyncio.to_thread(_json_of, await request.body())
    elif kind == "multipart/form-data":
        fields = await _form_of(request, schema)
    else:
        raise Refused(
            415, "The content type must be application/json or multipart/form-data: see /docs.", "content_type"
        )
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise Refused(400, sentence_about(error), "fields") from None


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is no JSON that can be read: see /docs.", "fields") from None
    if not isinstance(fields, dict):
        raise Refused(400, "The body must be a JSON object with fields: see /docs.", "fields")
    if not _is_small(fields):
        raise Refused(400, "The body has too many fields, or lists that are too long: see /docs.", "fields")
    return fields


def _is_small(value: object, depth: int = 3) -> bool:
    """Say whether lists and objects are short and not deep: the check of each part costs time and memory."""
    if isinstance(value, dict | list):
        parts = list(value.values()) if isinstance(value, dict) else value
        return depth > 0 and len(parts) <= MOST_FIELDS and all(_is_small(part, depth - 1) for part in parts)
    return True


async def _form_of(request: Request, schema: type[BaseModel]) -> dict[str, Any]:
    """Read a form; a field that the schema has as a list may come several times."""
    if "boundary=" not in request.headers["content-type"].lower():
        raise Refused(400, "The form has no boundary: send multipart/form-data with one.", "fields")
    parser = _InMemory(request.headers, request.stream(), max_files=MOST_FIELDS, max_fields=MOST_FIELDS)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError):  # of a form that is cut off or no form
        raise Refused(
            400, "The form cannot be read: send each recording as a file of multipart/form-data.", "fields"
        ) from None
    fields: dict[str, Any] = {}
    for name in form:
        values = [await part.read() if isinstance(part, UploadFile) else part for part in form.getlist(name)]
        is_list = name in schema.model_fields and "list" in str(schema.model_fields[name].annotation)
        fields[name] = values if is_list or len(values) > 1 else values[0]
    await form.close()
    return fields


class Reader:
    """Turn audio of a request into a recording.

    Args:
        limits: of the service.
        folder: folder whose files may be named by a path; None: no path is read.
    """

    def __init__(self, limits: Limits, folder: Path | None) -> None:
        self.limits = limits
        self.folder = None if folder is None else folder.resolve()

    def read(self, audio: "str | bytes | InFolder", number: int) -> Recording:
        """Decode and inspect a recording; this takes time, and belongs into a thread.

        Args:
            audio: base64 or a data URI, the bytes of an upload, or a path in the folder of the service.
            number: number of the recording in sentences.

        Raises:
            Refused: for audio that is too long, a path that may not be read, and text that is no base64.
            ValueError: as `read_for_embedding` does.
        """
        if isinstance(audio, InFolder):
            with self._opened(audio.path) as file:  # an open file has no name in sentences
                recording = self._read(file, number)
        else:
            recording = self._read(BytesIO(_bytes_of(audio, number)), number)
        if len(recording.track) > self.limits.seconds * SAMPLING_RATE:
            raise Refused(
                413, f"Recording {number} is longer than {self.limits.seconds:g} s: give a shorter one.", "too_long"
            )
        return recording

    def _read(self, file: BinaryIO, number: int) -> Recording:
        try:
            described = soundfile.info(file)
        except soundfile.LibsndfileError:
            described = None  # of another format, or damaged: reading it says so
        if described is not None and described.channels * described.samplerate > MOST_SAMPLES_A_SECOND:
            raise Refused(
                413, f"Recording {number} has too many channels, or too high a rate: mix it down.", "too_large"
            )
        file.seek(0)
        # A little more than the limit is read: a small file can hold a day of silence.
        return read_for_embedding(file, number, max_seconds=self.limits.seconds + 1)

    def _opened(self, path: str) -> BinaryIO:
        try:
            return self._path_of(path).open("rb")
        except OSError:
            raise Refused(404, "There is no recording at this path that can be read: check it.", "path") from None

    def _path_of(self, path: str) -> Path:
        if self.folder is None:
            raise Refused(403, "This service reads no paths: send the audio itself.", "path")
        try:
            file = (self.folder / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise Refused(
                403, "This path may not be read: name a file in the folder of the service.", "path"
            ) from None
        if not file.is_relative_to(self.folder):
            raise Refused(403, "This path may not be read: name a file in the folder of the service.", "path")
        if not file.is_file():
            raise Refused(404, "There is no recording at this path: check it.", "path")
        return file


def _bytes_of(audio: str | bytes, number: int) -> bytes:
    if isinstance(audio, bytes):
        return audio
    if audio[:8].lower().startswith(("http://", "https://", "ftp://", "file:")):
        raise Refused(
            400, "The service fetches no addresses: send the audio itself, as base64 or as a file.", "address"
        )
    if audio[:5].lower() == "data:":
        head, _, audio = audio.partition(",")
        if not head.lower().endswith(";base64"):
            raise Refused(400, f"Recording {number} is a data URI without base64: encode it so.", "base64")
    try:
        return base64.b64decode("".join(audio.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            400, f"Recording {number} is no base64: send the bytes of an audio file in base64, or a file.", "base64"
        ) from None
