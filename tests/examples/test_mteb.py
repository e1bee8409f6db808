import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from examples.mteb.encoder import SpeakerEncoder
from examples.mteb.evaluate import evaluate
from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.trials import make_trials


def test_mteb_s_average_precision_is_that_of_our_cosines(saved_verifier, manifest):
    few = manifest.where("speaker_id", manifest.speakers[:4])
    trials = make_trials(few.by_speaker())
    scores = evaluate(str(saved_verifier), few, trials)
    verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    names = few.column("utterance_id")
    rows = verifier.embed_waveforms([load_audio(few.audio(row)) for row in range(len(few))])
    of = dict(zip(names, rows, strict=True))
    cosines = [float(of[a] @ of[b]) for a, b in zip(trials.enrolments, trials.tests, strict=True)]
    assert scores["cosine_ap"] == pytest.approx(average_precision_score(trials.labels, cosines), abs=1e-4)


def test_other_rates_and_stereo(saved_verifier):
    encoder = SpeakerEncoder(str(saved_verifier))
    tone = np.sin(2 * np.pi * 220 * np.arange(48000) / 48000).astype(np.float32)
    items = [{"array": tone[::3], "sampling_rate": 16000}, {"array": tone, "sampling_rate": 48000}]
    rows = encoder.encode([{"audio": items[:1]}, {"audio": items[1:]}])
    assert rows.shape == (2, encoder.verifier.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert float(rows[0] @ rows[1]) > 0.99
