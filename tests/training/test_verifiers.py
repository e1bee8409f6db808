import copy
import json

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForXVector

from modeling_oskdft.model.heads_oskdft import MaskedBatchNorm1d
from modeling_oskdft.training.identity import RUN_NAME
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.embeddings import EmbeddingDistillation
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from modeling_oskdft.training.verifiers import VerifierTeacher, load_verifier
from tests.tiny import save_verifier, tiny_teacher, tiny_verifier, waves
from tests.training.making import make_trainer, parameters

DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
XVECTOR = {
    **{"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16},
    **{"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4},
    **{"tdnn_dim": (16, 16), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 12},
}


def tiny_xvector():
    torch.manual_seed(1)
    return Wav2Vec2ForXVector(Wav2Vec2Config(**XVECTOR)).eval()


def joint_of(path, speaker=True):
    student = tiny_verifier(adapter_initialization="normal", encoder=dict.fromkeys(DROPOUTS, 0.0))
    objectives = Objectives(
        AAMSoftmax(student.config.embedding_size, 4) if speaker else None,
        embedding=EmbeddingDistillation(student.config.embedding_size, [12], path=path),
    )
    return JointModel(student, objectives).train()


def test_embeddings_are_those_of_the_verifier_at_unit_length():
    waveforms, _ = waves(6000, 6000)
    verifier = tiny_verifier()
    expected = verifier(waveforms).embeddings
    received = VerifierTeacher(copy.deepcopy(verifier))({"input_values": waveforms})
    torch.testing.assert_close(received, nn.functional.normalize(expected), atol=1e-6, rtol=1e-5)
    assert not received.requires_grad and not received.is_inference()


def test_a_verifier_of_transformers_is_a_teacher(tmp_path):
    tiny_xvector().save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    model, extractor = load_verifier(str(tmp_path))
    teacher = VerifierTeacher(model)
    waveforms, _ = waves(6000, 6000)
    expected = nn.functional.normalize(tiny_xvector()(waveforms).embeddings)
    torch.testing.assert_close(teacher({"input_values": waveforms}), expected)
    assert teacher.embedding_size == 12 and extractor.do_normalize is False


def test_what_is_no_verifier_is_named(tmp_path, feature_extractor):
    with pytest.raises(FileNotFoundError, match="no verifier at 'nowhere'"):
        load_verifier("nowhere")
    tiny_teacher("wav2vec2", False, "group").save_pretrained(tmp_path / "encoder")
    feature_extractor.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="no trained head for embeddings"):
        load_verifier(str(tmp_path / "encoder"))
    tiny_teacher().save_pretrained(tmp_path / "hubert")  # transformers has no HubertForXVector
    with pytest.raises(ValueError, match="holds no verifier that opens"):
        load_verifier(str(tmp_path / "hubert"))


@pytest.mark.parametrize("path", ["ft", "kd"])
@pytest.mark.parametrize("speaker", [True, False])
def test_the_loss_reaches_the_path_that_it_compares(path, speaker):
    model, (waveforms, _) = joint_of(path, speaker), waves(4000, 4000, 4000)
    target = [nn.functional.normalize(torch.randn(3, 12))]
    output = model(waveforms, torch.tensor([0, 1, 3]), teacher_embeddings=target)
    assert (output.ft is not None) == speaker and output.kd is None
    output.embedding.total.backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(".adapter." in name for name in reached) == (path == "ft")
    assert any("feed_forward" in name for name in reached)
    assert any(name.startswith("student.head") for name in reached)
    # DDP waits for every parameter that learns: without a speaker loss all of them must have been reached.
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert speaker or reached == learning


def test_the_kd_path_leaves_the_running_statistics_to_the_ft_path():
    waveforms, _ = waves(4000, 4000, 4000)
    target, labels = [nn.functional.normalize(torch.randn(3, 12))], torch.tensor([0, 1, 3])
    with_kd, without = joint_of("kd"), joint_of("kd")
    without.objectives.embedding = None
    with_kd(waveforms, labels, teacher_embeddings=target)
    without(waveforms, labels)
    for (name, ours), (_, theirs) in zip(
        with_kd.student.named_buffers(), without.student.named_buffers(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=name)
    norms = [module for module in with_kd.modules() if isinstance(module, MaskedBatchNorm1d)]
    assert norms and all(norm.track_running_stats for norm in norms)


def test_the_kd_path_alone_gives_the_head_its_statistics():
    model = joint_of("kd", speaker=False)
    before = model.student.head.embedding_norm.running_mean.clone()
    waveforms, _ = waves(4000, 4000, 4000)
    model(waveforms, torch.tensor([0, 1, 3]), teacher_embeddings=[nn.functional.normalize(torch.randn(3, 12))])
    assert not torch.equal(model.student.head.embedding_norm.running_mean, before)


def test_a_verifier_that_cannot_embed_a_crop_is_named_before_the_run(tmp_path, manifest, feature_extractor):
    long = Wav2Vec2ForXVector(Wav2Vec2Config(**XVECTOR | {"tdnn_kernel": (60, 1)}))
    with pytest.raises(ValueError, match="Wav2Vec2ForXVector, which cannot embed a crop"):
        make_trainer(
            *(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding"}),
            verifiers=[(long, feature_extractor)],
        )


def test_a_run_learns_from_verifiers_with_other_features_and_logs_it(tmp_path, manifest, feature_extractor):
    other = Wav2Vec2FeatureExtractor(do_normalize=not feature_extractor.do_normalize)
    verifiers = [(tiny_verifier(), feature_extractor), (tiny_xvector(), other)]
    objectives = {"embedding_kd_weight": 2.0, "embedding_cosine": 1.0}
    trainer = make_trainer(tmp_path, manifest, feature_extractor, objectives, verifiers=verifiers, max_steps=2)
    assert [verifier.view for verifier in trainer.verifiers] == [None, 0]
    crops = [trainer.train_dataset[0, row] for row in range(2)]
    views = trainer.data_collator(crops)["teacher_views"]
    expected = other([crop["clean"] for crop in crops], sampling_rate=16000, return_tensors="pt")
    assert len(views) == 1 and torch.equal(views[0]["input_values"], expected["input_values"])
    before = parameters(trainer)
    trainer.train()
    entry = next(line for line in trainer.state.log_history if "loss" in line)
    assert entry["embedding_kd_weight"] == pytest.approx(2.0)
    parts = entry["ft_loss"] + entry["kd_weight"] * entry["kd_loss"] + 2 * entry["embedding_kd_loss"]
    assert entry["loss"] == pytest.approx(parts, rel=1e-4)
    assert any(not torch.equal(value, before[name]) for name, value in parameters(trainer).items())
    stored = json.loads((next(tmp_path.glob("checkpoint-*")) / RUN_NAME).read_text())["run"]
    assert stored["verifiers"] == [verifier.fingerprint for verifier in trainer.verifiers]


def test_embeddings_alone_need_no_labels_and_give_an_error_rate(tmp_path, manifest, feature_extractor):
    objectives = {"kd_objective": "embedding", "speaker_objective": "none", "kd_schedule": "constant"}
    verifiers = [(tiny_verifier(), feature_extractor)]
    trainer = make_trainer(tmp_path, manifest, feature_extractor, objectives, verifiers=verifiers, max_steps=2)
    trainer.train()
    assert trainer.teacher is None and "eval_eer" in trainer.evaluate()
    entry = next(line for line in trainer.state.log_history if "loss" in line)
    assert entry["loss"] == pytest.approx(entry["embedding_kd_loss"], rel=1e-5) and "ft_loss" not in entry


def test_crops_without_labels_join_the_distillation_of_embeddings(tmp_path, manifest, feature_extractor):
    trainer = make_trainer(
        *(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding"}),
        verifiers=[(tiny_verifier(), feature_extractor)],
        labelled_speakers=2,
        max_steps=1,
    )
    trainer.train()
    assert next(line for line in trainer.state.log_history if "loss" in line)["embedding_kd_loss"] > 0


def test_verifiers_and_the_loss_that_reads_them_belong_together(tmp_path, manifest, feature_extractor):
    with pytest.raises(ValueError, match="no loss reads their embeddings"):
        make_trainer(tmp_path, manifest, feature_extractor, verifiers=[(tiny_verifier(), feature_extractor)])
    with pytest.raises(ValueError, match="name embedding_teachers"):
        make_trainer(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding"})
    with pytest.raises(ValueError, match="set kd_weight above 0"):
        make_trainer(
            *(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding", "kd_weight": 0.0}),
            verifiers=[(tiny_verifier(), feature_extractor)],
        )
    with pytest.raises(ValueError, match="its weight is kd_weight"):
        make_trainer(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding", "embedding_kd_weight": 1.0})
    with pytest.raises(ValueError, match="part of the distillation of hidden states"):
        make_trainer(
            *(tmp_path, manifest, feature_extractor, {"kd_objective": "embedding", "front_end_kd_lambda": 1.0}),
            verifiers=[(tiny_verifier(), feature_extractor)],
        )


def test_a_resumed_run_has_the_same_verifiers(tmp_path, manifest, feature_extractor):
    objectives = {"embedding_kd_weight": 1.0}
    trainer = make_trainer(
        *(tmp_path, manifest, feature_extractor, objectives), verifiers=[(tiny_verifier(), feature_extractor)]
    )
    trainer.train()
    other = tiny_verifier()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    second = make_trainer(*(tmp_path, manifest, feature_extractor, objectives), verifiers=[(other, feature_extractor)])
    with pytest.raises(ValueError, match="verifiers"):
        second.train(resume_from_checkpoint=True)


def test_a_saved_verifier_opens_with_its_feature_extractor(tmp_path, feature_extractor):
    saved = save_verifier(tmp_path, feature_extractor)
    model, extractor = load_verifier(str(tmp_path))
    assert model.fingerprint() == saved.fingerprint() and extractor.to_dict() == feature_extractor.to_dict()
