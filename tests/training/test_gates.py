import json

import pytest
import torch
from transformers import AutoModel

from modeling_oskdft.evaluation.cost import multiply_adds
from modeling_oskdft.training.gates import SPEED, Gates
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from tests.tiny import SHAPES, tiny_verifier, waves
from tests.training.making import assert_same, make_trainer, parameters
from train_oskdft import main


def gated(*shape, target=0.5, **fields):
    """A student with gates of random probabilities."""
    student = tiny_verifier(*shape, **fields)
    gates = Gates(student, target)
    torch.manual_seed(1)
    with torch.no_grad():
        for logits in gates.logits:
            logits.copy_(torch.randn_like(logits))
    return JointModel(student, Objectives(AAMSoftmax(12, 4), gates=gates)), gates


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("time_reduction", [1, 2])
def test_the_cut_student_is_the_gated_one(shape, time_reduction):
    joint, gates = gated(*shape, time_reduction=time_reduction, target=0.7)
    gates.progress = 1.0
    thin = gates.cut(joint.eval().student)
    waveforms, _ = waves(9000, 9000)
    with torch.no_grad():
        gates()
        wide, cut = (
            model.oskdft(waveforms, path="both", output_hidden_states=True) for model in (joint.student, thin)
        )
        for name in ("hidden_states", "kd_hidden_states"):
            for ours, theirs in zip(wide[name], cut[name], strict=True):
                assert torch.allclose(ours, theirs, atol=2e-5), name
        assert torch.allclose(joint.student(waveforms).embeddings, thin(waveforms).embeddings, atol=1e-4)
    assert sum(p.numel() for p in thin.parameters()) < sum(p.numel() for p in joint.student.parameters())


@pytest.mark.parametrize("target", [0.5, 0.7, 0.9])
def test_the_multiply_adds_are_those_of_the_target(target):
    joint, gates = gated("hubert", False, "group", target=target)
    whole = multiply_adds(joint.student.oskdft)  # gates that were never drawn are open
    share = multiply_adds(gates.cut(joint.student).oskdft) / whole
    assert target - 0.1 < share <= target + 1e-6
    units = gates.open_units()
    assert len({len(neurons) for neurons in units.neurons}) == 1
    for logits, chosen in zip(gates.logits, (*units.channels, *units.neurons), strict=True):
        assert logits[chosen].min() >= logits.topk(len(chosen)).values[-1]


def test_a_gate_is_open_as_often_as_its_probability_says():
    torch.manual_seed(0)
    _, gates = gated("hubert", False, "group")
    logits = torch.linspace(-3, 3, 7)
    drawn = torch.stack([Gates._draw(logits) for _ in range(4000)])
    with torch.no_grad():
        gates.logits[0] = torch.nn.Parameter(logits / SPEED)
    assert torch.allclose((drawn > 0).float().mean(0), gates.probabilities()[0].detach(), atol=0.03)
    assert drawn.min() == 0 and drawn.max() == 1


def test_the_penalty_brings_the_expected_share_to_the_target():
    _, gates = gated("hubert", False, "group", target=0.6)
    optimizer = torch.optim.Adam(gates.parameters(), lr=5e-3)
    for step in range(200):
        gates.advance(step, 400)
        optimizer.zero_grad()
        gates().backward()
        optimizer.step()
    assert float(gates.expected_share()) == pytest.approx(0.6, abs=0.06)
    gates.advance(200, 400)
    assert float(gates().detach()) == 0.0 and set(torch.cat(gates.values).tolist()) == {0.0, 1.0}


def test_losses_reach_every_gate_while_they_learn():
    joint, gates = gated("hubert", True, "layer")
    gates.advance(1, 100)
    output = joint.train()(waves(9000, 9000)[0], torch.tensor([0, 1]))
    output.losses(torch.ones(()), torch.ones(()), 1.0)["ft_loss"].backward()
    assert all(logits.grad is not None and logits.grad.any() for logits in gates.logits)


@pytest.mark.parametrize("stop", [3, 9])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, manifest, feature_extractor, stop):
    def make(folder, **more):
        objectives = {"gate_target": 0.6}
        return make_trainer(tmp_path / folder, manifest, feature_extractor, objectives, max_steps=12, **more)

    whole = make("whole", save_strategy="steps", save_steps=3, eval_strategy="steps", eval_steps=3, save_total_limit=9)
    whole.train()
    again = make("whole", save_strategy="steps", save_steps=3, eval_strategy="steps", eval_steps=3, save_total_limit=9)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
    assert_same(parameters(again), parameters(whole))
    share = multiply_adds(whole.published.oskdft)
    assert share <= 0.6 * whole.joint.objectives.gates.costs.whole


def test_measuring_does_not_change_the_training(tmp_path, manifest, feature_extractor):
    def trained(folder, steps):
        how = {"eval_strategy": "steps", "eval_steps": steps, "save_strategy": "no", "load_best_model_at_end": False}
        trainer = make_trainer(
            tmp_path / folder, manifest, feature_extractor, {"gate_target": 0.6}, max_steps=8, **how
        )
        trainer.train()
        return parameters(trainer)

    assert_same(trained("often", 2), trained("once", 8))


def test_what_is_shut_stays_shut():
    joint, gates = gated("hubert", False, "group")
    gates.advance(50, 100)
    before = gates.open_units()
    with torch.no_grad():
        for logits in gates.logits:
            logits.neg_()
    gates.advance(51, 100)
    again = Gates(joint.student, 0.5)
    again.load_state_dict(gates.state_dict())
    again.advance(51, 400)  # a run that became longer does not learn them again
    for units in (gates.open_units(), again.open_units()):
        for ours, theirs in zip((*units.channels, *units.neurons), (*before.channels, *before.neurons), strict=True):
            assert torch.equal(ours, theirs)
    assert again.is_shut


def test_a_run_publishes_an_ordinary_thinner_student(tmp_path, words, capsys):
    assert main([*words, "--gate_target", "0.6", "--output_dir", str(tmp_path / "run")]) == 0
    student = AutoModel.from_pretrained(tmp_path / "run")
    assert max(student.config.encoder_config.conv_dim) < 16 or student.config.encoder_config.intermediate_size < 48
    results = json.loads((tmp_path / "run/results.json").read_text())
    sizes = {name: each["encoder_parameters"] for name, each in results["encoders"].items()}
    assert sizes["student"] == sum(p.numel() for p in student.oskdft.parameters()) < sizes["whole_student"]
    assert results["fingerprint"] == student.fingerprint() and "gate_loss" in results["history"][0]
    capsys.readouterr()
    assert main([*words, "--start_from", str(tmp_path / "run"), "--output_dir", str(tmp_path / "next")]) == 2
    assert "is of a run with gate_target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--gate_target", "1.5"], "gate_target is 1.5"),
        (["--gate_target", "0.01"], "gate_target is 0.01 and the units without gates"),
        (["--gate_target", "0.6", "--freeze", "feature_encoder"], "freeze is feature_encoder with gate_target"),
        (["--gate_target", "0.6", "--ema_decay", "0.9"], "ema_decay is 0.9 with gate_target"),
    ],
)
def test_bad_input_gets_one_sentence(tmp_path, words, capsys, more, sentence):
    assert main([*words, "--output_dir", str(tmp_path / "x"), *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
