import json

import numpy as np
import pytest
import soundfile

from examples import robustness
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials, write_trials
from tests.scoring.test_calibration import calibration
from tests.tiny import save_verifier


@pytest.fixture(scope="module")
def results(tmp_path_factory, voices, feature_extractor):
    place = tmp_path_factory.mktemp("robustness")
    fingerprint = save_verifier(place / "model", feature_extractor).fingerprint()
    calibration(fingerprint=fingerprint).save(place / "model")
    (place / "noise/noise").mkdir(parents=True)
    soundfile.write(place / "noise/noise/a.wav", np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    write_trials(make_trials(load_manifest(voices).by_speaker(), most=12), place / "trials.txt")
    options = ["--model", place / "model", "--data", voices, "--trials", place / "trials.txt"]
    options += ["--noise", place / "noise", "--rooms", place / "none", "--out", place / "out"]
    save_verifier(place / "other", feature_extractor, adapter_size=3)
    options += ["--beside", f"copy={place / 'model'}", "--beside", f"other={place / 'other'}"]
    robustness.main([str(option) for option in options])
    return place


def test_every_condition_has_a_rate_and_an_interval(results):
    values = json.loads((results / "out.json").read_text())
    rows = {(row["kind"], row["condition"]): row for row in values["rows"]}
    assert {("noise", "0 dB"), ("codec", "G.711 A-law"), ("channel", "8 kHz"), ("speed", "+5 %")} <= set(rows)
    for row in rows.values():
        assert row["student"]["eer_low"] <= row["student"]["eer"] <= row["student"]["eer_high"]
        assert row["student"]["cllr"] > 0 and 0 <= row["warned"] <= 1
    assert rows["level", "-20 dB"]["student"]["eer"] == pytest.approx(rows["clean", "as recorded"]["student"]["eer"])
    page = (results / "out.md").read_text()
    assert (
        "| noise, 0 dB | " in page and (results / "out_dark.png").is_file() and "What hurts the student most" in page
    )


def test_models_beside_are_compared_on_the_same_draws(results):
    values = json.loads((results / "out.json").read_text())
    for row in values["rows"]:
        assert row["copy"]["difference_low"] == row["copy"]["difference_high"] == 0
        assert row["other"]["difference_low"] <= row["other"]["difference_high"]
    page = (results / "out.md").read_text()
    assert "## The copy beside the student" in page and f"Not decided: the {len(values['rows'])} other rows" in page


@pytest.mark.parametrize("beside", [["teacher"], ["student=folder"], ["a=x", "a=y"], ["=x"]])
def test_models_beside_need_names_of_their_own(beside):
    with pytest.raises(SystemExit, match="--beside"):
        robustness.main([*(option for text in beside for option in ("--beside", text))])


def test_conditions_do_what_they_say(voices):
    waveform, generator = load_audio(sorted(voices.rglob("*.flac"))[0]), np.random.default_rng(0)
    noisy = robustness.with_noise(waveform, generator, [np.ones(100, np.float32) * 0.3], 0)
    assert np.mean(np.square(noisy - waveform)) == pytest.approx(np.mean(np.square(waveform)), rel=1e-3)
    assert len(robustness.at_speed(waveform, generator, 1.05)) == int(len(waveform) / 1.05)
    assert np.abs(robustness.clipped(waveform, generator, 0.1)).max() == pytest.approx(1, abs=1e-6)
    for codec in robustness.SOUNDFILE_CODECS.values():
        received = robustness.through_soundfile(waveform, generator, **codec)
        spectrum = np.abs(np.fft.rfft(received)) ** 2
        assert spectrum[int(len(spectrum) * 0.55) :].sum() < 1e-3 * spectrum.sum(), "nothing above 4.4 kHz"
