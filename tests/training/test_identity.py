import json
from dataclasses import asdict

import numpy as np
import pytest
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from modeling_oskdft.audio.augmentation import WaveformAugmentation
from modeling_oskdft.training.identity import RUN_NAME, config_digest, digest, manifest_digest, refuse_another_run
from modeling_oskdft.training.objectives.building import ObjectiveArguments
from tests.tiny import tiny_verifier
from tests.training.making import assert_same, make_trainer, parameters


def test_digests_follow_content_and_order(manifest):
    assert digest(["a", 1]) == digest(["a", "1"]) != digest(["a1"])
    assert (
        manifest_digest(manifest)
        == manifest_digest(manifest)
        != manifest_digest(manifest.where("speaker_id", ["voice000"]))
    )


def test_what_may_change_is_said_and_the_rest_refused(tmp_path):
    (tmp_path / RUN_NAME).write_text(json.dumps({"run": {"seed": 0, "max_steps": 7}}))
    assert refuse_another_run(tmp_path, {"seed": 0, "max_steps": 7}) == {}
    with pytest.warns(UserWarning, match=r"length of the run changes \(max_steps from 7 to 9\)"):
        assert refuse_another_run(tmp_path, {"seed": 0, "max_steps": 9}) == {"max_steps": [7, 9]}
    with pytest.raises(ValueError, match="was started with seed 0 and this one has 1"):
        refuse_another_run(tmp_path, {"seed": 1, "max_steps": 9})
    (tmp_path / RUN_NAME).unlink()
    with pytest.warns(UserWarning, match="made by an earlier version"):
        refuse_another_run(tmp_path, {"seed": 1})


def test_a_run_of_a_version_with_fewer_losses_goes_on(tmp_path):
    now = asdict(ObjectiveArguments(margin=0.3))
    before = {name: value for name, value in now.items() if not name.startswith("embedding_")}
    (tmp_path / RUN_NAME).write_text(json.dumps({"run": {"objectives": before}}))
    assert refuse_another_run(tmp_path, {"objectives": now}) == {}
    with pytest.raises(ValueError, match="was started with objectives"):
        refuse_another_run(tmp_path, {"objectives": now | {"embedding_kd_weight": 1.0}})


OTHER_OBJECTIVES = "objectives in .* are not those of this recipe"
CHANGES = [
    {"seed": 1},
    {"weight_decay": 0.1},
    {"learning_rate": 0.5},
    {"gradient_accumulation_steps": 2},
    {"per_device_train_batch_size": 5},
    {"objectives": {"margin": 0.3}},
    {"speeds": (0.9,)},
    {"augmentation": None},
    {"ema_decay": 0.5},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, manifest, feature_extractor):
    """A run of one epoch and a half, to its end."""
    place = tmp_path_factory.mktemp("finished")
    trainer = make_trainer(place, manifest, feature_extractor, num_train_epochs=1.5)
    trainer.train()
    return place, parameters(trainer), trainer.state.global_step


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_resumed_run_is_the_run_that_was_started(finished, manifest, feature_extractor, change):
    place, _, _ = finished
    (name,) = change
    said = {"speeds": OTHER_OBJECTIVES, "ema_decay": "lacks ema.safetensors"}.get(name, f"was started with {name} ")
    trainer = make_trainer(place, manifest, feature_extractor, num_train_epochs=1.5, **change)
    with pytest.raises(ValueError, match=said):
        trainer.train(resume_from_checkpoint=True)


def test_another_feature_extractor_is_another_run(finished, manifest, feature_extractor):
    other = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=not feature_extractor.do_normalize)
    trainer = make_trainer(finished[0], manifest, other, num_train_epochs=1.5)
    with pytest.raises(ValueError, match="was started with features "):
        trainer.train(resume_from_checkpoint=True)


def test_another_gain_is_another_run(tmp_path, manifest, feature_extractor):
    def trainer(gain):
        augmentation = WaveformAugmentation(gain_probability=gain)
        words = {"validate": False, "max_steps": 1, "save_strategy": "steps", "save_steps": 1}
        return make_trainer(tmp_path, manifest, feature_extractor, augmentation=augmentation, **words)

    trainer(0.1).train()
    with pytest.raises(ValueError, match="was started with augmentation "):
        trainer(0.2).train(resume_from_checkpoint=True)


def test_other_recordings_are_another_run(finished, manifest, feature_extractor):
    from dataclasses import replace

    fewer = replace(manifest, table=manifest.table.slice(0, len(manifest) - 1))
    trainer = make_trainer(finished[0], fewer, feature_extractor, num_train_epochs=1.5)
    with pytest.raises(ValueError, match="was started with .*(utterances|validation) "):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize("length", [{"num_train_epochs": 1.5}])
def test_a_finished_run_takes_no_further_step(finished, manifest, feature_extractor, length):
    place, weights, steps = finished
    again = make_trainer(place, manifest, feature_extractor, **length)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == steps == 11
    assert_same(parameters(again), weights)
    assert again.measure_thresholds().fingerprint == again.published.fingerprint()


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "objectives.safetensors", "model.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_checkpoint_is_named(finished, manifest, feature_extractor, tmp_path, name, damage):
    import shutil

    shutil.copytree(finished[0], tmp_path / "run")
    file = tmp_path / "run" / "checkpoint-11" / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif name.endswith(".safetensors"):  # no checksum: only its head can be known to be wrong
        file.write_bytes(b"\xff" * 9 + content[9:])
    else:
        for place in range(100, len(content) // 2, 20):  # between records lie bytes that nobody reads
            content[place] ^= 255
        file.write_bytes(content)
    trainer = make_trainer(tmp_path / "run", manifest, feature_extractor, num_train_epochs=3)
    with pytest.raises(ValueError, match=rf"{name.split('.')[0]}.*(is damaged|without it)|lacks {name}"):
        trainer.train(resume_from_checkpoint=True)


def test_where_a_student_comes_from_does_not_make_it_another(feature_extractor):
    config = tiny_verifier().config
    before = config_digest(config)
    config.teacher_name_or_path, config.transformers_version = "elsewhere", "9.9"
    config.encoder_config.transformers_version = "9.9"
    assert config_digest(config) == before
    config.adapter_size += 1
    assert config_digest(config) != before
    normalizing = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=not feature_extractor.do_normalize)
    assert config_digest(normalizing) != config_digest(feature_extractor)


def test_augmentation_is_a_part_of_a_run(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / f"{name}.wav", np.zeros(1600), 16000)
    one = WaveformAugmentation(gain_probability=0.1)
    assert one.facts() == WaveformAugmentation(gain_probability=0.1).facts()
    assert one.facts() != WaveformAugmentation(gain_probability=0.2).facts()
    rooms = [WaveformAugmentation(rir_root=tmp_path / name).facts() for name in ("a", "b", "a")]
    assert rooms[0] == rooms[2] != rooms[1]
