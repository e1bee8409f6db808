"""Embed two recordings with transformers alone, in one batch, and print the cosine of their embeddings.

    python examples/downstream/embeddings.py a.flac b.flac --model org/student

It needs transformers, torch and soundfile. modeling_oskdft need not be installed: a saved verifier contains its code.
trust_remote_code runs that code: read it before you use a model of an author whom you do not know.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModel


def embed(name: str, paths: Sequence[str]) -> torch.Tensor:
    """Embed recordings in one batch; the attention mask keeps the padding out of the result.

    Args:
        name: folder or repository of a saved verifier.
        paths: recordings, 16 kHz and one channel.

    Returns:
        (recordings, embedding_size), rows of unit length.
    """
    waveforms = [read(path) for path in paths]
    extract = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=True)
    model = AutoModel.from_pretrained(name, trust_remote_code=True, dtype="float32")
    inputs = extract(waveforms, sampling_rate=16000, padding=True, return_attention_mask=True, return_tensors="pt")
    with torch.inference_mode():
        return torch.nn.functional.normalize(model(**inputs).embeddings)


def read(path: str) -> NDArray[np.float32]:
    """Read a recording as (samples,).

    Raises:
        ValueError: it has another rate than 16 kHz or several channels; `load_audio` of modeling_oskdft converts both.
    """
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if (rate, samples.shape[1]) != (16000, 1):
        raise ValueError(f"'{path}' has {rate} Hz and {samples.shape[1]} channels: 16000 Hz and one are needed.")
    return samples[:, 0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed both recordings and print the cosine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="a recording, 16 kHz mono: wav, flac or ogg")
    parser.add_argument("second", help="another one, of any length")
    parser.add_argument("--model", required=True, help="folder or repository of a saved verifier")
    options = parser.parse_args(arguments)
    try:
        first, second = embed(options.model, [options.first, options.second])
    except (ValueError, OSError, soundfile.SoundFileError) as error:
        parser.exit(2, f"{parser.prog}: {str(error).splitlines()[0]}\n")
    print(f"cosine {float(first @ second):.4f}: 1 for one recording twice, about 0 for unlike voices")


if __name__ == "__main__":
    main()
