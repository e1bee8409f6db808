"""On a GPU: the same numbers as on the CPU, the same bits when resumed, and no synchronisation inside a step.

`make gpu` runs these; without CUDA all but the first are skipped.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modeling_oskdft.embedding.batches import embed_batch
from modeling_oskdft.student.positional_convolution import use_fourier_on_gpu
from modeling_oskdft.training.joint_model import JointModel
from modeling_oskdft.training.objectives.distillation import LayerwiseHeads
from modeling_oskdft.training.objectives.objectives import Objectives
from modeling_oskdft.training.objectives.speaker import AAMSoftmax
from modeling_oskdft.training.teacher import Teacher
from tests.tiny import SHAPES, tiny_teacher, tiny_verifier, waves
from tests.training.making import StopAt, assert_same, make_trainer, parameters
from tests.training.test_distributed import free_port, write_recipe

pytestmark = pytest.mark.gpu
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """float32 products in float32, and kernels that add in one order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def joint_model(shape=SHAPES[0]):
    torch.manual_seed(0)
    student = tiny_verifier(*shape)
    objectives = Objectives(AAMSoftmax(12, 5), LayerwiseHeads(32, 32, [1, 2, 4]))
    teacher = Teacher(tiny_teacher(*shape), [1, 2, 4])
    return JointModel(student, objectives), teacher


def inputs_of(teacher, device):
    torch.manual_seed(0)
    waveforms, labels = waves(8000, 8000, 8000, 8000)[0].to(device), torch.arange(4, device=device)
    return waveforms, labels, *teacher.to(torch.device(device))({"input_values": waveforms})


def losses(joint, teacher, device):
    output = joint.to(device)(*inputs_of(teacher, device))
    return output.ft.mean(), output.kd.mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_step_of_these_tests_runs_on_a_cpu(shape):
    """Most machines skip the others: without it, they were not noticed to call the teacher as it was before."""
    assert all(loss.isfinite() and loss > 0 for loss in losses(*joint_model(shape), "cpu"))


@on_cuda
@pytest.mark.parametrize("shape", SHAPES)
def test_paths_losses_and_gradients_equal_the_cpu_s(shape):
    joint, teacher = joint_model(shape)
    joint.eval()
    results = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(joint)
        both = losses(model, teacher, device)
        sum(both).backward()
        gradients = {name: value.grad.cpu() for name, value in model.named_parameters() if value.grad is not None}
        results.append(([loss.item() for loss in both], gradients))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, atol=1e-3, rtol=1e-3)
    student = joint.student.cpu().eval()
    waveforms, mask = waves(8000, 6000, 4000)
    for path in ("kd", "ft"):
        expected = student.oskdft(waveforms, mask, path=path).last_hidden_state
        states = student.cuda().oskdft(waveforms.cuda(), mask.cuda(), path=path).last_hidden_state.cpu()
        student.cpu()
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


@on_cuda
@pytest.mark.parametrize("shape", SHAPES)
def test_the_positional_convolution_by_fourier_transforms(shape):
    verifier = tiny_verifier(*shape).eval().cuda()
    waveforms = waves(8000)[0].cuda()
    expected = verifier(waveforms).embeddings
    use_fourier_on_gpu(verifier)
    torch.testing.assert_close(verifier(waveforms).embeddings, expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cuda", torch.bfloat16):
        hidden = torch.randn(2, 20, verifier.config.encoder_config.hidden_size, device="cuda")
        assert verifier.oskdft.encoder.pos_conv_embed(hidden).dtype == torch.bfloat16


@on_cuda
def test_bfloat16_stays_near(feature_extractor):
    student = tiny_verifier().eval()
    recordings = [waves(16000)[0][0].numpy(), waves(12000, seed=1)[0][0].numpy()]
    expected = embed_batch(student, feature_extractor, recordings)
    with torch.autocast("cuda", torch.bfloat16):
        embeddings = embed_batch(student.cuda(), feature_extractor, recordings).float().cpu()
    assert bool((torch.cosine_similarity(expected, embeddings) > 0.99).all())


@on_cuda
@pytest.mark.parametrize("arguments", [{}, {"bf16": True}], ids=["float32", "bf16"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, manifest, feature_extractor, arguments):
    settings = {"use_cpu": False, "save_strategy": "no", "load_best_model_at_end": False, **arguments}
    whole = make_trainer(tmp_path / "whole", manifest, feature_extractor, **settings)
    whole.train()
    make_trainer(tmp_path / "cut", manifest, feature_extractor, callbacks=[StopAt(5)], **settings).train()
    resumed = make_trainer(tmp_path / "cut", manifest, feature_extractor, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-5"))
    assert_same(parameters(resumed), parameters(whole))


@on_cuda
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4], SHAPES[5]])
def test_compiled_without_breaks(shape):
    joint, teacher = joint_model(shape)
    joint.cuda().train()
    inputs = inputs_of(teacher, "cuda")
    output = torch.compile(joint, fullgraph=True)(*inputs)
    (output.ft.mean() + output.kd.mean()).backward()
    student = joint.student.eval()
    with torch.inference_mode():
        expected = student(inputs[0]).embeddings
        embeddings = torch.compile(student, fullgraph=True)(inputs[0]).embeddings
    torch.testing.assert_close(embeddings, expected, atol=1e-3, rtol=1e-3)


@on_cuda
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(reentrant):
    waveforms, mask = (tensor.cuda() for tensor in waves(8000, 6000))
    gradients = []
    for checkpointed in (False, True):
        model = tiny_verifier(encoder={"hidden_dropout": 0.0, "attention_dropout": 0.0}).cuda().train()
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model(waveforms, mask).embeddings.square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


@on_cuda
def test_a_step_never_synchronises_with_the_host():
    joint, teacher = joint_model()
    joint.cuda().train()
    trained = [parameter for parameter in joint.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)
    waveforms, labels, *_ = inputs_of(teacher, "cuda")

    def step():
        optimizer.zero_grad()
        output = joint(waveforms, labels, *teacher({"input_values": waveforms}))
        (output.ft.mean() + output.kd.mean()).backward()
        optimizer.step()

    step()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_cuda
def test_two_processes_on_one_card(tmp_path, voices, feature_extractor):
    """nccl refuses two processes on one GPU, gloo allows them; a launcher gives each process its own GPU."""
    recipe = write_recipe(tmp_path, voices, feature_extractor)
    text = recipe.read_text()
    assert "use_cpu: true\n" in text
    recipe.write_text(text.replace("use_cpu: true\n", "ddp_backend: gloo\n") + "per_device_train_batch_size: 4\n")
    command = [sys.executable, str(ROOT / "train_oskdft.py"), str(recipe), "--output_dir", str(tmp_path / "run")]
    group = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | group | {"RANK": str(rank)})
        for rank in range(2)
    ]
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error[-3000:]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["processes"] == 2


@on_cuda
def test_extraction_and_a_graph_equal_the_cpu_s(tmp_path, manifest, feature_extractor):
    from modeling_oskdft.embedding.corpus import extract_embeddings

    student = tiny_verifier().eval()
    utterances = manifest.where("speaker_id", manifest.speakers[:3])
    expected = extract_embeddings(student, feature_extractor, utterances)
    on_gpu = extract_embeddings(student.cuda(), feature_extractor, utterances)
    for name, embedding in expected.items():
        torch.testing.assert_close(torch.from_numpy(on_gpu[name]), torch.from_numpy(embedding), atol=1e-4, rtol=1e-4)
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modeling-oskdft[export]'")
    from modeling_oskdft.export.onnx_graph import export_onnx

    student.cpu().save_pretrained(tmp_path / "student")
    feature_extractor.save_pretrained(tmp_path / "student")
    assert export_onnx(tmp_path / "student", tmp_path / "exported").cosine > 0.9999
