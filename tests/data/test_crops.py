import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.crops import UNLABELLED, CropCollator, CropDataset, EpochSampler
from modeling_oskdft.data.sources import load_manifest


def test_a_crop_is_a_function_of_seed_epoch_and_utterance(manifest):
    def crop(seed, epoch, row):
        return CropDataset(manifest, 0.5, seed)[epoch, row]["waveform"]

    np.testing.assert_array_equal(crop(0, 1, 3), crop(0, 1, 3))
    others = [crop(1, 1, 3), crop(0, 2, 3), crop(0, 1, 4)]
    assert all(not np.array_equal(crop(0, 1, 3), other) for other in others)
    # Of the utterance, not of its row: a manifest without the others gives the same crop.
    alone = manifest.where("utterance_id", [manifest.column("utterance_id")[3]])
    np.testing.assert_array_equal(CropDataset(alone, 0.5, 0)[1, 0]["waveform"], crop(0, 1, 3))


def test_crops_lie_in_their_recording_and_carry_its_speaker(manifest):
    dataset = CropDataset(manifest, 0.5, 0)
    crop = dataset[2, 13]
    assert crop["waveform"].shape == (8000,) and crop["clean"] is crop["waveform"]
    assert manifest.speakers[crop["label"]] == manifest.column("speaker_id")[13]
    whole = np.lib.stride_tricks.sliding_window_view(load_audio(manifest.audio(13)), 8000)
    assert (whole == crop["waveform"]).all(1).any()


def test_an_epoch_shows_every_utterance_once_in_its_own_order(manifest):
    sampler = EpochSampler(manifest, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        items = list(sampler)
        assert {item[0] for item in items} == {epoch}
        orders.append([item[1] for item in items])
        assert sorted(orders[-1]) == list(range(40))
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(manifest, feature_extractor, workers):
    dataset, sampler = CropDataset(manifest, 0.5, 0), EpochSampler(manifest, 0)
    collate = CropCollator(feature_extractor)
    batches = list(DataLoader(dataset, 4, sampler=sampler, collate_fn=collate, num_workers=workers))
    expected = collate([dataset[item] for item in list(sampler)[4:8]])
    torch.testing.assert_close(batches[1]["input_values"], expected["input_values"], atol=0, rtol=0)
    assert torch.equal(batches[1]["labels"], expected["labels"])


def test_crops_are_normalised_as_the_teacher_s_extractor_does_it(manifest, feature_extractor):
    dataset = CropDataset(manifest, 0.5, 0)
    batch = CropCollator(feature_extractor)([dataset[0, row] for row in range(4)])
    assert set(batch) == {"input_values", "labels"}
    torch.testing.assert_close(batch["input_values"].mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch["input_values"].std(1), torch.ones(4), atol=1e-2, rtol=0)
    plain = type(feature_extractor)(do_normalize=False, return_attention_mask=True)
    raw = CropCollator(plain)([dataset[0, row] for row in range(4)])
    np.testing.assert_array_equal(raw["input_values"][2].numpy(), dataset[0, 2]["waveform"])


def test_augmentation_reaches_the_student_and_leaves_the_clean_crop(manifest, feature_extractor):
    dataset = CropDataset(manifest, 0.5, 0, lambda waveform, generator: waveform * 0 + generator.random())
    crop = dataset[0, 0]
    assert crop["clean"] is not crop["waveform"] and len(set(crop["waveform"])) == 1
    np.testing.assert_array_equal(dataset[0, 0]["waveform"], crop["waveform"])
    batch = CropCollator(feature_extractor)([dataset[0, row] for row in range(2)])
    assert set(batch) == {"input_values", "teacher_input_values", "labels"}


def test_a_damaged_noise_is_not_the_crop_s_fault(manifest):
    def broken(waveform, generator):
        raise ValueError("'noise.ogg' is damaged: restore it.")

    dataset = CropDataset(manifest, 0.5, 0, broken)
    with pytest.warns(UserWarning, match="Not augmented: 'noise.ogg'"):
        crop = dataset[0, 0]
    assert crop["waveform"] is crop["clean"] and not dataset.damaged.marks.any()


def test_a_crop_has_a_length(manifest):
    with pytest.raises(ValueError, match="crop_seconds is 0"):
        CropDataset(manifest, 0, 0)


@pytest.fixture
def damaged(tmp_path, voices):
    shutil.copytree(voices, tmp_path / "v")
    manifest = load_manifest(tmp_path / "v")
    for row in (2, 3, 7):
        path = tmp_path / "v" / manifest.column("path")[row]
        path.write_bytes(path.read_bytes()[:2000] if row != 7 else b"")
    return manifest


def test_a_damaged_file_is_reported_once_and_the_next_stands_in(damaged):
    dataset = CropDataset(damaged, 3.0, 0)
    with pytest.warns(UserWarning, match="Skipped in training: .*voice000"):
        crop = dataset[0, 2]
    np.testing.assert_array_equal(crop["waveform"], dataset[0, 4]["waveform"])
    assert dataset.damaged.marks.nonzero().flatten().tolist() == [2, 3]


def test_too_many_damaged_files_stop_the_run(damaged, feature_extractor):
    dataset = CropDataset(damaged, 3.0, 0, max_damaged=2)
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="More than 2 files of the training set are damaged"),
    ):
        for row in range(8):
            dataset[0, row]
    # The count is shared by the workers.
    dataset = CropDataset(damaged, 3.0, 0, max_damaged=2)
    loader = DataLoader(
        dataset, 1, sampler=EpochSampler(damaged, 0), collate_fn=CropCollator(feature_extractor), num_workers=2
    )
    with pytest.raises(ValueError, match="More than 2 files"):
        list(loader)


def test_an_error_of_the_code_is_no_damaged_file(manifest, monkeypatch):
    def broken(*arguments):
        raise ValueError("operands could not be broadcast together")

    dataset = CropDataset(manifest, 0.5, 0)
    monkeypatch.setattr("modeling_oskdft.data.crops.change_speed", broken)
    with pytest.raises(ValueError, match="^operands could not be broadcast together$"):
        dataset[0, 0]
    assert not dataset.damaged.marks.any()


def test_speeds_are_other_speakers_in_every_epoch_anew(manifest):
    dataset = CropDataset(manifest, 0.5, 0, speeds=(0.9, 1.1))
    speakers = len(manifest.speakers)
    crops = [dataset[epoch, row] for epoch in range(6) for row in range(len(manifest))]
    labels = np.array([crop["label"] for crop in crops])
    assert {label // speakers for label in labels} == {0, 1, 2}
    assert (labels % speakers == np.tile(dataset.labels, 6)).all()
    assert np.bincount(labels // speakers).min() > 50  # of 240
    assert all(crop["waveform"].shape == (8000,) for crop in crops)
    assert dataset.utterances_of_classes() == [4] * 30
    with pytest.raises(ValueError, match="use factors such as 0.9 and 1.1"):
        CropDataset(manifest, 0.5, 0, speeds=(1.0,))


def test_noise_that_goes_away_in_the_middle_of_a_run_ends_it(manifest):
    def gone(waveform, generator):
        raise FileNotFoundError("There is no recording at 'musan/noise/1.wav': check the path.")

    dataset = CropDataset(manifest, 0.5, 0, gone, max_damaged=2)
    with pytest.warns(UserWarning, match="Not augmented"):
        for row in range(2):
            assert dataset[0, row]["waveform"].shape == (8000,)
    with pytest.raises(ValueError, match="More than 2 crops could not be augmented .*check noise_root and rir_root"):
        dataset[0, 2]


def test_speakers_without_labels_are_heard_and_are_no_classes(manifest):
    labelled = [manifest.speakers[3], manifest.speakers[1]]
    dataset = CropDataset(manifest, 0.5, 0, speeds=(0.9,), labelled=labelled)
    assert dataset.utterances_of_classes() == [4, 4, 4, 4] and len(dataset) == 40
    for row, speaker in enumerate(manifest.column("speaker_id")):
        label = dataset[0, row]["label"]
        assert label == UNLABELLED if speaker not in labelled else label % 2 == labelled[::-1].index(speaker)


def test_the_teacher_can_hear_what_the_student_hears(manifest, feature_extractor):
    dataset = CropDataset(manifest, 0.5, 0, augmentation=lambda waveform, generator: 0.5 * waveform + 0.1)
    crops = [dataset[0, row] for row in range(2)]
    clean, augmented = (CropCollator(feature_extractor, hears)(crops) for hears in ("clean", "augmented"))
    assert "teacher_input_values" in clean and "teacher_input_values" not in augmented
    assert torch.equal(clean["input_values"], augmented["input_values"])
