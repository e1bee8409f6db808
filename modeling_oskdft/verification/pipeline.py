"""Embed recordings in a pipeline of transformers, with the task "speaker-embedding".

Example:
    >>> from transformers import pipeline
    >>> from modeling_oskdft.verification.pipeline import register_speaker_pipeline
    >>> register_speaker_pipeline()
    >>> embed = pipeline("speaker-embedding", model="org/student")  # doctest: +SKIP
    >>> embedding = embed("a.flac")  # (embedding_size,), unit length  # doctest: +SKIP
    >>> embeddings = embed(["a.flac", "b.flac"], batch_size=2)  # doctest: +SKIP

No task of transformers fits a verifier: "audio-classification" wants class scores and labels, "feature-extraction"
wants a tokenizer. `embed.save_pretrained(folder)` writes this file into the folder. There,
`pipeline("speaker-embedding", model=folder, trust_remote_code=True)` needs no registration, but this package.
"""

from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForAudioXVector, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

# Not relative, because this file is copied by `Pipeline.save_pretrained` into folders without the rest of the package.
from modeling_oskdft.audio.loading import AudioSource, load_audio, name_of
from modeling_oskdft.audio.speech import speech_frames

TASK = "speaker-embedding"


class SpeakerEmbeddingPipeline(Pipeline):
    """Embed recordings: each gives (embedding_size,), float32, unit length, alone and in a batch.

    A recording is a path, bytes, an open file, an array at 16 kHz, (array, rate), or a `datasets` audio dict or
    decoder. The options are the ones of every pipeline, such as `device` and `batch_size`.
    """

    _load_feature_extractor = True
    _load_tokenizer = _load_processor = _load_image_processor = _load_video_processor = False

    def _sanitize_parameters(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {}  # no options besides the ones of every pipeline

    def preprocess(self, recording: AudioSource) -> dict[str, torch.Tensor]:
        """Read a recording. transformers pads the rows of a batch.

        Args:
            recording: see the class.

        Returns:
            `input_values` and `attention_mask`, (1, samples).

        Raises:
            ValueError: for a silent recording, and as `load_audio` does.
            OSError, TypeError: as `load_audio` does.
        """
        waveform = load_audio(recording)
        if not speech_frames(waveform).any():
            name = name_of(recording) if isinstance(recording, str | PathLike) else "A recording"
            raise ValueError(f"{name} is silent: give a recording with speech in it.")
        rate = self.feature_extractor.sampling_rate
        return self.feature_extractor(waveform, sampling_rate=rate, return_attention_mask=True, return_tensors="pt")

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(inputs["input_values"].to(self.model.dtype), inputs["attention_mask"]).embeddings

    def postprocess(self, embeddings: torch.Tensor) -> NDArray[np.float32]:
        """Turn (1, embedding_size) into a vector of unit length."""
        return torch.nn.functional.normalize(embeddings.float())[0].numpy()


def register_speaker_pipeline() -> None:
    """Register the task "speaker-embedding" with `transformers.pipeline`; a second call changes nothing."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=SpeakerEmbeddingPipeline, pt_model=(AutoModelForAudioXVector,), type="audio"
        )
