"""Describe the fields of requests and answers: LocalAI's words for voices, and ours beside them.

LocalAI measures by cosine distance, 1 - score; `threshold` is a distance in its fields, and so it is here.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..verification.decision import POINTS
from .bodies import InFolder

EXAMPLE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEA…"  # the start of a WAV file
Audio = Annotated[
    str | bytes | InFolder,
    Field(
        description="An audio file: base64, a data URI, an upload of a form, or {'path': …} in the service's folder.",
        examples=[EXAMPLE],
    ),
]
Name = Annotated[str, Field(description="Name of a voice, 1 to 100 letters without slashes.", examples=["Ana"])]
Distance = Annotated[float, Field(ge=0, le=2)]
LIMIT = "Cosine distance up to which the speaker is the same, in the place of the model's threshold."
Share = Annotated[float, Field(gt=0, lt=1)]
Cost = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# A Literal of a tuple is no type to mypy: the names stand once, in the decision.
Point = Annotated[Literal[POINTS], Field(description="Name of the threshold, see docs/decisions.md.")]  # type: ignore[valid-type]


class Asked(BaseModel):
    """Fields of every request."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of the model; it is the one that is served.")


class Verify(Asked):
    """Are two recordings of one speaker, or is a recording of an enrolled voice?"""

    audio1: Audio | None = Field(None, description="A recording; or give `name`.")
    audio2: Audio
    name: Name | None = Field(None, description="An enrolled voice, in the place of audio1.")
    threshold: Distance | None = Field(None, description=LIMIT)
    operating_point: Point = "eer"
    prior: Share = Field(0.5, description="Probability of one speaker before the recordings are heard.")
    c_miss: Cost = Field(1.0, description="Cost of a rejected speaker, for the operating point bayes.")
    c_fa: Cost = Field(1.0, description="Cost of an accepted stranger, for the operating point bayes.")


class Embed(Asked):
    """What is the embedding of a recording?"""

    audio: Audio


class Register(Asked):
    """Enrol a voice, or add recordings to it."""

    name: Name
    audio: Audio | None = Field(None, description="A recording of the speaker; or give `audios`.")
    audios: list[Audio] = Field([], description="Several recordings of the speaker.")
    consent: str = Field("", max_length=500, description="Note of consent, kept with the voice.")


class Identify(Asked):
    """Whose voice is in a recording?"""

    audio: Audio
    top_k: int = Field(5, ge=1, le=1000, description="Voices that are returned, at most.")
    threshold: Distance | None = Field(None, description=LIMIT)


class Forget(Asked):
    """Remove a voice: give its id, or its name."""

    id: str | None = Field(None, description="As register returns it.")
    name: Name | None = None


class Answer(BaseModel):
    """Fields of every answer about recordings."""

    model: str
    fingerprint: str = Field(description="Fingerprint of the weights that answered.")
    processing_time_ms: float
    warnings: list[str] = Field(description="A sentence for each flaw of the recordings or of the decision.")


class Verified(Answer):
    """The answer of verify."""

    verified: bool | None = Field(description="Whether the speaker is the same; null where nothing can be said.")
    distance: float = Field(description="1 - score.")
    threshold: float | None = Field(description="Distance up to which the speaker is the same.")
    confidence: float | None = Field(description="How far the distance is below the threshold, in per cent of it.")
    score: float = Field(description="Cosine of the two embeddings.")
    llr: float | None = Field(description="Log-likelihood ratio, natural; null without a calibration.")
    probability: float | None = Field(description="Probability of one speaker at the stated prior.")
    speech: float = Field(description="Seconds of speech in the shorter side.")


class Embedded(Answer):
    """The answer of embed."""

    embedding: list[float] = Field(description="Unit length.")
    dim: int
    speech: float = Field(description="Seconds of speech.")


class Registered(BaseModel):
    """The answer of register and update."""

    id: str
    name: str
    registered_at: str
    recordings: int
    speech: float
    warnings: list[str]


class Matched(BaseModel):
    """A voice near to a recording."""

    id: str
    name: str
    distance: float
    confidence: float | None
    match: bool | None
    score: float
    llr: float | None
    probability: float | None = Field(description="At the prior 1/N of N voices.")


class Identified(Answer):
    """The answer of identify: the nearest voice first."""

    matches: list[Matched]
    margin: float | None


class Known(BaseModel):
    """An enrolled voice."""

    id: str
    name: str
    recordings: int
    speech: float


class Voices(BaseModel):
    """The answer of voices."""

    voices: list[Known]


class Judged(BaseModel):
    """The answer of monitor, see docs/service.md."""

    verdict: str = Field(description="holds, look, recalibrate, train anew, too few, or nothing to compare with.")
    beside: str = Field(description="What the last decisions were compared with.")
    decisions: int = 0
    reasons: list[str] = []
    command: str = ""
    share_of_targets: float | None = None
    accepted: dict[str, float | None] | None = None
    rejected: dict[str, float | None] | None = None
    near: float | None = None
    near_expected: float | None = None
    warned: float | None = None


class Model(BaseModel):
    """The served model, as OpenAI describes one."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str = "oskdft"
    fingerprint: str
    embedding_size: int
    backend: str
    calibrated: bool


class Models(BaseModel):
    """The answer of models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Fault(BaseModel):
    """What went wrong."""

    code: int
    message: str = Field(description="One sentence: what was given, what is wanted.")
    type: str


class Failure(BaseModel):
    """The answer to a request that failed."""

    error: Fault
