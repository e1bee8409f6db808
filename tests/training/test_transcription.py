import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from transformers import AutoFeatureExtractor, pipeline

from modeling_oskdft import OSKDFTConfig, OSKDFTForCTC
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.building import ObjectiveArguments, build_objectives
from modeling_oskdft.training.recipe import read_recipe
from modeling_oskdft.training.targets import compute_targets
from modeling_oskdft.training.teacher import Teacher
from modeling_oskdft.training.transcription import TranscribedDataset
from tests.tiny import randomise, tiny_teacher
from train_oskdft import main


@pytest.fixture(scope="module")
def words(words):
    return [*words, "--text_column", "said", "--crop_seconds", "5"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, words):
    place = tmp_path_factory.mktemp("run") / "student"
    with pytest.warns(UserWarning, match=r"letters that no training text has \(c, v, ç\)|\(v, ç\)"):
        assert main([*words, "--test_split", "test", "--output_dir", str(place)]) == 0
    return place


def test_a_recogniser_is_trained_in_the_one_step_and_measured(run):
    results = json.loads((run / "results.json").read_text())
    assert results["history"][0]["kd_loss"] > 0 and results["history"][0]["ft_loss"] > 0
    best = min(line["eval_cer"] for line in results["history"] if "eval_cer" in line)
    assert results["selection_cer"] == best and results["selection_eer"] is None
    test = results["test"]
    assert test["speakers"] == 1 and test["words"] == 2 * test["recordings"] and 0 < test["cer"]
    assert not (run / "thresholds.json").exists()


def tone(letter):
    """A tenth of a second of the tone that stands for a letter, and a pause."""
    samples = np.arange(1600) / 16000
    return np.concatenate([0.3 * np.sin(2 * np.pi * {"a": 400, "b": 2500}[letter] * samples), np.zeros(800)])


def test_letters_are_learned_and_written_for_speakers_never_heard(tmp_path, words):
    generator = np.random.default_rng(0)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "session", "said", "split"])
        for number in range(144):
            said = "".join(generator.choice(["a", "b"], generator.integers(1, 4)))
            waveform = np.concatenate([np.zeros(800), *map(tone, said)])
            waveform += generator.normal(0, 0.003, len(waveform))
            soundfile.write(tmp_path / f"{number}.wav", waveform, 16000)
            speaker = number // 12
            rows.writerow([tmp_path / f"{number}.wav", f"s{speaker}", "one", said, "test" if speaker > 9 else "train"])
    more = {
        **{"num_train_epochs": 6, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "kd_weight": 0.1},
        **{"adapter_lr_multiplier": 1, "backbone_warmup_epochs": 1, "backbone_schedule": "cosine", "crop_seconds": 1},
        **{"validation_fraction": 0.2, "test_split": "test", "logging_steps": 20, "output_dir": tmp_path / "run"},
        **{"train_data": tmp_path / "table.csv"},
    }
    assert main([*words, *(str(word) for name, value in more.items() for word in (f"--{name}", value))]) == 0
    test = json.loads((tmp_path / "run/results.json").read_text())["test"]
    assert test["recordings"] == 24 and test["cer"] < 0.1


def test_the_pipeline_of_transformers_writes_down(run, voices):
    waveform = load_audio(sorted(voices.rglob("*.flac"))[0])
    student = OSKDFTForCTC.from_pretrained(run)
    assert student.lm_head.out_features == 3 + len({*"ohla"})
    inputs = AutoFeatureExtractor.from_pretrained(run)(waveform, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        letters = student(inputs["input_values"]).logits[0].argmax(-1).tolist()
    tokens = ["", "<unk>", " ", *sorted({*"ohla"})]
    written = "".join(tokens[now] for before, now in zip([0, *letters], letters, strict=False) if now != before)
    found = pipeline("automatic-speech-recognition", model=str(run))(waveform)["text"]
    assert found.split() == written.split() and "<" not in found


def test_its_card_says_what_was_measured(run):
    card, test = ModelCard.load(run / "README.md"), json.loads((run / "results.json").read_text())["test"]
    assert card.data.pipeline_tag == "automatic-speech-recognition" and card.data.metrics == ["cer", "wer"]
    assert f"| CER | {100 * test['cer']:.1f} |" in card.text and "letters of the column `said`" in card.text


def test_a_resumed_run_equals_an_uninterrupted_one_and_refuses_other_texts(words, table, tmp_path, capsys):
    plain = [*words, "--save_total_limit", "5", "--output_dir", str(tmp_path / "run")]
    assert main(plain) == 0
    whole = OSKDFTForCTC.from_pretrained(tmp_path / "run").fingerprint()
    first = min((tmp_path / "run").glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    assert main([*plain, "--resume_from_checkpoint", str(first)]) == 0
    assert OSKDFTForCTC.from_pretrained(tmp_path / "run").fingerprint() == whole
    (tmp_path / "other.csv").write_text(table.read_text().replace(",oh la,", ",la oh,"))
    place = plain.index("--train_data") + 1
    other = [*plain[:place], str(tmp_path / "other.csv"), *plain[place + 1 :]]
    assert main([*other, "--resume_from_checkpoint", str(first)]) == 2
    error = capsys.readouterr().err
    assert "resume with the recipe and the data that it was started with" in error and "labelled" in error


@pytest.mark.parametrize("time_reduction", [1, 2])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("objective", ["layerwise_heads", "layerwise_projection", "last_layer_mse"])
def test_losses_of_padded_recordings_are_those_of_each_alone(norm, objective, time_reduction):
    if time_reduction > 1 and objective == "last_layer_mse":
        return  # it needs equal frames
    teacher = randomise(tiny_teacher("hubert", norm == "group", norm)).eval()
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1], adapter_size=8, time_reduction=time_reduction)
    config.encoder_config.vocab_size, config.encoder_config.pad_token_id = 6, 0
    student = randomise(OSKDFTForCTC(config))
    arguments = ObjectiveArguments(kd_objective=objective, speaker_objective="ctc")
    joint = JointModel(student, build_objectives(arguments, student, [1] * 6, teacher.config)).eval()
    frozen = Teacher(teacher, joint.objectives.kd.target_layers)

    waveforms = [0.1 * torch.randn(1, samples) for samples in (16000, 9000)]
    labels = torch.tensor([[1, 2, 3], [5, 5, -100]])
    padded = torch.zeros(2, 16000)
    mask = torch.zeros(2, 16000, dtype=torch.long)
    for row, waveform in enumerate(waveforms):
        padded[row, : waveform.shape[1]], mask[row, : waveform.shape[1]] = waveform, 1

    def losses(values, wanted, attention_mask):
        targets = compute_targets({"input_values": values, "attention_mask": attention_mask}, frozen, [])
        with torch.no_grad():
            return joint(values, wanted, *targets, attention_mask=attention_mask)

    together = losses(padded, labels, mask)
    ones = [torch.ones_like(waveform, dtype=torch.long) for waveform in waveforms]
    alone = [losses(waveforms[row], labels[row : row + 1], ones[row]) for row in (0, 1)]
    for name in ("ft", "kd"):
        total = sum(getattr(output, name).total for output in alone)
        assert torch.isclose(getattr(together, name).total, total, rtol=1e-4), name


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--text_column", "words"], "The data have no column 'words'"),
        (["--label_column", "split"], "label_column and text_column are set"),
        (["--metric_for_best_model", "uar"], "metric_for_best_model is uar with text_column: use cer, wer"),
        (["--test_trials", "x.txt"], "test_trials is set with text_column"),
        (["--crop_seconds", "0.5"], "longer than crop_seconds"),
        (["--front_end_kd_lambda", "1"], "front_end_kd_lambda is set with text_column"),
        (["--speaker_objective", "none"], "no loss would read the labels"),
        (["--text_column", "path"], "text_column is path, which every recording has"),
        (["--speaker_objective", "class_softmax"], "class_softmax with text_column, whose loss is ctc"),
        (["--front_end_stride", "5", "2", "2", "2", "2", "1", "4"], "front_end_stride is set with text_column"),
    ],
)
def test_bad_input_gets_one_sentence(words, tmp_path, capsys, more, sentence):
    assert main([*words, "--output_dir", str(tmp_path / "x"), *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "x").glob("*.safetensors"))


def test_a_text_with_more_letters_than_frames_is_refused(words, table, tmp_path, capsys):
    long = tmp_path / "table.csv"
    long.write_text(table.read_text().replace("la la", "la la " * 80))
    place = words.index("--train_data") + 1
    assert main([*words[:place], str(long), *words[place + 1 :], "--output_dir", str(tmp_path / "x")]) == 2
    assert "needs" in (error := capsys.readouterr().err) and "frames and its recording has" in error


def test_a_loss_of_letters_needs_the_column(words):
    without = [word for word in words if word not in ("--text_column", "said")]
    with pytest.raises(ValueError, match="speaker_objective is ctc without text_column: it is for recognisers"):
        read_recipe([*without, "--output_dir", "x", "--speaker_objective", "ctc"])


def test_recordings_without_texts_are_no_validation(table):
    with pytest.raises(ValueError, match="No recording here has a text in 'said'"):
        TranscribedDataset(load_manifest(table).where("said", [""]), "said", ("<pad>", "<unk>", "|", "a"))
