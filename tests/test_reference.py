"""Every file of the reference vectors, made by the authors' code at 7ba757d, against ours."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import HubertConfig, HubertModel

from modeling_oskdft import OSKDFTForXVector, OSKDFTModel, convert_original_state_dict
from modeling_oskdft.data.trials import Trials
from modeling_oskdft.model.heads_oskdft import build_head
from modeling_oskdft.model.modeling_oskdft import feature_lengths
from modeling_oskdft.scoring.cosine import combined_scores, score_trials, unit_length
from modeling_oskdft.scoring.metrics import equal_error_rate
from modeling_oskdft.scoring.normalization import adaptive_s_norm
from modeling_oskdft.student.initialization import init_student_from_teacher
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.distillation import LastLayerMSE, LayerwiseHeads, LayerwiseProjection
from modeling_oskdft.training.objectives.frames import FrameMatch
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax, LinearSoftmax
from modeling_oskdft.training.schedules import cosine, linear_to_zero, warmup_then_decay
from modeling_oskdft.training.teacher import Teacher
from tests.tiny import tiny_config

STUDENTS = ["hubert_base_student", "wavlm_base_student", "hubert_fit_student", "wav2vec2_xlsr_student"]


class Case:
    def __init__(self, shared, name):
        self.folder = shared / "reference" / name
        if not self.folder.is_dir():
            pytest.skip(f"the reference vectors have no case {name}")
        self.config = json.loads((self.folder / "config.json").read_text())
        self.expected = json.loads((self.folder / "expected.json").read_text())
        tensors = self.folder / "tensors.safetensors"
        self.tensors = load_file(tensors) if tensors.is_file() else {}

    def convert(self, file="state_dict"):
        return convert_original_state_dict(load_file(self.folder / f"{file}.safetensors"), self.config)

    def encoder(self):
        converted = self.convert()
        encoder = OSKDFTModel(converted.config).eval()
        encoder.load_state_dict(converted.encoder)
        return encoder

    def head(self, file="state_dict"):
        converted = self.convert(file)
        head = build_head(converted.config).eval()
        head.load_state_dict(converted.head)
        return head


@pytest.fixture
def case(shared):
    return lambda name: Case(shared, name)


def near(ours, theirs, tolerance=1e-4):
    torch.testing.assert_close(ours.detach().squeeze(), theirs.squeeze().float(), atol=tolerance, rtol=0)


def near_gradient(ours, theirs):
    near(ours, theirs, tolerance=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", STUDENTS)
def test_both_paths_of_a_student(case, name):
    case = case(name)
    t = case.tensors
    encoder = case.encoder()
    both = encoder(t["wav"], path="both", output_hidden_states=True)
    ft, kd = torch.stack(both.hidden_states, 1), torch.stack(both.kd_hidden_states, 1)
    if name == "wav2vec2_xlsr_student":  # the paper's code hands out the last state only
        near(ft[:, -1], t["train_ft_last"])
        near(kd[:, -1], t["train_kd_last"])
    else:
        near(ft, t["ft_hidden"])
        near(kd, t["kd_hidden"])
    assert float((ft - kd).detach()[:, -1].abs().max()) > 1.0
    torch.testing.assert_close(encoder(t["wav"], path="kd").last_hidden_state, kd[:, -1])


def test_evaluation_takes_the_ft_path_for_every_item(case):
    case = case("wav2vec2_xlsr_student")
    encoder, t = case.encoder(), case.tensors
    ours = encoder(t["wav5"]).last_hidden_state
    near(ours, t["eval_batch1_last"])
    near(ours[2:], t["eval_batch5_last"][2:])
    assert float((ours[:2] - t["eval_batch5_last"][:2]).detach().abs().max()) > 0.5, "the authors' defect was copied"


@pytest.mark.parametrize("name", STUDENTS)
def test_stages_inside_a_student(case, name):
    case = case(name)
    encoder, t = case.encoder(), case.tensors
    features = encoder.convolve(t["wav"])
    near(features.transpose(1, 2), t["conv_features"])
    if "time_reduced_features" in t:
        near(encoder.time_reduction(features).transpose(1, 2), t["time_reduced_features"])
    projected = encoder._project(features, None)
    near(projected, t["projected_features"])
    near(encoder.encoder.pos_conv_embed(projected), t["pos_conv_output"])
    for index, layer in enumerate(encoder.encoder.layers):
        near(layer.adapter(t[f"adapter{index}_in"]), t[f"adapter{index}_out"])


@pytest.mark.parametrize("name", ["hubert_base_student", "wavlm_base_student"])
def test_masked_layers(case, name):
    """The originals run GroupNorm over the padding: the front end gets no mask here, the layers do."""
    case = case(name)
    encoder, t = case.encoder(), case.tensors
    lengths = t["masked_frame_lengths"].tolist()
    assert lengths == [feature_lengths(encoder.config, length) for length in t["masked_lengths"].tolist()]
    features = encoder.convolve(t["masked_wav"])
    frame_mask = torch.arange(features.shape[-1]) < torch.tensor(lengths)[:, None]
    outputs = encoder.encode(features, frame_mask, "both")
    kd, ft = outputs.kd_hidden_states, outputs.hidden_states
    for row, length in enumerate(lengths):
        near(torch.stack(ft, 1)[row, :, :length], t["masked_ft_hidden"][row, :, :length])
        near(kd[-1][row, :length], t["masked_kd_hidden_last"][row, :length])
    mask = (torch.arange(t["masked_wav"].shape[1]) < t["masked_lengths"][:, None]).long()
    public = encoder(t["masked_wav"], mask).last_hidden_state
    assert float((public[2, : lengths[2]] - ft[-1][2, : lengths[2]]).detach().abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["hubert_base_student", "wavlm_base_student"])
@pytest.mark.parametrize("path", ["kd", "ft"])
def test_gradients_of_each_path(case, name, path):
    case = case(name)
    encoder, t = case.encoder(), case.tensors
    out = encoder(t["wav"], path="both")
    last = out.kd_last_hidden_state if path == "kd" else out.last_hidden_state
    (last * t["grad_probe"]).mean().backward()
    parameters = dict(encoder.named_parameters())
    for key, theirs in t.items():
        if key.startswith(f"grad_{path}."):
            own = parameters[key.removeprefix(f"grad_{path}.").replace("os_kdft_adapter", "adapter")]
            if path == "kd" and "adapter" in key:
                assert own.grad is None and float(theirs.abs().max()) == 0.0
            else:
                near_gradient(own.grad, theirs)


@pytest.mark.parametrize("name", ["hubert_base_student", "wavlm_base_student"])
def test_what_a_student_takes_from_its_teacher(case, name):
    """Ours takes what the authors' takes, and the positional convolution and the encoder's LayerNorm as well."""
    case = case(name)
    config = case.convert().config
    teacher_config = type(config.encoder_config).from_dict(config.encoder_config.to_dict())
    teacher_config.num_hidden_layers = case.config["teacher_num_hidden_layers"]
    from modeling_oskdft.model.layers_oskdft import FAMILIES

    teacher = FAMILIES[config.encoder_config.model_type].model(teacher_config)
    config.teacher_layers = case.config["constructor"]["init_teacher_param"]
    student = init_student_from_teacher(teacher, config).oskdft
    taken, theirs = dict(student.named_parameters()), dict(teacher.named_parameters())
    for key in case.expected["parameters_equal_to_teacher_after_construction"]:
        assert torch.equal(taken[key], theirs[key]), key
    for key in ("encoder.layer_norm.weight", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"):
        assert torch.equal(taken[key], theirs[key]), key


def test_front_heads_of_the_fit_student(case):
    case = case("hubert_fit_student")
    encoder, t = case.encoder(), case.tensors
    objective = LayerwiseProjection(40, 56, [1, 2, 3], match=FrameMatch(encoder.config.time_reduction))
    converted = case.convert()
    objective.load_state_dict({name.removeprefix("kd."): value for name, value in converted.objectives.items()})
    both = encoder(t["wav"], path="both", output_hidden_states=True)
    near(torch.stack(objective.project(both.kd_hidden_states, 49), 1), t["kd_head_output"])
    near(torch.stack(objective.project(both.hidden_states, 49), 1), t["ft_head_output"])


def test_ecapa_head(case):
    case = case("ecapa_head_aam")
    head, t = case.head(), case.tensors
    for features, embedding in (("features", "embedding"), ("features_len2", "embedding_len2")):
        near(head(tuple(t[features].unbind(1))), t[embedding])
    near(head.mix(tuple(t["features"].unbind(1))), t["weighted_sum"])
    states = t["features"].clone().requires_grad_()
    head(tuple(states.unbind(1))).square().mean().backward()
    near_gradient(states.grad, t["grad_features_of_mean_square_embedding"])
    near_gradient(head.layer_weights.grad, t["grad_w_of_mean_square_embedding"])


def test_ecapa_head_without_a_weighted_sum(case):
    case = case("ecapa_head_aam")
    del (head := case.head()).layer_weights
    states = tuple(case.tensors["features"].unbind(1))
    near(head(states), case.tensors["embedding_no_weighted_sum"])
    near(head(states[-1:]), case.tensors["embedding_3d_input"])


def test_ecapa_head_of_the_paper_and_its_loss(case):
    case = case("ecapa_head_aam")
    head, t = case.head("state_dict_prev"), case.tensors
    embedding = head((t["prev_input"].float().transpose(1, 2),))
    near(embedding, t["prev_embedding"])
    objectives = case.convert("state_dict_prev").objectives
    weight, class_weights = objectives["speaker.weight"], objectives["speaker.class_weights"]
    loss = AAMSoftmax(24, len(weight), weights=class_weights)
    loss.load_state_dict({"weight": weight, "class_weights": class_weights})
    value = loss(embedding, t["prev_labels"].long()).mean()
    assert value.item() == pytest.approx(case.expected["prev"]["loss_from_features"], rel=1e-4)
    for kind, weights in (("classweight", class_weights), ("noweight", None)):
        loss = AAMSoftmax(24, len(weight), weights=weights)
        loss.weight.data.copy_(weight)
        embeddings = t["prev_aam_x"].clone().requires_grad_()
        value = loss(embeddings, t["prev_aam_labels"].long()).mean()
        value.backward()
        name = f"prev_aam_easyFalse_{kind}"  # easy margin is never switched on there and does not exist here
        assert value.item() == pytest.approx(case.expected["prev"][name], rel=1e-4)
        near_gradient(embeddings.grad, t[f"{name}.grad_x"])
        near_gradient(loss.weight.grad, t[f"{name}.grad_weight"])


@pytest.mark.parametrize("weights", ["noweight", "classweight"])
@pytest.mark.parametrize("penalty", ["plain", "topk"])
@pytest.mark.parametrize("sign", ["positive", "mixed"])
def test_aam_softmax(case, weights, penalty, sign):
    case = case("ecapa_head_aam")
    t, settings = case.tensors, case.config["aam"]
    top_k, top_margin = settings["topk"] if penalty == "topk" else (0, 0.0)
    class_weights = t["aam_class_weight"] if weights == "classweight" else None
    loss = AAMSoftmax(24, 17, settings["margin"], settings["scale"], class_weights, top_k, top_margin)
    loss.weight.data.copy_(t["aam_fc"])
    embeddings = t[f"aam_x_{sign}"].clone().requires_grad_()
    value = loss(embeddings, t["aam_labels"].long()).mean()
    value.backward()
    name = f"aam_{weights}_{penalty}_{sign}"
    # Two defects of the original are not copied: no correction beyond theta + m = pi, and a target that falls among
    # its own top impostors. Items without either agree to the last one.
    target = t["aam_cosine_mixed" if sign == "mixed" else "aam_cosine_positive"].gather(
        1, t["aam_labels"].long()[:, None]
    )
    sound = target[:, 0] > -math.cos(settings["margin"])
    if penalty == "topk":
        sound[case.expected[f"aam_{sign}_items_whose_target_is_inside_its_own_topk"]] = False
    assert bool(sound.all()) == (sign == "positive")
    near_gradient(embeddings.grad[sound], t[f"{name}.grad_x"][sound])
    if sign == "positive":
        assert value.item() == pytest.approx(case.expected["aam"][name], rel=1e-4)
        near_gradient(loss.weight.grad, t[f"{name}.grad_fc"])
    else:
        assert value.item() != pytest.approx(case.expected["aam"][name], rel=1e-4)


def test_linear_head_and_its_loss(case):
    case = case("linear_head")
    head, t = case.head(), case.tensors
    states = t["features"].clone().requires_grad_()
    embedding = head(tuple(states.unbind(1)))
    near(embedding, t["embedding"])
    objectives = case.convert().objectives
    for kind in ("noweight", "classweight"):
        loss = LinearSoftmax(24, 13, t["class_weight"] if kind == "classweight" else None)
        loss.classifier.weight.data.copy_(objectives["speaker.classifier.weight"])
        loss.classifier.bias.data.copy_(objectives["speaker.classifier.bias"])
        own = t["embedding"].clone().requires_grad_()
        value = loss(own, t["labels"].long()).mean()
        value.backward()
        assert value.item() == pytest.approx(case.expected[f"cce_{kind}"], rel=1e-4)
        near_gradient(own.grad, t[f"cce_{kind}.grad_embedding"])
        near_gradient(loss.classifier.weight.grad, t[f"cce_{kind}.grad_fc_weight"])
    loss(embedding, t["labels"].long()).mean().backward()
    near_gradient(states.grad, t["grad_features_cce_classweight"])
    near_gradient(head.layer_weights.grad, t["grad_w_cce_classweight"])


def test_linear_head_in_training(case):
    case = case("linear_head")
    t = case.tensors
    everyone = torch.ones(t["features"].shape[0], t["features"].shape[2], dtype=torch.bool)
    for frame_mask in (None, everyone):
        head = case.head().train()
        near(head(tuple(t["features"].unbind(1)), frame_mask), t["train_mode_embedding"])
        near(head.embedding_norm.running_mean, t["train_mode_running_mean_after"])
        near(head.embedding_norm.running_var, t["train_mode_running_var_after"])


def test_kd_losses(case):
    case = case("kd_losses")
    t = case.tensors
    teacher, student = t["mse_teacher_last"], t["mse_student_last"].clone().requires_grad_()
    for epoch in (1, 50, 99, 100):
        loss = linear_to_zero(epoch, 100) * LastLayerMSE(12)([student], [teacher]).mean()
        assert loss.item() == pytest.approx(case.expected["mse"][f"loss_kd_epoch{epoch}"], rel=1e-4)
        (gradient,) = torch.autograd.grad(loss, student)
        near_gradient(gradient, t[f"mse_grad_student_epoch{epoch}"])

    targets = case.config["distil"]["target_layer_idx"]
    states = t["distil_student_hidden"].clone().requires_grad_()
    teacher_states = [t["distil_teacher_hidden"][:, index] for index in targets]
    predictors = {name.removeprefix("kd."): value for name, value in case.convert().objectives.items()}
    for cos_lambda in (0, 1):
        objective = LayerwiseHeads(32, 32, targets, cos_lambda, reduction="sum")
        objective.load_state_dict(predictors)
        loss = objective(states.unbind(1), teacher_states).mean()
        assert loss.item() == pytest.approx(case.expected["distil"][f"loss_cos_lambda_{cos_lambda}"], rel=1e-4)
    near(torch.stack([predict(states[:, -1]) for predict in objective.predictors], 1), t["distil_predictions"])
    loss.backward()
    near_gradient(states.grad, t["distil_grad_student_hidden"])
    for name, parameter in objective.predictors.named_parameters():
        near_gradient(parameter.grad, t[f"distil_grad.predict_layer.{name}"])
    half = case.expected["distil"]["first_half_frames"]
    cut = objective([states[:, -1, :half]], [state[:, :half] for state in teacher_states]).mean()
    assert cut.item() == pytest.approx(case.expected["distil"]["loss_first_half_of_frames"], rel=1e-4)

    projected = t["fit_student"].clone().requires_grad_()
    objective = LayerwiseProjection(32, 32, [1, 2, 3], case.config["fit"]["hint_lambda"])
    loss = objective.compare(projected.unbind(1), t["fit_teacher_hidden"][:, 1:].unbind(1)).mean()
    assert loss.item() == pytest.approx(case.expected["fit"]["loss"], rel=1e-4)
    loss.backward()
    near_gradient(projected.grad, t["fit_grad_student"])


def test_the_joint_step(case):
    case = case("joint_step")
    config, t = case.config, case.tensors
    converted = case.convert()
    student = OSKDFTForXVector(converted.config)
    student.oskdft.load_state_dict(converted.encoder)
    student.head.load_state_dict(converted.head)
    objectives = Objectives(
        LinearSoftmax(config["embed_size"], config["num_class"], converted.objectives["speaker.class_weights"]),
        LayerwiseHeads(48, 48, config["target_layer_idx"], config["cos_lambda"], reduction="sum"),
    )
    objectives.load_state_dict(converted.objectives)
    state = load_file(case.folder / "state_dict.safetensors")
    teacher_state = {
        name.removeprefix("teacher."): value for name, value in state.items() if name.startswith("teacher.")
    }
    known = HubertConfig().to_dict()
    described = {name: value for name, value in config["encoder_config"].items() if name in known}
    depth = config["teacher_num_hidden_layers"]
    model = HubertModel(HubertConfig(**(described | {"num_hidden_layers": depth})))
    prefix = "encoder.pos_conv_embed.conv."
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        teacher_state[f"{prefix}parametrizations.weight.{new}"] = teacher_state.pop(prefix + old)
    model.load_state_dict(teacher_state)
    joint = JointModel(student, objectives).eval()
    targets = Teacher(model, config["target_layer_idx"])({"input_values": t["wav"]})
    output = joint(t["wav"], t["labels"].long(), targets.hidden_states)
    kd_loss, ft_loss = output.kd.mean(), output.ft.mean()
    assert kd_loss.item() == pytest.approx(case.expected["kd_loss"], rel=1e-4)
    assert ft_loss.item() == pytest.approx(case.expected["ft_loss"], rel=1e-4)
    (kd_loss + ft_loss).backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in joint.named_parameters()}
    names = {
        "backend.fc1": "student.head.projection",
        "backend.w": "student.head.layer_weights",
        "ft_loss.fc": "objectives.speaker.classifier",
        "kd_loss.predict_layer": "objectives.kd.predictors",
        "student.hubert": "student.oskdft",
        "os_kdft_adapter": "adapter",
        "conv.weight_g": "conv.parametrizations.weight.original0",
    }
    for key, theirs in t.items():
        if key.startswith("grad."):
            own = key
            for old, new in names.items():
                own = own.replace(old, new)
            near_gradient(gradients[own].reshape(theirs.shape), theirs)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_schedules(case):
    case = case("schedules")
    epochs, prev = case.config["epochs"], case.config["prev"]

    def head(epoch):
        return cosine(epoch, epochs, prev["lr"], prev["lr_min"])

    for entry in case.expected["prev_per_epoch"]:
        epoch = entry["epoch"]
        assert head(epoch) == pytest.approx(entry["sv_lr"], rel=1e-12)
        assert 10 * head(epoch) == pytest.approx(entry["adapter_lr"], rel=1e-12)
        assert warmup_then_decay(epoch, head) == pytest.approx(entry["kd_lr"], rel=1e-12)
        assert linear_to_zero(epoch, epochs) == pytest.approx(entry["kd_weight"], abs=1e-15)
    for recipe in case.expected["exp_main"].values():
        # Their scheduler reads the next epoch's rate, and starts anew in the last epoch: a defect, not copied.
        for index, rate in enumerate(recipe["lr_per_epoch_1_to_E"][:-1]):
            ours = cosine(index + 2, recipe["T_0"], recipe["lr"], recipe["lr_min"])
            assert ours == pytest.approx(rate, rel=1e-12)


def test_scores_and_equal_error_rates(case):
    case = case("scoring")
    t = {name: tensor.numpy() for name, tensor in case.tensors.items()}
    labels, sides = t["trial_label"], (t["trial_enroll_index"], t["trial_test_index"])
    trials = Trials(labels, *([str(index) for index in side] for side in sides))
    full, segments = (
        score_trials(trials, {str(index): one for index, one in enumerate(t[f"embeddings_{kind}"])})
        for kind in ("full", "segments")
    )
    for ours, name in ((full, "full"), (segments, "segments"), (combined_scores(full, segments), "mean")):
        np.testing.assert_allclose(ours, t[f"scores_{name}"], atol=1e-5)
        theirs = case.expected[f"eer_{name}_percent"]
        assert 100 * equal_error_rate(t[f"scores_{name}"], labels).value == pytest.approx(theirs, abs=1e-6)
        assert 100 * equal_error_rate(ours, labels).value == pytest.approx(theirs, abs=0.1)
    for hand_made in case.expected["hand_made_eer"].values():
        ours = 100 * equal_error_rate(hand_made["scores"], hand_made["labels"]).value
        assert ours == pytest.approx(hand_made["eer_percent"], abs=1e-6)


@pytest.mark.parametrize("kind", ["unique", "repeated"])
def test_adaptive_s_norm(case, kind):
    case = case("scoring")
    t = {name: tensor.numpy() for name, tensor in case.tensors.items()}
    cohort = unit_length(t["embeddings_full"]) @ unit_length(t["cohort_embeddings"]).T
    sides = (cohort[t[f"asnorm_{kind}_{side}_index"]] for side in ("enroll", "test"))
    ours = adaptive_s_norm(t[f"asnorm_{kind}_raw"], *sides, top_n=case.config["asnorm"]["top_n"])
    np.testing.assert_allclose(ours, t[f"asnorm_{kind}_deduplicated_no_cross"], atol=1e-4)


def test_an_unknown_key_is_an_error():
    with pytest.raises(ValueError, match="'student.hubert.mystery.weight'.*remove it"):
        convert_original_state_dict(
            {"student.hubert.mystery.weight": torch.zeros(1)},
            {"encoder_config": tiny_config().encoder_config.to_dict()},
        )
