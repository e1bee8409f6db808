"""Every promise of the model, for every kind of it: a table of cases through one contract.

A new option of the configuration is a new value in a column of `COLUMNS`; a new promise is a new test. The cases cover
every pair of values of two columns, so that an option is tried beside every other one.
"""

import copy
import itertools
import random

import pytest
import torch
from transformers import AutoModel, AutoModelForAudioXVector

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector, OSKDFTModel, init_student_from_teacher
from modeling_oskdft.model.modeling_oskdft import adapter_parameters
from tests.tiny import HEADS, SHAPES, encoder_config, randomise, tiny_config, tiny_teacher, waves

COLUMNS = {
    "shape": SHAPES,
    "head_type": HEADS,
    "time_reduction": (1, 2),
    "adapter": (
        {},
        {"adapter_layers": [1]},
        {"adapter_residual": True, "adapter_norm": False, "adapter_activation": "elu"},
        {"adapter_noise": (0.1, 0.5), "adapter_scale": 1.0},
    ),
    "use_weighted_layer_sum": (True, False),
    "layers": (2, 3),
}


def pairwise(columns, seed=0):
    """Choose cases until every pair of values of two columns stands in one of them.

    The greedy choice of AETG (Cohen et al., 1997): of some random cases, the one with the most new pairs is taken.
    """
    generator, names = random.Random(seed), list(columns)
    positions = {name: range(len(values)) for name, values in columns.items()}
    missing = {
        ((first, a), (second, b))
        for first, second in itertools.combinations(names, 2)
        for a, b in itertools.product(positions[first], positions[second])
    }
    cases = []
    while missing:
        candidates = [{name: generator.choice(positions[name]) for name in names} for _ in range(60)]
        pairs_of = [set(itertools.combinations(candidate.items(), 2)) & missing for candidate in candidates]
        best = max(range(len(candidates)), key=lambda number: len(pairs_of[number]))
        if pairs_of[best]:
            missing -= pairs_of[best]
            cases.append({name: columns[name][position] for name, position in candidates[best].items()})
    return cases


def name_of(case):
    family, pre_norm, conv_norm = case["shape"]
    options = "+".join(case["adapter"]) or "plain"
    head = case["head_type"].split("_")[0]
    return f"{family}-{'pre' if pre_norm else 'post'}-{conv_norm}-{head}-{case['time_reduction']}-{options}"


CASES = pairwise(COLUMNS)
every_case = pytest.mark.parametrize("case", CASES, ids=name_of)


def config_of(case, **fields):
    options = {name: case[name] for name in ("head_type", "time_reduction", "use_weighted_layer_sum")}
    return tiny_config(*case["shape"], layers=case["layers"], **options, **case["adapter"], **fields)


def verifier_of(case):
    torch.manual_seed(0)
    return randomise(OSKDFTForXVector(config_of(case))).eval()


def test_the_cases_cover_every_pair():
    assert len(CASES) < 50
    for first, second in itertools.combinations(COLUMNS, 2):
        for a, b in itertools.product(COLUMNS[first], COLUMNS[second]):
            assert any(case[first] == a and case[second] == b for case in CASES)


@every_case
def test_each_row_of_a_padded_batch_is_its_own_run(case):
    verifier, lengths = verifier_of(case), (8000, 5000, 1200, 800)
    waveforms, mask = waves(*lengths)
    batch = verifier(waveforms, mask).embeddings
    assert batch.dtype == torch.float32 and batch.shape == (4, 12)
    for row, length in enumerate(lengths):
        alone = verifier(waveforms[row : row + 1, :length]).embeddings
        torch.testing.assert_close(batch[row : row + 1], alone, atol=1e-4, rtol=1e-4)
    loud = waveforms + 100 * (1 - mask)  # samples in the padding are never read
    torch.testing.assert_close(verifier(loud, mask).embeddings, batch, atol=1e-5, rtol=0)


@every_case
def test_a_mask_of_ones_is_no_mask(case):
    verifier = verifier_of(case)
    waveforms, mask = waves(5000, 5000)
    ones = verifier(waveforms, mask).embeddings
    torch.testing.assert_close(ones, verifier(waveforms).embeddings, atol=1e-5, rtol=1e-5)


@every_case
def test_both_paths_in_one_pass_are_two_separate_passes(case):
    encoder = verifier_of(case).oskdft
    waveforms, mask = waves(5000, 3000)
    for attention_mask in (None, mask):
        both = encoder(waveforms, attention_mask, path="both", output_hidden_states=True)
        for path, states in (("kd", both.kd_hidden_states), ("ft", both.hidden_states)):
            alone = encoder(waveforms, attention_mask, path=path, output_hidden_states=True)
            assert len(alone.hidden_states) == case["layers"] + 1
            for state, state_of_both in zip(alone.hidden_states, states, strict=True):
                torch.testing.assert_close(state, state_of_both, atol=1e-5, rtol=0)
            assert torch.equal(alone.last_hidden_state, alone.hidden_states[-1])


@every_case
def test_paths_start_equal_also_after_loading(case, tmp_path):
    if case["adapter"].get("adapter_residual"):
        pytest.skip("the paper's residual adds the adapter's input, so the paths differ from the start")
    verifier = OSKDFTForXVector(config_of(case)).eval()
    verifier.save_pretrained(tmp_path / "verifier")
    # A folder without adapters: from_pretrained makes them, and they must start at zero too.
    bare = OSKDFTForXVector(config_of({**case, "adapter": {}}, adapter_size=0))
    bare.save_pretrained(tmp_path / "bare")
    grown = OSKDFTForXVector.from_pretrained(tmp_path / "bare", config=config_of(case)).eval()
    for model in (verifier, OSKDFTForXVector.from_pretrained(tmp_path / "verifier").eval(), grown):
        output = model.oskdft(waves(3000)[0], path="both")
        assert torch.equal(output.last_hidden_state, output.kd_last_hidden_state)
        weights = {name: parameter for name, parameter in adapter_parameters(model) if name.endswith("weight")}
        assert all(bool((weight == 0).all()) for name, weight in weights.items() if ".up." in name)
        assert all(bool(weight.std() > 0) for name, weight in weights.items() if ".down." in name)


@every_case
def test_the_kd_path_is_the_cut_teacher_whatever_the_adapters(case):
    if case["time_reduction"] > 1:
        pytest.skip("a convolution of time reduction is not the teacher's")
    teacher = tiny_teacher(*case["shape"])
    layers = list(range(case["layers"]))
    fields = {name: case[name] for name in ("head_type", "use_weighted_layer_sum")} | case["adapter"]
    config = OSKDFTConfig.from_teacher(teacher.config, layers, adapter_size=8, **fields)
    encoder = init_student_from_teacher(teacher, config).oskdft.eval()
    waveforms, _ = waves(4000, 4000)
    teacher.encoder.layers = torch.nn.ModuleList([teacher.encoder.layers[layer] for layer in layers])
    expected = teacher(waveforms).last_hidden_state
    torch.testing.assert_close(encoder(waveforms, path="kd").last_hidden_state, expected)
    for _, parameter in adapter_parameters(encoder):
        parameter.data.normal_()
    torch.testing.assert_close(encoder(waveforms, path="kd").last_hidden_state, expected)
    assert not torch.allclose(encoder(waveforms, path="ft").last_hidden_state, expected, atol=1e-2)


@every_case
def test_the_kd_path_leaves_as_a_plain_encoder(case, tmp_path):
    verifier = verifier_of(case)
    if case["time_reduction"] > 1:
        with pytest.raises(ValueError, match="time_reduction is 2.*path='kd'"):
            verifier.export_kd_path()
        return
    plain = verifier.export_kd_path()
    waveforms, _ = waves(4000, 4000)
    expected = verifier.oskdft(waveforms, path="kd").last_hidden_state
    torch.testing.assert_close(plain(waveforms).last_hidden_state, expected)
    plain.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config.model_type == case["shape"][0]
    torch.testing.assert_close(again(waveforms).last_hidden_state, expected)


@every_case
def test_every_loss_reaches_what_it_trains_and_nothing_else(case):
    verifier = verifier_of(case)
    encoder = verifier.oskdft
    encoder(waves(3000)[0], path="both").kd_last_hidden_state.square().sum().backward()
    assert all(parameter.grad is None for _, parameter in adapter_parameters(encoder))
    verifier.zero_grad()
    verifier(waves(3000, 3000)[0]).embeddings.square().sum().backward()
    unread = {"oskdft.masked_spec_embed"}
    for name, parameter in verifier.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached or name in unread, name


@every_case
def test_every_door_opens_the_same_model(case, tmp_path):
    verifier = verifier_of(case)
    verifier.save_pretrained(tmp_path)
    waveforms, mask = waves(4000, 3000)
    expected, state = verifier(waveforms, mask).embeddings, verifier.state_dict()
    for door in (OSKDFTForXVector, AutoModel, AutoModelForAudioXVector):
        opened = door.from_pretrained(tmp_path)
        assert type(opened) is OSKDFTForXVector and not opened.training
        assert all(torch.equal(value, state[name]) for name, value in opened.state_dict().items())
        # The last bit of a matrix product depends on where its tensors lie in memory.
        torch.testing.assert_close(opened(waveforms, mask).embeddings, expected, atol=1e-5, rtol=1e-5)
        assert opened.fingerprint() == verifier.fingerprint()
    encoder, report = OSKDFTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and all(key.startswith("head.") for key in report["unexpected_keys"])
    frames = verifier.oskdft(waveforms, mask).last_hidden_state
    torch.testing.assert_close(encoder(waveforms, mask).last_hidden_state, frames, atol=1e-5, rtol=1e-5)


@every_case
def test_several_sites_share_one_trunk(case, tmp_path):
    model = verifier_of(case)
    other = copy.deepcopy(model)
    randomise(other.head, seed=5)
    for name, module in other.named_modules():
        if name.endswith(".adapter"):
            randomise(module, seed=6)
    waveforms, mask = waves(6000, 4000)
    here, there = (verifier(waveforms, mask).embeddings for verifier in (model, other))
    assert not torch.allclose(here, there, atol=1e-2)
    other.save_speaker_adapter(tmp_path / "site")
    model.load_speaker_adapter(tmp_path / "site", "site")
    assert torch.equal(model(waveforms, mask).embeddings, here) and model.speaker_adapter == "default"
    for name, expected in (("site", there), ("default", here), ("site", there)):
        model.set_speaker_adapter(name)
        torch.testing.assert_close(model(waveforms, mask).embeddings, expected)
    assert model.speaker_adapters == ["default", "site"]
    model.save_pretrained(tmp_path / "whole")  # the adapter in use is saved
    again = type(model).from_pretrained(tmp_path / "whole").eval()
    assert torch.allclose(again(waveforms, mask).embeddings, there, atol=1e-5)


@every_case
def test_half_precision_stays_near_and_gives_float32(case):
    verifier = verifier_of(case)
    waveforms, mask = waves(6000, 4000)
    exact = verifier(waveforms, mask).embeddings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = verifier(waveforms, mask).embeddings
    whole = verifier.to(torch.bfloat16)(waveforms.bfloat16(), mask).embeddings
    for rough in (autocast, whole):
        assert rough.dtype == torch.float32
        assert bool((torch.nn.functional.cosine_similarity(rough, exact) > 0.99).all())


@pytest.mark.parametrize("case", CASES[:7], ids=name_of)
def test_the_ft_path_is_one_graph(case):
    verifier = verifier_of(case)
    waveforms, mask = waves(4000, 3000)
    for arguments in ((waveforms,), (waveforms, mask)):
        torch.compiler.reset()
        compiled = torch.compile(verifier, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(*arguments).embeddings, verifier(*arguments).embeddings)


@every_case
def test_a_configuration_survives_json(case, tmp_path):
    config = config_of(case)
    config.save_pretrained(tmp_path)
    again = OSKDFTConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    sizes = encoder_config(*case["shape"], layers=case["layers"])
    assert (again.hidden_size, again.num_hidden_layers) == (sizes.hidden_size, case["layers"])
