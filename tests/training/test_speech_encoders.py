import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForAudioXVector, Wav2Vec2FeatureExtractor

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector
from modeling_oskdft.data.crops import features_of
from modeling_oskdft.evaluation.cost import compare_encoders
from modeling_oskdft.training.objectives.building import ObjectiveArguments, build_objectives
from modeling_oskdft.training.objectives.frames import frame_grid
from modeling_oskdft.training.speech_encoders import (
    check_hidden_states,
    fit_to_crops,
    layers_of,
    load_origin,
    load_teacher,
)
from modeling_oskdft.training.teacher import Teacher
from modeling_oskdft.training.verifiers import VerifierTeacher, load_verifier
from tests.tiny import tiny_config, tiny_verifier
from tests.training.making import make_trainer

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 8000
WIDTHS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 4}
HEAD = {"tdnn_dim": (16, 16), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 12}
WHISPER = {
    **{"d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 4, "vocab_size": 99},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
KINDS = {
    "HuBERT": ("Hubert", CONVOLUTIONS),
    "wav2vec 2.0, XLSR": ("Wav2Vec2", CONVOLUTIONS | HEAD),
    "WavLM": ("WavLM", CONVOLUTIONS | HEAD),
    "Data2VecAudio": ("Data2VecAudio", CONVOLUTIONS | HEAD),
    "UniSpeech": ("UniSpeech", CONVOLUTIONS),
    "UniSpeechSat": ("UniSpeechSat", CONVOLUTIONS | HEAD),
    "Wav2Vec2-Conformer": ("Wav2Vec2Conformer", CONVOLUTIONS | HEAD),
    "w2v-BERT 2.0": ("Wav2Vec2Bert", HEAD),
    "Whisper": ("Whisper", {}),
}
SEW = CONVOLUTIONS | {"conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
EXTRACTORS = {"Wav2Vec2Bert": "SeamlessM4TFeatureExtractor", "Whisper": "WhisperFeatureExtractor"}


NO = {  # what is said where a cell of the table says no
    "start of a student": "name one in student_from",
    "`last_layer_mse`": "use layerwise_heads or layerwise_projection between unequal widths or frame rates",
    "`front_end_kd_lambda`": "which has no convolutions over samples",
    "`embedding`": "holds no verifier that opens",
}


def save(place, name, with_head=False, **changes):
    """Save a tiny random model of a kind of the table, with its feature extractor."""
    torch.manual_seed(0)
    if name.startswith("OS-KDFT"):
        verifier = tiny_verifier(**({"adapter_size": 0} if "without" in name else {}))
        verifier.save_pretrained(place)
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(place)
        return
    family, fields = KINDS[name]
    config = getattr(transformers, f"{family}Config")(
        **(WHISPER if family == "Whisper" else WIDTHS | fields) | changes
    )
    (AutoModelForAudioXVector if with_head else AutoModel).from_config(config).save_pretrained(place)
    getattr(transformers, EXTRACTORS.get(family, "Wav2Vec2FeatureExtractor"))().save_pretrained(place)


def table():
    """Read the table of teachers in docs/training.md: (teacher, column, cell)."""
    lines = (ROOT / "docs/training.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| teacher | start of a student"))
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[start:]]
    end = next(number for number, row in enumerate(rows) if not row)
    head, *body = rows[:end]
    return [(row[0], column, cell) for row in body[1:] for column, cell in zip(head[1:], row[1:], strict=True)]


def noise(rows=2):
    return list(np.random.default_rng(0).normal(0, 0.1, (rows, SAMPLES)).astype(np.float32))


def distils(place, **fields):
    """Compute a distillation loss of a tiny student from the teacher in a folder, and its gradient."""
    teacher, extractor = load_teacher(str(place))
    student = OSKDFTForXVector(tiny_config(encoder={"conv_kernel": (10, 3, 3, 3, 3, 2, 2)}))
    objectives = build_objectives(ObjectiveArguments(**fields), student, [3, 3], teacher.config)
    fit_to_crops(teacher, SAMPLES)
    frozen = Teacher(teacher, objectives.kd.target_layers, conv_target=objectives.front_end is not None)
    frozen.check(features_of(extractor, noise(1)), SAMPLES)
    output = frozen(features_of(extractor, noise()))
    outputs = student.oskdft(torch.from_numpy(np.stack(noise())), path="kd", output_hidden_states=True)
    loss = objectives.kd(outputs.hidden_states, output.hidden_states).mean()
    if objectives.front_end is not None:
        features = student.oskdft.convolve(torch.from_numpy(np.stack(noise())))
        loss = loss + objectives.front_end(features, output.conv_target).mean()
    loss.backward()
    assert torch.isfinite(loss) and any(parameter.grad is not None for parameter in student.parameters())


def use(place, column):
    if column == "start of a student":
        origin, _ = load_origin(str(place))
        OSKDFTConfig.from_teacher(origin.config, [0, 1])
    elif column == "`embedding`":
        model, extractor = load_verifier(str(place))
        embeddings = VerifierTeacher(model)(features_of(extractor, noise()))
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    elif column == "`front_end_kd_lambda`":
        distils(place, kd_objective="layerwise_heads", front_end_kd_lambda=1.0)
    else:
        for objective in re.findall(r"\w+", column):
            distils(place, kd_objective=objective)


@pytest.mark.parametrize(("name", "column", "cell"), table())
def test_the_table_of_teachers_is_true(name, column, cell, tmp_path):
    has_head_class = name in KINDS and set(HEAD) <= set(KINDS[name][1])  # in transformers
    save(tmp_path, name, with_head=column == "`embedding`" and has_head_class)
    if cell == "yes":
        use(tmp_path, column)
    else:
        assert cell == "no"
        with pytest.raises(ValueError, match="verifier with adapters" if name == "OS-KDFT verifier" else NO[column]):
            use(tmp_path, column)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("samples", [8000, 8159, 8160, 8319, 8321, 24321, 32100])
def test_frames_are_where_the_grid_says(name, samples, tmp_path):
    save(tmp_path, name)
    encoder, extractor = load_teacher(str(tmp_path))
    fit_to_crops(encoder, samples)
    grid = frame_grid(encoder.config)
    waveform = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    check_hidden_states(encoder.eval(), features_of(extractor, [waveform]), samples)
    expected = {"Whisper": samples // 320, "w2v-BERT 2.0": (samples - 560) // 320 + 1}
    assert grid.frames(samples) == expected.get(name, (samples - 400) // 320 + 1)


@pytest.mark.parametrize("name", ["Whisper", "w2v-BERT 2.0"])
def test_a_click_appears_where_the_grid_puts_its_frame(name):
    """Two mel frames make a frame: w2v-BERT stacks 2k and 2k + 1, Whisper looks at 2k from both sides."""
    family, _ = KINDS[name]
    extractor = getattr(transformers, EXTRACTORS[family])()
    first = frame_grid(getattr(transformers, f"{family}Config")()).middle - (80 if family == "Wav2Vec2Bert" else 0)
    for place in (3000, 4111, 5222):
        waveform = np.random.default_rng(0).normal(0, 1e-3, SAMPLES).astype(np.float32)
        waveform[place] = 1.0
        (features,) = features_of(extractor, [waveform]).values()
        energy = features[0].mean(0) if family == "Whisper" else features[0].reshape(-1, 80).mean(1)
        assert abs(first + 160 * int(energy.argmax()) - place) <= 81, place


def test_the_cut_positions_of_whisper_are_its_first(tmp_path):
    save(tmp_path, "Whisper")
    encoder, _ = load_teacher(str(tmp_path))
    table_before = encoder.embed_positions.weight.clone()
    fit_to_crops(encoder, 32000)
    assert torch.equal(encoder.embed_positions.weight, table_before[:100])
    with pytest.raises(ValueError, match="lower crop_seconds"):
        fit_to_crops(load_teacher(str(tmp_path))[0], 31 * 16000)


def test_layers_behind_the_deepest_target_are_cut(tmp_path):
    for name in KINDS:
        save(tmp_path / name, name)
        whole, extractor = load_teacher(str(tmp_path / name))
        cut, _ = load_teacher(str(tmp_path / name))
        for encoder in (whole, cut):
            fit_to_crops(encoder, SAMPLES)
        inputs = features_of(extractor, noise())
        teacher = Teacher(cut, [1, 2])
        assert len(layers_of(cut).layers) == 2
        expected = whole.eval()(**inputs, output_hidden_states=True).hidden_states
        for layer, state in zip((1, 2), teacher(inputs).hidden_states, strict=True):
            torch.testing.assert_close(state, expected[layer], msg=lambda text, name=name: f"{name}: {text}")


def test_a_run_with_another_kind_of_teacher(tmp_path, manifest, feature_extractor):
    save(tmp_path / "w2v-bert", "w2v-BERT 2.0")
    teacher = load_teacher(str(tmp_path / "w2v-bert"))
    trainer = make_trainer(tmp_path / "run", manifest, feature_extractor, teacher=teacher, validate=False, max_steps=1)
    assert trainer.teacher.view == 0 and trainer.data_collator.others == [teacher[1]]
    trainer.train()
    assert next(line for line in trainer.state.log_history if "loss" in line)["kd_loss"] > 0


def test_a_teacher_that_reads_features_is_timed(tmp_path):
    save(tmp_path, "Whisper")
    encoders = compare_encoders(load_teacher(str(tmp_path))[0], tiny_verifier(), load_teacher(str(tmp_path))[1])
    assert encoders["teacher"]["encoder_milliseconds"] > 0


def test_a_teacher_without_a_name_is_asked_for():
    with pytest.raises(ValueError, match="names no teacher: set teacher to a folder or a repository"):
        load_origin("")


def test_what_cannot_be_a_teacher_is_named(tmp_path):
    save(tmp_path / "rate", "WavLM")
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "rate")
    with pytest.raises(ValueError, match="reads 8000 Hz: a teacher for 16000 Hz is needed"):
        load_teacher(str(tmp_path / "rate"))
    config = transformers.ASTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
    AutoModel.from_config(config).save_pretrained(tmp_path / "ast")
    with pytest.raises(ValueError, match="audio-spectrogram-transformer, whose frames are not known"):
        load_teacher(str(tmp_path / "ast"))
    config = transformers.SEWConfig(**WIDTHS, **SEW, squeeze_factor=2)
    model = AutoModel.from_config(config).eval()
    with pytest.raises(ValueError, match="its frame rate is not known here; use another"):
        check_hidden_states(model, {"input_values": torch.zeros(1, SAMPLES)}, SAMPLES)
    with pytest.raises(
        ValueError, match="a student is cut from HuBERT, wav2vec 2.0 or WavLM; name one in student_from"
    ):
        save(tmp_path / "conformer", "Wav2Vec2-Conformer")
        load_origin(str(tmp_path / "conformer"))


def test_a_model_without_hidden_states_is_named(tmp_path):
    save(tmp_path, "WavLM")
    encoder, _ = load_teacher(str(tmp_path))
    forward = encoder.forward
    encoder.forward = lambda *args, **kwargs: forward(*args, **kwargs | {"output_hidden_states": False})
    with pytest.raises(ValueError, match="gives 0 hidden states for 3 layers"):
        check_hidden_states(encoder, {"input_values": torch.zeros(1, SAMPLES)}, SAMPLES)


def test_similar_extractors_share_a_view(tmp_path, manifest, feature_extractor):
    save(tmp_path / "wavlm", "WavLM")
    model, _ = load_teacher(str(tmp_path / "wavlm"))
    other = Wav2Vec2FeatureExtractor(**feature_extractor.to_dict() | {"return_attention_mask": False})
    trainer = make_trainer(tmp_path / "run", manifest, feature_extractor, teacher=(model, other), validate=False)
    assert trainer.teacher.view is None and not trainer.data_collator.others
