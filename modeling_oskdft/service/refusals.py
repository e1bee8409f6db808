"""Turn errors into answers of HTTP: a status, and one sentence in the form that LocalAI and OpenAI use."""

import errno
from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationError
from starlette.responses import JSONResponse

from ..errors import WRONG_INPUT, first_line, printable, sentence_of
from ..verification.voice import AlreadyEnrolled, NotEnrolled, UnusableVoices

# Why a request is refused, for the metrics: what it asks for, its audio, who asks and how, the state of the service.
OfContent = Literal["fields", "model", "route", "taken", "unknown"]
OfAudio = Literal["address", "base64", "content_type", "input", "path", "too_long"]
OfClient = Literal["gone", "page", "slow", "token", "too_large"]
OfService = Literal["busy", "fault", "files", "full", "late", "leaving", "locked", "memory", "voices"]
Reason = Literal[OfContent, OfAudio, OfClient, OfService]


class Refused(Exception):
    """A request that is answered with a sentence instead of a result.

    Args:
        status: of HTTP.
        sentence: for people.
        reason: why, as the metrics count it.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, sentence: str, reason: Reason, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.reason, self.headers = status, sentence, reason, dict(headers or {})

    def response(self) -> JSONResponse:
        """Write the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        body = {"error": {"code": self.status, "message": self.sentence, "type": kind}}
        return JSONResponse(body, self.status, self.headers)


def refusal_of(error: Exception) -> Refused:
    """Choose the status for an error of the verifier; a fault of ours is 500, and its text stays here.

    Args:
        error: what the work raised.

    Returns:
        What the client is told.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "There is no room on the disk of the service: voices are as they were before.", "full")
    if isinstance(error, TimeoutError):
        return Refused(503, f"{first_line(error)}.", "locked", {"Retry-After": "1"})
    if isinstance(error, OSError) and error.errno is not None:
        return Refused(500, "The service cannot use one of its files: its operator must look at it.", "files")
    if isinstance(error, UnusableVoices):
        return Refused(500, "The service cannot use its voices: its operator must look at them.", "voices")
    if isinstance(error, NotEnrolled):  # its sentence has the names of those who are
        return Refused(404, "This name is not enrolled: register the voice first.", "unknown")
    code, sentence = sentence_of(error)
    if isinstance(error, AlreadyEnrolled):
        return Refused(409, sentence, "taken")
    if code == WRONG_INPUT and not isinstance(error, ImportError):
        return Refused(400, sentence, "input")
    return Refused(500, "The service met a fault of its own: its operator must look at it.", "fault")


def sentence_about(error: ValidationError) -> str:
    """Write what is wrong with the fields of a request.

    Args:
        error: as pydantic raises it.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = printable(str(first["loc"][0] if first["loc"] else "body"))[:100]
    if first["type"] == "missing":
        return f"The field {name} is missing: give it."
    if first["type"] == "extra_forbidden":
        return f"There is no field {name} here: leave it out; see /docs."
    return f"The field {name} cannot be read ({first['msg'][0].lower()}{first['msg'][1:]}): see /docs."
