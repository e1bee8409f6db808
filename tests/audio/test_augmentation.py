import numpy as np
import pytest
import soundfile

from modeling_oskdft.audio.augmentation import (
    CODECS,
    WaveformAugmentation,
    add_noise,
    change_speed,
    clip,
    draw_clipping,
    draw_envelope,
    draw_gain,
    reverberate,
    samples_for_speed,
    through_codec,
)


def random_wave(samples=16000, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    for kind, files in (("noise", 1), ("music", 1), ("speech", 4)):
        (tmp_path / "musan" / kind / "a").mkdir(parents=True)
        for number in range(files):
            wave = random_wave(seed=1 + number)
            soundfile.write(tmp_path / "musan" / kind / "a" / f"{number}.flac", wave, 16000)
    (tmp_path / "rir" / "room").mkdir(parents=True)
    response = np.zeros(800)
    response[[5, 300]] = 0.5, 0.2
    soundfile.write(tmp_path / "rir" / "room" / "r.wav", response, 16000)
    return tmp_path


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.3])
def test_the_signal_to_noise_ratio_is_exact(snr):
    speech, noise = random_wave(), random_wave(seed=1) * 3
    added = add_noise(speech, noise, snr) - speech
    measured = 10 * np.log10(np.mean(np.square(speech)) / np.mean(np.square(added)))
    assert measured == pytest.approx(snr, abs=0.1)
    np.testing.assert_array_equal(add_noise(speech, noise * 0, snr), speech)


def test_a_room_of_one_reflection_by_hand():
    response = np.zeros(400, np.float32)
    response[[10, 210]] = 1.0, 0.5
    speech = random_wave(4000)
    expected = speech.astype(np.float64)
    expected[200:] += 0.5 * speech[:-200]
    wet = reverberate(speech, response)
    assert np.corrcoef(wet, expected)[0, 1] > 0.999999
    assert np.mean(np.square(wet)) == pytest.approx(np.mean(np.square(speech)), rel=1e-5)


def test_a_function_of_the_generator(folders):
    augment = WaveformAugmentation(folders / "musan", folders / "rir", 1.0, 0.5, 0.5, 0.5, 0.5)
    assert augment.kinds == [(), ("music",), ("noise",), ("speech",), ("room",), ("speech", "music")]
    speech = random_wave()
    before = np.random.get_state()[1].copy()
    results = [augment(speech, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 40))]
    np.testing.assert_array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results}) > 30
    assert all(r.shape == speech.shape and r.dtype == np.float32 and np.isfinite(r).all() for r in results)
    np.testing.assert_array_equal(speech, random_wave())  # what the teacher hears
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # nobody else's randomness is touched


def test_the_share_of_augmented_crops(folders):
    augment = WaveformAugmentation(folders / "musan", None, probability=0.6)
    speech = random_wave(400)
    kept = sum(augment(speech, np.random.default_rng(seed)) is speech for seed in range(500))
    assert 210 < kept < 290  # 0.4, and of the others the fifth that draws "nothing"


def test_babble_is_many_voices_at_one_level(folders):
    augment = WaveformAugmentation(folders / "musan")
    speech = random_wave()
    for seed in range(20):
        added = augment.surround(speech, "speech", np.random.default_rng(seed)) - speech
        snr = 10 * np.log10(np.mean(np.square(speech)) / np.mean(np.square(added)))
        assert 12.9 < snr < 20.1


def test_clipping_by_hand():
    np.testing.assert_allclose(clip(np.array([-1.0, -0.2, 0.1, 0.4]), 0.5), [-0.5, -0.2, 0.1, 0.2])
    speech = random_wave()
    clipped = draw_clipping(speech, np.random.default_rng(0))
    assert 0.5 <= clipped.max() / speech.max() <= 0.9


def test_an_envelope_is_slow_and_keeps_the_peak_of_its_end():
    generators = [np.random.default_rng(seed) for seed in range(30)]
    envelopes = [draw_envelope(np.ones(16000, np.float32), generator) for generator in generators]
    for envelope in envelopes:
        assert 0.1 <= envelope.min() <= 0.3 and envelope.max() == pytest.approx(1.0, abs=1e-3)
        assert np.abs(np.diff(envelope)).max() < 0.02
    assert 5 < sum(envelope[0] < envelope[-1] for envelope in envelopes) < 25


def test_a_gain_changes_nothing_but_the_level():
    speech = random_wave()
    louder = draw_gain(speech, np.random.default_rng(0))
    ratio = louder / speech
    assert ratio.std() < 1e-4 and 0.1 <= ratio.mean() <= 2


def test_speed_moves_the_pitch_and_keeps_the_length():
    tone = np.sin(2 * np.pi * 1000 * np.arange(17600) / 16000).astype(np.float32)
    for speed in (0.9, 1.1):
        changed = change_speed(tone[: samples_for_speed(16000, speed)], speed, 16000)
        assert changed.shape == (16000,)
        assert np.abs(np.fft.rfft(changed)).argmax() == pytest.approx(1000 * speed, abs=2)
    assert change_speed(tone[:16000], 1.0, 16000) is not None
    np.testing.assert_array_equal(change_speed(tone[:16000], 1.0, 16000), tone[:16000])


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_length_and_place_and_is_repeatable(codec):
    generator = np.random.default_rng(0)
    speech = np.convolve(generator.normal(size=16004), np.ones(5) / 5, "valid").astype(np.float32) * 0.1
    through = through_codec(speech, codec)
    assert through.shape == speech.shape and through.dtype == np.float32
    np.testing.assert_array_equal(through, through_codec(speech, codec))
    lags = np.correlate(through[500:15000], speech[480:15020], "full")
    assert np.correlate(through[500:15500], speech, "valid").argmax() == 500, lags.argmax()
    assert not np.array_equal(through, speech)


def test_the_telephone_passes_its_band_alone():
    time = np.arange(16000) / 16000
    tones = {hertz: np.sin(2 * np.pi * hertz * time).astype(np.float32) * 0.2 for hertz in (100, 1000, 3800, 6000)}
    power = {hertz: np.mean(np.square(through_codec(tone, "telephone"))) for hertz, tone in tones.items()}
    assert power[1000] == pytest.approx(0.02, rel=0.05)
    assert all(power[hertz] < 0.02 / 100 for hertz in (100, 3800, 6000))


def test_loud_and_silent_crops_pass_every_codec():
    for codec in CODECS:
        assert np.abs(through_codec(3 * random_wave() / 0.1, codec)).max() > 3  # full scale is not exceeded inside
        assert np.isfinite(through_codec(np.zeros(8000, np.float32), codec)).all()
    with pytest.raises(ValueError, match="codec is 'gsm': use one of telephone"):
        through_codec(random_wave(), "gsm")


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none of the folders noise, music, speech"):
        WaveformAugmentation(tmp_path, None)
    with pytest.raises(FileNotFoundError, match="has no wav, flac or ogg files"):
        WaveformAugmentation(None, tmp_path)
    (tmp_path / "noise").mkdir()
    with pytest.raises(FileNotFoundError, match="noise' has no wav, flac or ogg files"):
        WaveformAugmentation(tmp_path)
    with pytest.raises(ValueError, match="probability of augmentation is 1.5: use 0 to 1"):
        WaveformAugmentation(probability=1.5)
