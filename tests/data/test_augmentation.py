import numpy as np
import pytest
import soundfile

from modeling_oskdft.data.augmentation import RoomsAndNoise, add_noise, reverberate


def random_wave(samples=16000, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=samples).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    for kind in ("noise", "music"):
        (tmp_path / "musan" / kind / "a").mkdir(parents=True)
        soundfile.write(tmp_path / "musan" / kind / "a" / "x.flac", random_wave(seed=1), 16000)
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
    augment = RoomsAndNoise(folders / "musan", folders / "rir", probability=1.0)
    assert sorted(augment.sources) == ["music", "noise", "room"]
    speech = random_wave()
    results = [augment(speech, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(results[0], results[1])
    assert any(not np.array_equal(results[0], other) for other in results[2:])
    assert all(r.shape == speech.shape and r.dtype == np.float32 and np.isfinite(r).all() for r in results)


def test_the_share_of_augmented_crops(folders):
    augment = RoomsAndNoise(folders / "musan", None, probability=0.6)
    speech = random_wave(400)
    kept = sum(augment(speech, np.random.default_rng(seed)) is speech for seed in range(500))
    assert 150 < kept < 250


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none of the folders noise, music, speech"):
        RoomsAndNoise(tmp_path, None)
    with pytest.raises(FileNotFoundError, match="has no wav, flac or ogg files"):
        RoomsAndNoise(None, tmp_path)
    with pytest.raises(ValueError, match="name at least one"):
        RoomsAndNoise(None, None)
