import pytest
import torch

from modeling_oskdft.model import heads_oskdft
from modeling_oskdft.model.configuration_oskdft import HEAD_TYPES
from modeling_oskdft.model.heads_oskdft import (
    AAMSoftmaxLoss,
    MaskedBatchNorm1d,
    add_angular_margin,
    build_head,
    masked_statistics,
)
from tests.tiny import HEADS, randomise, tiny_config


def frames(*lengths, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(len(lengths), max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return batch, mask


def test_statistics_by_hand():
    values = torch.tensor([[[1.0], [3.0], [99.0]]])
    mask = torch.tensor([[True, True, False]])
    torch.testing.assert_close(masked_statistics(values, mask), torch.tensor([[2.0, 2.0**0.5]]))
    torch.testing.assert_close(masked_statistics(values[:, :2], None), torch.tensor([[2.0, 2.0**0.5]]))


def test_statistics_of_one_frame_have_a_finite_gradient():
    values = torch.randn(1, 3, 4, requires_grad=True)
    statistics = masked_statistics(values, torch.tensor([[True, False, False]]))
    assert torch.equal(statistics[0, 4:], torch.zeros(4))
    statistics.sum().backward()
    assert bool(torch.isfinite(values.grad).all())


def test_statistics_are_those_of_torch():
    values, _ = frames(9, 9)
    expected = torch.cat([values.mean(1), values.std(1)], dim=1)
    torch.testing.assert_close(masked_statistics(values, None), expected)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 7)])
def test_batch_norm_without_a_mask_is_torch_s(shape):
    values = torch.randn(shape)
    masked, plain = randomise(MaskedBatchNorm1d(5)), torch.nn.BatchNorm1d(5)
    plain.load_state_dict(masked.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(masked.train(mode)(values), plain.train(mode)(values))
    assert all(
        torch.equal(a, b) for a, b in zip(masked.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_batch_norm_counts_valid_frames_only():
    values, mask = frames(7, 4, 2, width=5)
    values = values.transpose(1, 2)
    packed = torch.cat([values[row, :, : int(mask[row].sum())] for row in range(3)], dim=1)[None]
    masked, plain = randomise(MaskedBatchNorm1d(5)), torch.nn.BatchNorm1d(5)
    plain.load_state_dict(masked.state_dict())
    by_mask, alone = masked.train()(values, mask), plain.train()(packed)
    torch.testing.assert_close(by_mask.transpose(1, 2)[mask], alone[0].T)
    torch.testing.assert_close(masked.running_mean, plain.running_mean)
    torch.testing.assert_close(masked.running_var, plain.running_var)
    assert int(masked.num_batches_tracked) == 1


@pytest.mark.parametrize("head_type", HEADS)
@pytest.mark.parametrize("weighted", [True, False])
def test_padded_frames_change_nothing(head_type, weighted):
    head = randomise(build_head(tiny_config(head_type=head_type, use_weighted_layer_sum=weighted))).eval()
    lengths = (40, 17, 1)
    states = [frames(*lengths, seed=seed) for seed in range(3)]
    mask = states[0][1]
    batch = head(tuple(state for state, _ in states), mask)
    for row, length in enumerate(lengths):
        alone = head(tuple(state[row : row + 1, :length] for state, _ in states))
        torch.testing.assert_close(batch[row : row + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head_type", HEADS)
def test_training_with_a_mask_of_ones_is_training_without(head_type):
    states, mask = frames(20, 20, 20)
    results = []
    for frame_mask in (None, mask):
        torch.manual_seed(1)
        head = randomise(build_head(tiny_config(head_type=head_type))).train()
        results.append((head((states, states, states), frame_mask), head.state_dict()))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-4)
    for name, value in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_the_mixture_is_free_and_starts_even():
    head = build_head(tiny_config(layers=3))
    assert torch.equal(head.layer_weights, torch.full((4,), 0.25))
    head.layer_weights.data = torch.tensor([0.0, 2.0, 0.0, -1.0])
    states = tuple(torch.full((1, 2, 32), float(index)) for index in range(4))
    assert torch.equal(head.mix(states), torch.full((1, 2, 32), 2.0 * 1 - 3.0))


def test_without_a_mixture_there_is_no_such_parameter():
    head = build_head(tiny_config(use_weighted_layer_sum=False))
    assert not any("layer_weights" in name for name in head.state_dict())
    states = tuple(torch.randn(1, 2, 32) for _ in range(3))
    assert head.mix(states) is states[-1]


def test_ecapa_has_the_published_size():
    from modeling_oskdft import OSKDFTConfig

    parameters = sum(p.numel() for p in build_head(OSKDFTConfig(use_weighted_layer_sum=False)).parameters())
    assert 7_500_000 < parameters < 9_000_000  # "33 MB with ECAPA at width 768"


def test_the_margin_is_added_to_the_angle_and_the_logit_falls_up_to_pi():
    angles = torch.linspace(0.01, torch.pi - 0.01, 200, dtype=torch.float64)
    cosine = angles.cos().requires_grad_()
    shifted = add_angular_margin(cosine, 0.2)
    below = angles < torch.pi - 0.2
    torch.testing.assert_close(shifted[below], (angles + 0.2).cos()[below])
    assert bool((shifted.diff() < 0).all())
    shifted.sum().backward()
    assert bool(torch.isfinite(cosine.grad).all())


def test_the_aam_loss_by_hand():
    loss = AAMSoftmaxLoss(2, 3, margin=0.2, scale=4.0)
    angles = torch.tensor([0.0, 1.0, 2.0])
    loss.weight.data = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    angle = torch.tensor([0.3])
    embedding = 5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    logits = 4 * torch.tensor([[0.3, 0.7 + 0.2, 1.7]]).cos()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    torch.testing.assert_close(loss(embedding, torch.tensor([1])), expected)


def _half_of_the_batch(rank, folder):
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    assert distributed.get_world_size() == 2 and distributed.get_backend() == "gloo"
    values, mask = frames(9, 6, 4, 2, width=5)
    half = values[2 * rank : 2 * rank + 2].transpose(1, 2).clone().requires_grad_()
    norm = randomise(MaskedBatchNorm1d(5)).train()
    out = norm(half, mask[2 * rank : 2 * rank + 2])
    (out.square() * torch.arange(9)).sum().backward()
    torch.save((out.detach(), half.grad, norm.running_var), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_are_the_doubled_batch(tmp_path):
    torch.multiprocessing.spawn(_half_of_the_batch, args=(str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    values, mask = frames(9, 6, 4, 2, width=5)
    whole = values.transpose(1, 2).clone().requires_grad_()
    norm = randomise(MaskedBatchNorm1d(5)).train()
    out = norm(whole, mask)
    (out.square() * torch.arange(9)).sum().backward()
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), out)
    torch.testing.assert_close(torch.cat([half[1] for half in halves]), whole.grad)
    torch.testing.assert_close(halves[0][2], norm.running_var)
    torch.testing.assert_close(halves[1][2], norm.running_var)


def test_every_head_type_of_the_configuration_has_a_head():
    assert tuple(heads_oskdft.HEADS) == HEAD_TYPES
    for name, head in heads_oskdft.HEADS.items():
        assert type(build_head(tiny_config(head_type=name))) is head
