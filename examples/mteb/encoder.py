"""Wrap a verifier as an encoder of MTEB: audio in, embeddings of unit length out."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SpeakerEncoder(AbsEncoder):
    """Embed the audio of MTEB's tasks with a verifier.

    Args:
        model_name: folder or repository of the verifier.
        revision: branch, tag or commit of the repository.
        device: device of torch; None: the CPU.
        arguments: others of MTEB, which have no effect.
    """

    def __init__(
        self, model_name: str, revision: str | None = None, device: str | None = None, **arguments: object
    ) -> None:
        self.verifier = SpeakerVerifier.from_pretrained(model_name, revision, device)
        public = model_name if model_name.count("/") == 1 else f"oskdft/{model_name.rstrip('/').rpartition('/')[2]}"
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": public,
                "revision": revision or self.verifier.fingerprint()[:16],
                "modalities": ["audio"],
                "embed_dim": self.verifier.embedding_size,
                "framework": ["PyTorch", "Transformers"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(self, inputs: Iterable[Mapping[str, Any]], **arguments: object) -> "NDArray[np.float32]":
        """Embed the audio of all batches, whole recordings at any rate.

        Args:
            inputs: batches, whose `audio` is a list of items with `array` and `sampling_rate`.
            arguments: names of the task, which have no effect.

        Returns:
            (recordings, embedding_size), unit length.
        """
        rows = []
        for batch in inputs:
            waveforms = [load_audio((np.asarray(item["array"]), item["sampling_rate"])) for item in batch["audio"]]
            rows.append(self.verifier.embed_waveforms(waveforms))
        return np.concatenate(rows)
