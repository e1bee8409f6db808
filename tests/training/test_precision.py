import copy

import torch
from torch import nn

from modeling_oskdft import OSKDFTForXVector
from modeling_oskdft.training.precision import InFloat32, protect_narrow_convolutions
from tests.tiny import tiny_config, tiny_teacher, waves


def narrow_teacher():
    return tiny_teacher(num_conv_pos_embedding_groups=4)  # 8 channels a group


def states(model, bf16):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(waves(4000, 4000)[0]).last_hidden_state.float()


def test_a_narrow_encoder_in_bfloat16_gives_about_what_it_gives_in_float32():
    teacher = narrow_teacher()
    expected = states(teacher, bf16=False)
    protect_narrow_convolutions(teacher)
    assert torch.equal(states(teacher, bf16=False), expected)
    assert float((states(teacher, bf16=True) - expected).norm() / expected.norm()) < 0.03


def test_it_computes_in_float32_under_autocast():
    layer = nn.Conv1d(32, 32, 3, groups=4)
    protect_narrow_convolutions(nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 32, 9)).dtype == torch.float32


def test_published_widths_and_ungrouped_convolutions_are_left_alone():
    wide, ungrouped = nn.Conv1d(64, 64, 3, groups=4), nn.Conv1d(8, 8, 3)
    protect_narrow_convolutions(nn.Sequential(wide, ungrouped))
    assert type(wide) is nn.Conv1d and type(ungrouped) is nn.Conv1d


def test_names_copies_and_saved_folders_stay_what_they_were(tmp_path):
    verifier = OSKDFTForXVector(tiny_config(encoder={"num_conv_pos_embedding_groups": 4}))
    names = list(verifier.state_dict())
    for _ in range(2):  # once is enough
        protect_narrow_convolutions(verifier)
    assert list(verifier.state_dict()) == names
    twin = copy.deepcopy(verifier)
    with torch.no_grad():
        for parameter in verifier.parameters():
            parameter.zero_()
    assert all(bool(value.abs().sum() > 0) for name, value in twin.named_parameters() if "original" in name)
    twin.save_pretrained(tmp_path)
    opened = OSKDFTForXVector.from_pretrained(tmp_path)
    assert not any(isinstance(module, InFloat32) for module in opened.modules())
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in opened.state_dict().items())
    # Weights are promised bit by bit; what a processor makes of them depends on where they lie in memory.
    torch.testing.assert_close(opened(waves(4000)[0]).embeddings, twin.eval()(waves(4000)[0]).embeddings)
