"""Keep voices in Qdrant: for populations that no single machine holds, and for voices that come and go by the minute.

It answers what a `VoiceStore` answers. A search there may be approximate, so it returns candidates alone: these are
scored exactly, normalised and calibrated as those of a file, and the prior is that of the whole population.
"""

import base64
import functools
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import first_line, printable
from .voice import (
    OTHER_MODEL,
    AlreadyEnrolled,
    Fact,
    Index,
    NotEnrolled,
    UnusableVoices,
    Voice,
    checked_name,
    plain,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.http.models import Record, ScoredPoint

COLLECTION = "oskdft-voices"
CANDIDATES = 300  # voices that are scored exactly
# Edges of a voice in the graph, voices that are considered for them, and in a search. With the engine's own values of
# 16, 100 and 300, one in eight of the nearest ten was missed among 100,000 voices: see docs/results/voice_index.md.
EDGES, BUILDING, SEARCHING = 32, 256, 1024
PAGE = 1000  # voices in an answer of the server
TRIES = 20  # of a change that another process overtakes
NAMESPACE = uuid.UUID("6f2f5f0e-3d0b-4c53-9a53-0c8f7d1a5b11")  # of the ids, which are made of the names
EXTRA = "pip install 'modeling-oskdft[qdrant]'"


class _OneAtATime:
    """Let one thread at a time call a client: with a folder, it has one connection to one file."""

    def __init__(self, client: "QdrantClient") -> None:
        self.client, self.lock = client, threading.RLock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        @functools.wraps(method)
        def alone(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  # whatever the method takes and returns
            with self.lock:
                return method(*arguments, **named)

        return alone


class QdrantVoices:
    """Keep voices in a collection of Qdrant, for several processes and machines.

    Args:
        place: address of a server or cluster, such as "http://localhost:6333", or a folder, in which Qdrant's client
            searches exactly and by itself: for one process, and for up to some 20,000 voices.
        key: key of the server; None: none.
        collection: name of the collection; it is made with the first voice.

    Raises:
        ImportError: without qdrant-client.
        ValueError: for a place that cannot be opened.
    """

    def __init__(self, place: str, key: str | None = None, collection: str = COLLECTION) -> None:
        try:
            from qdrant_client import QdrantClient
        except ImportError:
            raise ImportError(f"qdrant-client is not installed, and keeps these voices: {EXTRA}.") from None
        self.place, self.collection = place, collection
        is_address = place.startswith(("http://", "https://"))
        try:
            self.client: Any = (
                QdrantClient(url=place, api_key=key) if is_address else _OneAtATime(QdrantClient(path=place))
            )
        except Exception as error:  # of the client, of gRPC, of the folder's lock
            raise ValueError(f"The voices at '{printable(place)}' cannot be opened: {first_line(error)}.") from None
        self._folder = None if is_address else Path(place)
        self.path: Path | None = None  # it is no file

    def __repr__(self) -> str:
        return f"QdrantVoices('{printable(self.place)}', {len(self)} voices)"

    def __len__(self) -> int:
        return int(self.client.count(self.collection, exact=True).count) if self._is_there() else 0

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def _is_there(self) -> bool:
        return bool(self.client.collection_exists(self.collection))

    # ---- reading ----

    def voices(self) -> Mapping[str, Voice]:
        """Return all voices by name: every one is read, which takes its time for many."""
        return {voice.name: voice for voice in self._all()}

    def get(self, name: str) -> Voice:
        """Return a voice.

        Raises:
            ValueError: for a name that is not enrolled.
        """
        record = self._find(name)
        if record is None:
            raise NotEnrolled(f"'{printable(name)}' is not enrolled: enrol the voice first.")
        return _voice_of(record)

    def near(self, embedding: NDArray[np.float32], most: int = CANDIDATES) -> Index:
        """Return candidates for a recording, with exact vectors.

        Args:
            embedding: (embedding_size,), unit length.
            most: number of candidates.
        """
        if not self._is_there():
            return Index([], np.zeros((0, 0), np.float32), np.zeros(0), 0)
        from qdrant_client import models

        found = self.client.query_points(
            self.collection,
            query=embedding.tolist(),
            limit=max(most, CANDIDATES),
            with_vectors=True,
            search_params=models.SearchParams(hnsw_ef=SEARCHING),
        ).points
        voices = [_voice_of(point) for point in found]
        vectors = np.stack([voice.vector for voice in voices]) if voices else np.zeros((0, 0), np.float32)
        speech = np.asarray([voice.speech for voice in voices])
        return Index([voice.name for voice in voices], vectors, speech, len(self))

    def check(self, fingerprint: str) -> None:
        """Check that all voices are of a model.

        Raises:
            ValueError: for a voice that another model has embedded.
        """
        from qdrant_client import models

        if not self._is_there():
            return
        same = models.FieldCondition(key="fingerprint", match=models.MatchValue(value=fingerprint))
        others, _ = self.client.scroll(
            self.collection, scroll_filter=models.Filter(must_not=[same]), limit=1, with_payload=False
        )
        if others:
            raise UnusableVoices(OTHER_MODEL.format(f"'{printable(self.place)}'"))

    def _all(self) -> Iterator[Voice]:
        place: Any = None
        while self._is_there():
            records, place = self.client.scroll(self.collection, limit=PAGE, offset=place)
            yield from map(_voice_of, records)
            if place is None:
                return

    def _find(self, name: str) -> "Record | None":
        if not self._is_there():
            return None
        found = self.client.retrieve(self.collection, [_id_of(name)])
        return found[0] if found else None

    # ---- changes ----

    def add(self, voice: Voice) -> None:
        """Add a voice of a new name.

        Raises:
            ValueError: for a name that is enrolled already or is no name, and for voices of another model.
        """
        from qdrant_client import models

        named = replace(voice, name=checked_name(voice.name))
        self._make(len(named.vector))
        self.check(named.facts[0].fingerprint)
        if self._put(named, update_mode=models.UpdateMode.INSERT_ONLY):
            return
        raise AlreadyEnrolled(f"'{named.name}' is enrolled already: add recordings with update, or forget it first.")

    def extend(self, voice: Voice) -> Voice:
        """Add recordings to a voice.

        Returns:
            The voice with all recordings.

        Raises:
            ValueError: for a name that is not enrolled, and for recordings of another model.
            TimeoutError: where other processes change the voice all the time.
        """
        from qdrant_client import models

        self.check(voice.facts[0].fingerprint)
        for _ in range(TRIES):
            record = self._find(voice.name)
            if record is None:
                break
            known = _voice_of(record)
            grown = Voice(known.name, np.concatenate([known.embeddings, voice.embeddings]), known.facts + voice.facts)
            # Only while nobody has changed the voice since it was read.
            same = models.MatchValue(value=(record.payload or {})["change"])
            unchanged = models.Filter(must=[models.FieldCondition(key="change", match=same)])
            if self._put(grown, update_mode=models.UpdateMode.UPDATE_ONLY, update_filter=unchanged):
                return grown
        else:
            raise TimeoutError(f"The voice of '{voice.name}' is being changed by other processes: try again.")
        raise NotEnrolled(f"'{printable(voice.name)}' is not enrolled: enrol the voice first.")

    def forget(self, name: str) -> None:
        """Remove a voice.

        In a folder, no byte of it stays in the file. A server marks it, never returns it again, and writes its
        segment anew when enough of it is marked (`deleted_threshold` of the collection's optimizer).

        Raises:
            ValueError: for a name that is not enrolled.
        """
        from qdrant_client import models

        self.get(name)
        self.client.delete(self.collection, models.PointIdsList(points=[_id_of(name)]), wait=True)
        if self._folder is not None:
            file = self._folder / "collection" / self.collection / "storage.sqlite"
            with self.client.lock, closing(sqlite3.connect(file)) as connection:
                connection.execute("VACUUM")

    def rename(self, old: str, new: str) -> None:
        """Give a voice another name.

        Raises:
            ValueError: for a name that is not enrolled, a new one that is enrolled already or is no name.
        """
        self.add(replace(self.get(old), name=new))
        self.forget(old)

    def replace_all(self, voices: list[Voice], expected: Mapping[str, Voice]) -> None:
        """Put other voices in the place of all, one after the other.

        Where that is interrupted, voices of two models are there: `check` refuses them, and the same call mends it.

        Args:
            voices: with distinct names, and embeddings as long as before.
            expected: the voices that were read before; others may not have come or gone since then.

        Raises:
            ValueError: where another process has changed the voices meanwhile, or the embeddings have another length.
        """
        known = self.voices()
        if {name: voice.facts for name, voice in known.items()} != {n: v.facts for n, v in expected.items()}:
            raise ValueError("Another process has changed the voices meanwhile: run the same command again.")
        if known and voices and len(next(iter(known.values())).vector) != len(voices[0].vector):
            raise ValueError("The new embeddings have another length: enrol the voices into another collection.")
        for voice in voices:
            self._make(len(voice.vector))
            self._put(voice)
        for name in set(known) - {voice.name for voice in voices}:
            self.forget(name)

    def _make(self, size: int) -> None:
        """Make the collection where there is none."""
        from qdrant_client import models

        if not self._is_there():
            try:
                graph = models.HnswConfigDiff(m=EDGES, ef_construct=BUILDING)
                shape = models.VectorParams(size=size, distance=models.Distance.DOT, hnsw_config=graph)
                self.client.create_collection(self.collection, vectors_config=shape)
            except Exception:
                if not self._is_there():  # another process was quicker
                    raise

    def _put(self, voice: Voice, **conditions: Any) -> bool:  # noqa: ANN401  # as the client's upsert takes them
        """Write a voice under conditions; returns whether they held."""
        from qdrant_client import models

        if not np.isfinite(voice.embeddings).all():
            raise ValueError(f"The embeddings of '{printable(voice.name)}' are not finite: look at the model.")
        change = uuid.uuid4().hex
        payload = {
            "name": voice.name,
            "change": change,
            "fingerprint": voice.facts[0].fingerprint,
            "facts": [asdict(fact) for fact in voice.facts],
            "embeddings": base64.b64encode(voice.embeddings.astype("<f4").tobytes()).decode(),
        }
        point = models.PointStruct(id=_id_of(voice.name), vector=voice.vector.tolist(), payload=payload)
        self.client.upsert(self.collection, [point], wait=True, **conditions)
        record = self._find(voice.name)
        return record is not None and (record.payload or {}).get("change") == change


def _id_of(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, plain(name)))


def _voice_of(record: "Record | ScoredPoint") -> Voice:
    payload = record.payload or {}
    facts = tuple(Fact(**fact) for fact in payload["facts"])
    rows = np.frombuffer(base64.b64decode(payload["embeddings"]), "<f4").reshape(len(facts), -1)
    return Voice(payload["name"], rows.astype(np.float32), facts)
