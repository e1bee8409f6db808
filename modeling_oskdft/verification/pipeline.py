"""A `speaker-embedding` pipeline for transformers: recordings in, vectors of unit length out.

    python examples/downstream/speaker_pipeline.py a.flac b.flac --model org/student

Importing this file registers the task, and then it is used as every other pipeline:

    import speaker_pipeline
    from transformers import pipeline

    embed = pipeline("speaker-embedding", model="org/student", trust_remote_code=True)
    embedding = embed("a.flac")  # a path, bytes, an array at 16 kHz, (array, rate), or a `datasets` audio dict
    embeddings = embed(["a.flac", "b.flac"], batch_size=2)

No task of transformers fits a verifier: "audio-classification" wants class scores and labels, "feature-extraction"
wants a tokenizer. `embed.save_pretrained(folder)` writes this file into the folder, which then needs no import:
`pipeline("speaker-embedding", model=folder, trust_remote_code=True)`, where modeling_oskdft is installed.
"""

import argparse
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForAudioXVector, Pipeline, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from modeling_oskdft.audio.loading import AudioSource, load_audio
from modeling_oskdft.audio.speech import speech_frames

TASK = "speaker-embedding"


class SpeakerEmbeddingPipeline(Pipeline):
    """Each recording gives (embedding_size,), float32: in a batch what it gives alone."""

    _load_feature_extractor = True
    _load_tokenizer = _load_processor = _load_image_processor = _load_video_processor = False

    def _sanitize_parameters(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {}  # no option but those of every pipeline

    def preprocess(self, recording: AudioSource) -> dict[str, torch.Tensor]:
        """A row of samples and its mask; transformers pads rows to a batch."""
        waveform = load_audio(recording)
        if not speech_frames(waveform).any():
            name = f"'{recording}'" if isinstance(recording, str | PathLike) else "A recording"
            raise ValueError(f"{name} is silent: give a recording with speech in it.")
        rate = self.feature_extractor.sampling_rate
        return self.feature_extractor(waveform, sampling_rate=rate, return_attention_mask=True, return_tensors="pt")

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(inputs["input_values"].to(self.model.dtype), inputs["attention_mask"]).embeddings

    def postprocess(self, embeddings: torch.Tensor) -> NDArray[np.float32]:
        """(1, embedding_size) to a vector of unit length."""
        return torch.nn.functional.normalize(embeddings.float())[0].numpy()


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=SpeakerEmbeddingPipeline, pt_model=(AutoModelForAudioXVector,), type="audio"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed the recordings in batches, print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", help="wav, flac, ogg or mp3, any rate and channels")
    parser.add_argument("--model", required=True, help="folder or repository of a saved verifier")
    options = parser.parse_args(arguments)
    try:
        embed = pipeline(TASK, model=options.model, trust_remote_code=True)
        embeddings = embed(options.recordings, batch_size=8)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {str(error).splitlines()[0]}\n")
    for recording, embedding in zip(options.recordings, embeddings, strict=True):
        print(recording, " ".join(f"{value:.4f}" for value in embedding))


if __name__ == "__main__":
    main()
