"""Store voices in one file that several processes may change at the same time: names, embeddings and their facts.

The file is a safetensors file, or that file encrypted with AES-256-GCM. Every change writes it anew, whole or not at
all, so that a voice that is forgotten leaves no byte in it.
"""

import base64
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ..errors import printable
from ..files import remove_partials, whole_file
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
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCHEMA = "1"
ENCRYPTED = b"OSKDFT-VOICES-1\n"  # start of an encrypted file
NONCE = 12  # bytes, as AES-GCM wants (NIST SP 800-38D)
PATIENCE = 30.0  # seconds that a process waits for another one's change


class VoiceStore:
    """Keep voices in a file, or in memory.

    Args:
        path: the file; None: in memory, for this object alone. It is made by the first change.
        key: key of the encryption, as `new_key` makes it; None: the file is not encrypted.
        patience: seconds to wait for a change of another process.

    Raises:
        ImportError: for a key without the package cryptography.
        ValueError: for a key of another form.
    """

    def __init__(
        self, path: str | Path | None = None, key: str | bytes | None = None, patience: float = PATIENCE
    ) -> None:
        self.path = None if path is None else Path(path)
        self.patience = patience
        self._cipher = None if key is None else _cipher_of(key)
        self._voices: dict[str, Voice] = {}
        self._version: object = None
        self._index: Index | None = None
        self._lock = threading.RLock()  # of the threads of this process

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}  # a lock has no copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        place = "in memory" if self.path is None else f"'{printable(str(self.path))}'"
        return f"VoiceStore({place}, {len(self)} voices)"

    def __len__(self) -> int:
        return len(self.voices())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and plain(name) in self.voices()

    def voices(self) -> Mapping[str, Voice]:
        """Return the voices by name; the file is read again when another process has changed it.

        Raises:
            ValueError: for a damaged file, and for an encrypted one without its key.
        """
        if self.path is None:
            return self._voices
        with self._lock:
            version = _version_of(self.path)
            if version != self._version:
                self._voices, self._index = self._read(), None
                self._version = version
            return self._voices

    def get(self, name: str) -> Voice:
        """Return a voice.

        Raises:
            ValueError: for a name that is not enrolled.
        """
        voices, wanted = self.voices(), plain(name)
        if wanted not in voices:
            raise NotEnrolled(f"'{printable(name)}' is not enrolled: {_known(voices)}.")
        return voices[wanted]

    def near(self, embedding: NDArray[np.float32], most: int = 0) -> Index:
        """Return all voices: the search among them is exact."""
        return self.index()

    def index(self) -> Index:
        """Return the vectors of all voices, in one array."""
        with self._lock:
            voices = self.voices()
            if self._index is None:
                vectors = [voice.vector for voice in voices.values()]
                speech = np.asarray([voice.speech for voice in voices.values()])
                stacked = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
                self._index = Index(list(voices), stacked, speech)
            return self._index

    def check(self, fingerprint: str) -> None:
        """Check that the voices are of a model.

        Args:
            fingerprint: fingerprint of the model.

        Raises:
            ValueError: for a voice that another model has embedded.
        """
        for voice in self.voices().values():
            if any(fact.fingerprint != fingerprint for fact in voice.facts):
                raise UnusableVoices(OTHER_MODEL.format(self._place))

    def add(self, voice: Voice) -> None:
        """Add a voice of a new name.

        Raises:
            ValueError: for a name that is enrolled already or is no name.
            TimeoutError: when another process holds the file for too long.
        """
        name = checked_name(voice.name)
        with self._changing() as voices:
            self._check_fits(voice, voices)
            if name in voices:
                raise AlreadyEnrolled(f"'{name}' is enrolled already: add recordings with update, or forget it first.")
            voices[name] = replace(voice, name=name)

    def extend(self, voice: Voice) -> Voice:
        """Add recordings to a voice.

        Args:
            voice: its new recordings.

        Returns:
            The voice with all recordings.

        Raises:
            ValueError: for a name that is not enrolled.
            TimeoutError: as `add`.
        """
        name = plain(voice.name)
        with self._changing() as voices:
            self._check_fits(voice, voices)
            known = _of(voices, name)
            embeddings = np.concatenate([known.embeddings, voice.embeddings])
            voices[name] = Voice(name, embeddings, known.facts + voice.facts)
            return voices[name]

    def forget(self, name: str) -> None:
        """Remove a voice; no byte of it stays in the file.

        The blocks of the file that stood there before are freed, not overwritten: that is the disk's matter.

        Raises:
            ValueError: for a name that is not enrolled.
            TimeoutError: as `add`.
        """
        with self._changing() as voices:
            del voices[_of(voices, plain(name)).name]

    def rename(self, old: str, new: str) -> None:
        """Give a voice another name.

        Raises:
            ValueError: for a name that is not enrolled, a new one that is enrolled already or is no name.
            TimeoutError: as `add`.
        """
        name = checked_name(new)
        with self._changing() as voices:
            known = _of(voices, plain(old))
            if name in voices:
                raise AlreadyEnrolled(f"'{name}' is enrolled already: choose another name, or forget it first.")
            del voices[known.name]
            voices[name] = replace(known, name=name)

    def replace_all(self, voices: list[Voice], expected: Mapping[str, Voice]) -> None:
        """Put other voices in the place of all.

        Args:
            voices: with distinct names.
            expected: the voices that were read before; others may not have come or gone since then.

        Raises:
            ValueError: where another process has changed the voices meanwhile.
            TimeoutError: as `add`.
        """
        with self._changing() as known:
            if {name: voice.facts for name, voice in known.items()} != {n: v.facts for n, v in expected.items()}:
                raise ValueError(f"Another process has changed {self._place} meanwhile: run the same command again.")
            known.clear()
            known.update({voice.name: voice for voice in voices})

    def _check_fits(self, voice: Voice, voices: Mapping[str, Voice]) -> None:
        """Refuse vectors that are not finite, or of another model than the stored ones."""
        if not np.isfinite(voice.embeddings).all():
            raise ValueError(f"The embeddings of '{printable(voice.name)}' are not finite: look at the model.")
        for known in voices.values():
            if {(fact.fingerprint, fact.size) for fact in known.facts + voice.facts} != {
                (known.facts[0].fingerprint, known.facts[0].size)
            }:
                raise UnusableVoices(OTHER_MODEL.format(self._place))

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Voice]]:
        """Give the voices to change; they are written when the block ends without error."""
        if self.path is not None:
            with self._changing_file() as voices:
                yield voices
            return
        with self._lock:
            voices = dict(self._voices)
            yield voices
            self._voices, self._index = voices, None

    @contextmanager
    def _changing_file(self) -> Iterator[dict[str, Voice]]:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Of the file that a link leads to: all names of one file have one lock.
        lock = FileLock(f"{os.path.realpath(self.path)}.lock", timeout=self.patience)
        try:
            lock.acquire()
        except Timeout:
            raise TimeoutError(
                f"{self._place} is being changed by another process for more than {self.patience:g} s: try again."
            ) from None
        try:
            # After the lock of the file, so that threads can read while this one waits for it.
            with self._lock:
                remove_partials(self.path)  # of processes that were killed: they may hold voices
                voices = dict(self._read())
                yield voices
                self._write(voices)
                self._voices, self._index, self._version = voices, None, _version_of(self.path)
        finally:
            lock.release()

    @property
    def _place(self) -> str:
        return "the store in memory" if self.path is None else f"'{printable(str(self.path))}'"

    # ---- the file ----

    def _read(self) -> dict[str, Voice]:
        assert self.path is not None
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        if content.startswith(ENCRYPTED):
            content = self._decrypted(content)
        elif self._cipher is not None:
            raise UnusableVoices(f"{self._place} is not encrypted: open it without a key.")
        try:
            return _voices_in(content)
        except Exception as error:  # a damaged file can raise any error
            raise UnusableVoices(
                f"{self._place} is no store of voices that can be read ({type(error).__name__}): restore it from a "
                "copy, or enrol into a new file."
            ) from None

    def _decrypted(self, content: bytes) -> bytes:
        if self._cipher is None:
            raise UnusableVoices(f"{self._place} is encrypted: give its key.")
        from cryptography.exceptions import InvalidTag

        start = len(ENCRYPTED)
        try:
            return bytes(self._cipher.decrypt(content[start : start + NONCE], content[start + NONCE :], ENCRYPTED))
        except (InvalidTag, ValueError):
            raise UnusableVoices(
                f"The key does not open {self._place}: give the key that it was written with, or restore the file "
                "where it is damaged."
            ) from None

    def _write(self, voices: Mapping[str, Voice]) -> None:
        assert self.path is not None
        content = _bytes_of(voices)
        if self._cipher is not None:
            nonce = os.urandom(NONCE)
            content = ENCRYPTED + nonce + self._cipher.encrypt(nonce, content, ENCRYPTED)
        with whole_file(self.path) as partial:
            with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # the name must not show a file that is not on the disk yet


def new_key() -> str:
    """Make a key for an encrypted store: 32 random bytes in base64."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _of(voices: Mapping[str, Voice], name: str) -> Voice:
    if name not in voices:
        raise NotEnrolled(f"'{printable(name)}' is not enrolled: {_known(voices)}.")
    return voices[name]


def _known(voices: Mapping[str, Voice]) -> str:
    if not voices:
        return "nobody is; enrol a voice first"
    shown = [f"'{name}'" for name in list(voices)[:5]]
    return f"there are {', '.join(shown)}{' and others' if len(voices) > 5 else ''}"


def _version_of(path: Path) -> object:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _cipher_of(key: str | bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ImportError(
            "cryptography is not installed, and encrypts stores: pip install 'modeling-oskdft[encryption]'."
        ) from None
    try:
        raw = base64.urlsafe_b64decode(key)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ValueError("The key is not 32 bytes in base64: make one with `oskdft voices key`.")
    return AESGCM(raw)


def _bytes_of(voices: Mapping[str, Voice]) -> bytes:
    """Write all voices as safetensors: rows of embeddings, and the facts as JSON in an array of bytes."""
    from safetensors.numpy import save

    records = [{"name": voice.name, "recordings": [asdict(fact) for fact in voice.facts]} for voice in voices.values()]
    text = json.dumps(records, ensure_ascii=False).encode()
    rows = [voice.embeddings.astype(np.float32) for voice in voices.values()]
    # A header holds 100 MB at most, so the facts are no metadata of the header.
    tensors: dict[str, np.ndarray] = {
        "embeddings": np.concatenate(rows) if rows else np.zeros((0, 0), np.float32),
        "facts": np.frombuffer(text, np.uint8),
    }
    return bytes(save(tensors, {"format": "oskdft-voices", "schema": SCHEMA}))


def _voices_in(content: bytes) -> dict[str, Voice]:
    from safetensors.numpy import load

    tensors = load(content)
    embeddings, records = tensors["embeddings"], json.loads(tensors["facts"].tobytes())
    voices: dict[str, Voice] = {}
    row = 0
    for record in records:
        facts = tuple(Fact(**fact) for fact in record["recordings"])
        rows = embeddings[row : row + len(facts)]
        if not facts or len(rows) != len(facts) or not np.isfinite(rows).all():
            raise ValueError
        voices[str(record["name"])] = Voice(str(record["name"]), rows, facts)
        row += len(facts)
    if row != len(embeddings):
        raise ValueError
    return voices
