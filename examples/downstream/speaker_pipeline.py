"""Embed recordings with a pipeline of transformers, and print a line for each.

    python examples/downstream/speaker_pipeline.py a.flac b.flac --model org/student

The pipeline is in the package: see `modeling_oskdft/verification/pipeline.py` for the audio that it takes and for
`save_pretrained`, which makes a folder that needs no registration.
"""

import argparse
from collections.abc import Sequence

from transformers import pipeline

from modeling_oskdft.verification.pipeline import register_speaker_pipeline


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed the recordings in batches, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", help="wav, flac, ogg or mp3, any rate and channels")
    parser.add_argument("--model", required=True, help="folder or repository of a saved verifier")
    options = parser.parse_args(arguments)
    register_speaker_pipeline()
    try:
        embed = pipeline("speaker-embedding", model=options.model)
        embeddings = embed(options.recordings, batch_size=8)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {str(error).splitlines()[0]}\n")
    for recording, embedding in zip(options.recordings, embeddings, strict=True):
        print(recording, " ".join(f"{value:.4f}" for value in embedding))


if __name__ == "__main__":
    main()
