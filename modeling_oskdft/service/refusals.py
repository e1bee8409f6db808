"""Turn errors into answers of HTTP: a status, and one sentence in the form that LocalAI and OpenAI use."""

import errno
from collections.abc import Mapping

from pydantic import ValidationError
from starlette.responses import JSONResponse

from ..errors import WRONG_INPUT, first_line, sentence_of


class Refused(Exception):
    """A request that is answered with a sentence instead of a result.

    Args:
        status: of HTTP.
        sentence: for people.
        reason: one word for the metrics.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, sentence: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
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
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "There is no room to keep the voice: the voices are as they were before.", "full")
    if isinstance(error, TimeoutError):
        return Refused(503, f"{first_line(error)}.", "locked", {"Retry-After": "1"})
    if isinstance(error, OSError) and error.errno is not None:
        return Refused(500, "The service cannot use one of its files: its operator must look at it.", "files")
    code, sentence = sentence_of(error)
    if code == WRONG_INPUT and not isinstance(error, ImportError):
        status = 404 if "is not enrolled" in sentence else 409 if "is enrolled already" in sentence else 400
        if status == 404:  # the sentence goes on with the names of those who are
            sentence = f"{sentence.partition(' is not enrolled')[0]} is not enrolled: register the voice first."
        return Refused(status, sentence, {404: "unknown", 409: "taken"}.get(status, "input"))
    return Refused(500, "The service met a fault of its own: its operator must look at it.", "fault")


def sentence_about(error: ValidationError) -> str:
    """Write what is wrong with the fields of a request.

    Args:
        error: as pydantic raises it.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or str(part).isidentifier())
    if first["type"] == "missing":
        return f"The field {name} is missing: give it."
    if first["type"] == "extra_forbidden":
        return f"There is no field {name[:100]} here: leave it out; see /docs."
    return f"The field {name[:100] or 'body'} cannot be read ({first['msg'][0].lower()}{first['msg'][1:]}): see /docs."
