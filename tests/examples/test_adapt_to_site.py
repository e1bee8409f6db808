import pytest
import torch

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.tiny import tiny_verifier, waves

pytest.importorskip("peft", reason="peft is not installed: pip install 'modeling-oskdft[peft]'")

from peft import LoraConfig, PeftModel, get_peft_model

from examples.adapt_to_site import divide_site, main
from modeling_oskdft.renewal.adaptation import TARGETS, with_lora

FAMILIES = ["hubert", "wav2vec2", "wavlm"]


def trained(model, seed=0):
    """Give the LoRA weights that change the embeddings; PEFT starts it at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def embeddings_of(model):
    return model(waves(8000)[0]).embeddings


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_is_all_that_is_trained_and_can_be_switched_off(family):
    before = embeddings_of(tiny_verifier(family))
    model = with_lora(tiny_verifier(family), rank=2)
    torch.testing.assert_close(embeddings_of(model.eval()), before)
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    assert names and all("lora_" in name for name in names)
    trained(model)
    assert not torch.allclose(embeddings_of(model), before, atol=1e-3)
    with model.disable_adapter():
        torch.testing.assert_close(embeddings_of(model), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_loaded_merged(family, tmp_path):
    model = trained(with_lora(tiny_verifier(family), rank=2))
    expected = embeddings_of(model)
    model.save_pretrained(str(tmp_path / "site"))
    files = {file.name for file in (tmp_path / "site").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    again = PeftModel.from_pretrained(tiny_verifier(family), str(tmp_path / "site")).eval()
    torch.testing.assert_close(embeddings_of(again), expected)
    torch.testing.assert_close(embeddings_of(again.merge_and_unload()), expected, rtol=1e-4, atol=1e-5)


def test_several_sites_on_one_student(tmp_path):
    alone = {}
    for seed, site in enumerate(("harbour", "airport")):
        model = trained(with_lora(tiny_verifier(), rank=2), seed)
        alone[site] = embeddings_of(model)
        model.save_pretrained(str(tmp_path / site))
    model = PeftModel.from_pretrained(tiny_verifier(), str(tmp_path / "harbour"), adapter_name="harbour")
    model.load_adapter(str(tmp_path / "airport"), adapter_name="airport")
    for site in ("airport", "harbour", "airport"):
        model.set_adapter(site)
        torch.testing.assert_close(embeddings_of(model.eval()), alone[site])


def test_a_merged_student_is_published_without_the_old_thresholds(tmp_path, feature_extractor):
    student = tiny_verifier()
    student.save_pretrained(tmp_path / "student")
    feature_extractor.save_pretrained(tmp_path / "student")
    values = {"eer": 0.5, "far_1_percent": None, "far_0.1_percent": None}
    Thresholds(values, 100, 50, 40, "made up", student.fingerprint()).save(tmp_path / "student")
    verifier = SpeakerVerifier.from_pretrained(tmp_path / "student")
    merged = trained(with_lora(verifier.embedder.model, rank=2)).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    opened = SpeakerVerifier.from_pretrained(tmp_path / "merged")
    assert verifier.thresholds is not None and opened.thresholds is None
    torch.testing.assert_close(embeddings_of(opened.embedder.model), embeddings_of(merged))


def test_a_lora_on_wavlm_s_attention_has_no_effect():
    """The reason for TARGETS: PEFT trains a LoRA on attention without a warning, but WavLM does not use it."""
    for family, has_effect in (("hubert", True), ("wavlm", False)):
        before = embeddings_of(tiny_verifier(family))
        model = get_peft_model(tiny_verifier(family), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        assert torch.allclose(embeddings_of(trained(model)), before, atol=1e-5) is not has_effect


def test_the_user_s_own_site(saved_verifier, voices, tmp_path, capsys):
    arguments = [
        "--data",
        str(voices),
        "--model",
        str(saved_verifier),
        "--out",
        str(tmp_path / "site"),
        "--epochs",
        "1",
    ]
    main(arguments)
    assert "oskdft verify A.wav B.wav --model" in capsys.readouterr().out
    opened = SpeakerVerifier.from_pretrained(tmp_path / "site")
    assert opened.thresholds is not None and opened.thresholds.speakers == 2
    recording = next(voices.rglob("*.flac"))
    assert opened.verify(recording, recording).same_speaker is True


def test_ten_minutes_of_forty_speakers(manifest):
    speech, development = divide_site(_many_speakers(manifest))
    assert len(speech.speakers) == 40 and not set(speech.speakers) & set(development.speakers)
    seconds = dict.fromkeys(speech.speakers, 0.0)
    for speaker, samples in zip(speech.column("speaker_id"), speech.column("num_samples"), strict=True):
        seconds[speaker] += samples / 16000
    assert all(15 <= value < 30 for value in seconds.values())


def _many_speakers(manifest):
    table = manifest.table.slice(0, 1).to_pylist()[0]
    rows = [
        table
        | {"speaker_id": f"s{number:03d}", "utterance_id": f"s{number:03d}/{utterance}", "num_samples": 6 * 16000}
        for number in range(100)
        for utterance in range(5)
    ]
    return Manifest(manifest.table.from_pylist(rows, schema=manifest.table.schema), manifest.root)


def test_targets_are_layers_of_every_family():
    for family in FAMILIES:
        names = [name.rsplit(".", 1)[-1] for name, _ in tiny_verifier(family).named_modules()]
        assert all(names.count(target) == 2 for target in TARGETS)
