import json
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    pipeline,
)

from modeling_oskdft import OSKDFTForCTC, OSKDFTForSequenceClassification
from tests.bare import bare_site
from tests.model.test_saving import _run
from tests.tiny import SHAPES, randomise, tiny_config, tiny_verifier, waves

CLASSES = {"id2label": {0: "angry", 1: "calm", 2: "sad"}, "label2id": {"angry": 0, "calm": 1, "sad": 2}}
LETTERS = ["<pad>", "<unk>", "|", "a", "b"]
ENCODER = {"vocab_size": len(LETTERS), "pad_token_id": 0, "ctc_loss_reduction": "mean", "final_dropout": 0.0}


def classifier(*shape, **fields):
    torch.manual_seed(0)
    return randomise(OSKDFTForSequenceClassification(tiny_config(*shape, **CLASSES, **fields))).eval()


def writer(*shape):
    torch.manual_seed(0)
    return randomise(OSKDFTForCTC(tiny_config(*shape, encoder=ENCODER))).eval()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [classifier, writer])
def test_a_row_of_a_padded_batch_equals_its_own_run(make, shape):
    model = make(*shape)
    waveforms, mask = waves(6000, 4500)
    together = model(waveforms, mask).logits
    for row, length in enumerate((6000, 4500)):
        alone = model(waveforms[row : row + 1, :length], mask[row : row + 1, :length]).logits
        # A frame over the end of a recording has no counterpart in its own run.
        whole = together[row : row + 1, : alone.shape[1]] if alone.dim() == 3 else together[row : row + 1]
        torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)


def test_a_classifier_is_a_verifier_s_head_and_a_linear_layer():
    model, verifier = classifier(), tiny_verifier()
    model.oskdft.load_state_dict(verifier.oskdft.state_dict())
    model.head.load_state_dict(verifier.head.state_dict())
    waveforms, _ = waves(4000, 4000)
    labels = torch.tensor([2, 0])
    output = model(waveforms, labels=labels)
    expected = model.classifier(verifier(waveforms).embeddings)
    torch.testing.assert_close(output.logits, expected)
    torch.testing.assert_close(output.loss, F.cross_entropy(expected, labels))
    assert output.hidden_states is None and len(model(waveforms, output_hidden_states=True).hidden_states) == 3


def test_the_ctc_loss_is_that_of_each_text_in_its_frames():
    model = writer()
    waveforms, mask = waves(6000, 4500)
    labels = torch.tensor([[3, 4, 3], [4, -100, -100]])
    losses = []
    for row, text in enumerate(([3, 4, 3], [4])):
        own = slice(0, int(mask[row].sum()))
        logits = model(waveforms[row : row + 1, own], mask[row : row + 1, own]).logits
        sizes = (logits.shape[1],), (len(text),)
        losses.append(F.ctc_loss(logits[0].log_softmax(-1)[:, None], torch.tensor([text]), *sizes, reduction="sum"))
    expected = (losses[0] / 3 + losses[1] / 1) / 2
    torch.testing.assert_close(model(waveforms, mask, labels=labels).loss, expected, atol=1e-3, rtol=1e-3)
    for letter in (5, -5):
        with pytest.raises(ValueError, match=f"labels have the letter {letter}: there are 5, from 0 on"):
            model(waveforms, mask, labels=torch.tensor([[letter], [1]]))
    nothing = model(waveforms, mask, labels=torch.full((2, 1), -100)).loss
    assert torch.isfinite(nothing), "a recording in which nothing is said"


def save(model, place):
    model.save_pretrained(place)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(place)
    if isinstance(model, OSKDFTForCTC):
        (place / "letters.json").write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}))
        Wav2Vec2CTCTokenizer(str(place / "letters.json"), pad_token="<pad>", unk_token="<unk>").save_pretrained(place)


@pytest.mark.parametrize(("make", "door"), [(classifier, AutoModelForAudioClassification), (writer, AutoModelForCTC)])
def test_the_auto_classes_open_what_was_saved(make, door, tmp_path):
    model = make()
    save(model, tmp_path)
    waveforms, _ = waves(4000)
    for opened in (door.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(opened) is type(model)
        torch.testing.assert_close(opened(waveforms).logits, model(waveforms).logits)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"][door.__name__] == f"modeling_tasks_oskdft.{type(model).__name__}"
    assert (tmp_path / "modeling_tasks_oskdft.py").is_file()
    tiny_verifier().save_pretrained(tmp_path / "verifier")
    assert not (tmp_path / "verifier/modeling_tasks_oskdft.py").exists()


DOORS = {
    AutoModelForAudioXVector: tiny_verifier,
    AutoModelForAudioClassification: classifier,
    AutoModelForCTC: writer,
}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("make", [lambda: tiny_verifier().oskdft, *DOORS.values()], ids=["encoder", *"vcw"])
def test_no_auto_class_opens_another_model_with_a_random_head(make, door, tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    if make is DOORS[door]:
        assert type(door.from_pretrained(tmp_path)) is type(model)
        return
    with pytest.raises(ValueError, match=r"holds (an OSKDFTModel|a verifier|a classifier|a recogniser)"):
        door.from_pretrained(tmp_path)


def test_a_classifier_starts_from_a_verifier_with_a_new_layer_alone(tmp_path):
    tiny_verifier().save_pretrained(tmp_path)
    started, info = OSKDFTForSequenceClassification.from_pretrained(tmp_path, num_labels=4, output_loading_info=True)
    assert started.classifier.out_features == 4
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}


def test_the_plain_card_names_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(PreTrainedModel, "_upload_modified_files", lambda *words, **named: "sent")
    for model, words in ((classifier(), "pipeline_tag: audio-classification"), (writer(), "A speech recogniser by")):
        (tmp_path / "README.md").write_text("---\n---\n[More Information Needed]\n")
        assert model._upload_modified_files(str(tmp_path), "org/name", {}) == "sent"
        page = (tmp_path / "README.md").read_text()
        assert words in page and "verifier" not in page


def test_a_pipeline_classifies_arrays(tmp_path):
    save(classifier(), tmp_path)
    found = pipeline("audio-classification", model=str(tmp_path), top_k=None)(np.zeros(16000, np.float32) + 0.01)
    assert {row["label"] for row in found} == {"angry", "calm", "sad"}
    assert sum(row["score"] for row in found) == pytest.approx(1, abs=1e-4)


def test_a_pipeline_writes_what_is_said(tmp_path):
    save(writer(), tmp_path)
    speak = pipeline("automatic-speech-recognition", model=str(tmp_path))
    waveform = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    whole = speak(waveform)["text"]
    assert set(whole) <= set(" ab<unk>") and speak.model.config.inputs_to_logits_ratio == 320
    chunked = speak(waveform, chunk_length_s=2, stride_length_s=0.5)["text"]
    assert isinstance(chunked, str)


WITHOUT_THE_PACKAGE = """
import importlib.util, sys
assert importlib.util.find_spec("modeling_oskdft") is None
import numpy as np
from transformers import pipeline
task, folder = sys.argv[1:]
speech = 0.1 * np.random.default_rng(0).normal(size=16000).astype(np.float32)
answer = pipeline(task, model=folder, trust_remote_code=True)(speech)
assert "text" in answer or {"score", "label"} == set(answer[0]), answer
print("answered")
"""


@pytest.mark.parametrize(
    ("make", "task"), [(classifier, "audio-classification"), (writer, "automatic-speech-recognition")]
)
def test_a_pipeline_answers_without_the_package(make, task, tmp_path):
    (tmp_path / "model").mkdir()
    save(make(), tmp_path / "model")
    command = [sys.executable, "-S", "-P", "-c", WITHOUT_THE_PACKAGE, task, str(tmp_path / "model")]
    done = _run(command, tmp_path, PYTHONPATH=str(bare_site(tmp_path / "site")))
    assert done.returncode == 0 and done.stdout.strip().endswith("answered"), done.stderr[-2000:]
