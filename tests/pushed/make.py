"""Write the folder `0.1.0`: a verifier as version 0.1.0 pushed it, with the embeddings that it gave then.

It was run once, before the package moved to the folders of today; running it again would test nothing.
"""

import json
from pathlib import Path

import torch
from transformers import Wav2Vec2FeatureExtractor

from modeling_oskdft import __version__
from tests.tiny import tiny_verifier

FOLDER = Path(__file__).parent / __version__
ENCODER = {"conv_dim": (8,) * 7, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def main() -> None:
    """Write the model, its code, thresholds, a speaker adapter and the embeddings of two tones."""
    from modeling_oskdft.scoring.thresholds import Thresholds

    verifier = tiny_verifier("wavlm", False, "group", encoder=ENCODER, head_type="ecapa_tdnn")
    verifier.save_pretrained(FOLDER)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(FOLDER)
    verifier.save_speaker_adapter(FOLDER / "site")
    Thresholds({"eer": 0.5}, 4, 2, 4, "made-up trials", verifier.fingerprint()).save(FOLDER)
    waveforms = tones()
    expected = {
        "version": __version__,
        "embeddings": verifier(waveforms).embeddings.tolist(),
        "hidden_states": verifier.oskdft(waveforms, path="kd").last_hidden_state.mean(1).tolist(),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def tones() -> torch.Tensor:
    """Two sums of sines, (2, 8000), without a random number."""
    seconds = torch.arange(8000) / 16000
    pitches = torch.tensor([[110.0, 330.0, 1250.0], [190.0, 570.0, 2100.0]])
    return torch.sin(2 * torch.pi * pitches[..., None] * seconds).sum(1) / 3


if __name__ == "__main__":
    main()
