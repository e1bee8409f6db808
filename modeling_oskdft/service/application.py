"""Build the application: routes, their descriptions, and what wraps them."""

import functools
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse

from .._version import __version__
from ..verification.verifier import SpeakerVerifier
from .access import Guard
from .batching import BatchingEmbedder
from .bodies import fields_of
from .documentation import page
from .engine import Engine
from .limits import Limits
from .metrics import CONTENT_TYPE, NO_ROUTE, Gauges, Metrics, Stage
from .refusals import Refused, refusal_of
from .schemas import (
    Embed,
    Embedded,
    Failure,
    Forget,
    Identified,
    Identify,
    Judged,
    Models,
    Register,
    Registered,
    Verified,
    Verify,
    Voices,
)
from .score_log import Decision, ScoreLog, calibration_id
from .voice_service import VoiceService, Watch
from .watching import watcher_of

Schema = TypeVar("Schema", bound=BaseModel)
Result = TypeVar("Result")
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": text}
    for status, text in {
        400: "The request or its audio cannot be used.",
        401: "The token is missing or wrong.",
        403: "A path that may not be read.",
        404: "There is no such voice, model or path.",
        408: "The request arrived too slowly.",
        409: "The name is enrolled already.",
        413: "Too much audio.",
        415: "Another content type.",
        429: "Too many requests wait: ask again.",
        500: "A fault of the service.",
        503: "The service is leaving, or took too long.",
        507: "There is no room for another voice.",
    }.items()
}
# Of routes without a body.
FAILURES_OF_WORK: dict[int | str, dict[str, Any]] = {status: FAILURES[status] for status in (401, 429, 500, 503)}


class Application:
    """Hold one service: its engine, its metrics, and the FastAPI application that answers.

    Args:
        verifier: with its voices and its calibration.
        name: name of the model in requests and answers.
        workers: requests that are worked on at the same time.
        limits: of the service.
        token: the token that clients must send; None: none.
        folder: folder whose files may be named by a path; None: no path is read.
        log: where decisions are kept.
    """

    def __init__(
        self,
        verifier: SpeakerVerifier,
        name: str,
        workers: int,
        limits: Limits | None = None,
        token: str | None = None,
        folder: Path | None = None,
        log: ScoreLog | None = None,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self.engine = Engine(workers, self.limits.waiting, self.limits.patience)
        self.log = ScoreLog(None) if log is None else log
        calibration = calibration_id(verifier.calibration)
        self.watcher = watcher_of(verifier.thresholds, verifier.fingerprint(), calibration, self.log.path)
        watch = Watch(self._stage, self._heard, self._decided)
        self.voices = VoiceService(verifier, name, self.limits, folder, watch)
        model, engine = self.voices.model(), self.engine
        gauges = Gauges(lambda: engine.waiting, lambda: engine.taken - engine.waiting, lambda: self.voices.known)
        self.metrics = Metrics(name, model.fingerprint, model.backend, gauges)
        self.fastapi = self._routes(FastAPI(title="OS-KDFT", version=__version__, docs_url=None, redoc_url=None))
        for route in self.fastapi.routes:
            if isinstance(route, APIRoute):
                self.metrics.expect(route.path, {route.status_code or 200, 405, 500, *map(int, route.responses)})
        self.asgi = Guard(self.fastapi, token, self.limits, self._refused_at_the_door)

    def _stage(self, stage: Stage, seconds: float) -> None:
        self.metrics.seconds.labels(stage).observe(seconds)

    def _heard(self, seconds: float, warned: bool) -> None:
        self.metrics.speech.inc(seconds)
        self.metrics.warnings.inc(int(warned))

    def _decided(self, decision: Decision) -> None:
        self.metrics.decided(decision.score, decision.llr, decision.same_speaker)
        self.log.add(decision)
        self.watcher.add(decision)

    def _judged(self) -> Judged:
        """Judge whether the service still decides as it did."""
        verdict, beside = self.watcher.verdict()
        return Judged(beside=beside, **({"verdict": "nothing"} if verdict is None else verdict.as_dict()))

    def _refused(self, refusal: Refused) -> None:
        self.metrics.refusals.labels(refusal.reason).inc()

    def _refused_at_the_door(self, refusal: Refused) -> None:
        self._refused(refusal)
        self.metrics.requests.labels(NO_ROUTE, str(refusal.status)).inc()

    def _routes(self, app: FastAPI) -> FastAPI:
        """Add every route."""
        service = self.voices
        self._add(app, Verify, service.verify, response_model=Verified)
        self._add(app, Embed, service.embed, response_model=Embedded)
        self._add(app, Register, service.register, response_model=Registered)
        self._add(app, Register, service.update, response_model=Registered)
        self._add(app, Identify, service.identify, response_model=Identified)
        self._add(app, Forget, service.forget, response_model=None, status_code=204)

        @app.get("/v1/voice/voices", responses=FAILURES_OF_WORK)
        async def voices() -> Voices:
            """List the enrolled voices."""
            return Voices(voices=await self._work(service.voices))

        @app.get("/v1/monitor", responses=FAILURES_OF_WORK)
        async def monitor() -> Judged:
            """Judge whether the service still decides as it did."""
            return await self._work(self._judged)

        @app.get("/v1/models", responses={401: FAILURES[401]})
        async def models() -> Models:
            """Describe the served model."""
            return Models(data=[service.model()])

        @app.get("/health/live")
        async def live() -> dict[str, str]:
            """Say that the process answers."""
            return {"status": "live"}

        @app.get("/health/ready", responses={503: FAILURES[503]})
        async def ready() -> dict[str, str]:
            """Say whether the service takes requests."""
            if self.engine.is_leaving:
                raise Refused(503, "The service is leaving: ask another one.", "leaving")
            return {"status": "ready"}

        @app.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            return Response(self.metrics.text(), media_type=CONTENT_TYPE)

        @app.get("/docs", include_in_schema=False)
        async def docs() -> HTMLResponse:
            return HTMLResponse(page(app.openapi(), service.name))

        app.middleware("http")(self._count)
        app.add_exception_handler(Refused, self._answer_refusal)
        app.add_exception_handler(HTTPException, self._answer_other)
        app.add_exception_handler(RequestValidationError, self._answer_other)
        return app

    def _add(
        self, app: FastAPI, schema: type[Schema], work: Callable[[Schema], BaseModel | None], **answer: Any
    ) -> None:
        """Add a route with a body, under the name of its work."""

        async def route(request: Request) -> BaseModel | Response:
            asked = await fields_of(request, schema)
            self.voices.check_model(getattr(asked, "model", None))
            done = await self._work(functools.partial(work, asked))
            return Response(status_code=204) if done is None else done

        app.post(f"/v1/voice/{work.__name__}", **_description(schema, work), **answer)(route)

    async def _work(self, work: Callable[[], Result]) -> Result:
        """Do the work of a request in a thread; its errors become answers."""
        try:
            return await self.engine.run(work, lambda seconds: self._stage("waiting", seconds))
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> Refused:
        """Choose what the client is told; the operator reads on stderr what went wrong inside."""
        refusal = refusal_of(error)
        if refusal.status == 500:
            traceback.print_exception(error, file=sys.stderr)
        return refusal

    async def _answer_refusal(self, request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        self._refused(error)
        return error.response()

    async def _answer_other(self, request: Request, error: Exception) -> JSONResponse:
        """Answer what FastAPI itself refuses: another path, another method."""
        status = error.status_code if isinstance(error, HTTPException) else 400
        sentences = {404: "There is no such route: see /docs.", 405: "This route has another method: see /docs."}
        headers = error.headers if isinstance(error, HTTPException) else None
        sentence = sentences.get(status, "The request cannot be read: see /docs.")
        return await self._answer_refusal(request, Refused(status, sentence, "route", headers))

    async def _count(self, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Count requests by route: by those that exist, because a client may ask for any."""
        begin = time.perf_counter()
        try:
            response = await answer(request)
        except Exception as error:  # of a route that does no work in threads
            refusal = self._told(error)
            self._refused(refusal)
            response = refusal.response()
        route = getattr(request.scope.get("route"), "path", NO_ROUTE)
        self.metrics.requests.labels(route, str(response.status_code)).inc()
        if route.startswith("/v1/voice/"):
            self._stage("answering", time.perf_counter() - begin)
        return response


def owner_of(verifier: SpeakerVerifier, batching: bool) -> SpeakerVerifier:
    """Put one owner of the model between the threads and the model, which gathers their waveforms into batches.

    Args:
        verifier: it is changed.
        batching: whether to; without, each thread runs the model itself.
    """
    if batching:
        verifier.embedder = BatchingEmbedder(verifier.embedder)
    return verifier


def _description(schema: type[BaseModel], work: Callable[..., Any]) -> dict[str, Any]:
    """Describe a route with a body of two kinds, which FastAPI cannot infer."""
    body = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = body.pop("$defs", {})
    inlined = _inline(body, definitions)
    content = {"application/json": {"schema": inlined}, "multipart/form-data": {"schema": inlined}}
    first = str(work.__doc__).splitlines()[0]
    return {
        "summary": first,
        "description": str(schema.__doc__),
        "operation_id": work.__name__,
        "responses": FAILURES,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _inline(value: object, definitions: dict[str, Any]) -> object:
    """Put the definitions of a JSON schema where they are referred to."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inline(definitions[value["$ref"].rpartition("/")[2]], definitions)
        return {key: _inline(part, definitions) for key, part in value.items()}
    return [_inline(part, definitions) for part in value] if isinstance(value, list) else value
