"""Adapt the weights of a verifier to new speakers: by a LoRA on its layers, or by its own adapters and head.

The loss is AAM-softmax over the new speakers, plus the cosine distance of each embedding from the embedding that the
verifier gave before, which keeps the embeddings of other speakers where they were.
"""

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import SequenceFeatureExtractor

from ..data.crops import CropCollator, CropDataset, EpochSampler
from ..data.manifest import Manifest
from ..data.trials import Trials, make_trials
from ..evaluation.report import trial_scores
from ..model.modeling_oskdft import OSKDFTForXVector, adapter_parameters
from ..scoring.metrics import equal_error_rate
from ..training.objectives.speaker import AAMSoftmax
from ..training.summary import say

if TYPE_CHECKING:
    from peft import PeftModel

LORA, ADAPTERS = "lora", "speaker_adapter"
# The feed-forward layers: WavLM's attention reads the weights of its projections itself, without any LoRA on them.
TARGETS = ["intermediate_dense", "output_dense"]
KEEP = 2.0  # weight of the distance; chosen, as EPOCHS, on development speakers: see examples/adapt_to_site.py
EPOCHS, LEARNING_RATE = 20, 2e-3
CROP_SECONDS, BATCH = 2.0, 32


def check_peft() -> None:
    """Check that PEFT is there, before anything takes time.

    Raises:
        ImportError: naming the extra.
    """
    if find_spec("peft") is None:
        raise ImportError("PEFT is not installed, and adds the LoRA: pip install 'modeling-oskdft[peft]'.")


def with_lora(student: OSKDFTForXVector, rank: int = 8) -> "PeftModel":
    """Add a LoRA to the feed-forward layers of a student, and freeze everything else.

    Args:
        student: it is changed in place.
        rank: of the LoRA.

    Raises:
        ImportError: without PEFT.
    """
    check_peft()
    from peft import LoraConfig, get_peft_model

    return get_peft_model(student, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))


def with_adapters_free(student: OSKDFTForXVector) -> OSKDFTForXVector:
    """Freeze everything but the adapters and the head of a student, in place.

    Args:
        student: the verifier.
    """
    student.requires_grad_(False)
    for _, parameter in adapter_parameters(student):
        parameter.requires_grad_(True)
    student.head.requires_grad_(True)
    return student


def adapt(
    model: "OSKDFTForXVector | PeftModel",
    feature_extractor: SequenceFeatureExtractor,
    speech: Manifest,
    epochs: int,
    development: Manifest,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> list[float]:
    """Train what is free in a verifier, in place, and leave the weights of the best epoch in it.

    Args:
        model: as `with_lora` or `with_adapters_free` makes it.
        feature_extractor: of the verifier.
        speech: utterances of the new speakers to train on.
        epochs: of the training.
        development: utterances of other new speakers, which choose the epoch.
        learning_rate: of AdamW.
        seed: of crops, their order, and class vectors.

    Returns:
        EER on the development speakers, before the training and after each epoch.
    """
    torch.manual_seed(seed)
    crops = CropDataset(speech, crop_seconds=CROP_SECONDS, seed=seed)
    objective = AAMSoftmax(model.config.embedding_size, len(crops.classes)).to(next(model.parameters()).device)
    sampler = EpochSampler(speech, seed)
    loader = DataLoader(crops, BATCH, sampler=sampler, collate_fn=CropCollator(feature_extractor), drop_last=False)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW([*trained.values(), *objective.parameters()], learning_rate, weight_decay=0.0)
    trials = make_trials(development.by_speaker())
    before = copy.deepcopy(model).eval().requires_grad_(False)
    eers = [_eer(model, feature_extractor, development, trials)]
    best = _copied(trained)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            loss = step_loss(model, before, objective, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        eers.append(_eer(model, feature_extractor, development, trials))
        say([f"epoch {epoch + 1:2d}  loss {loss.item():.3f}  development EER {100 * eers[-1]:.2f} %"])
        if eers[-1] < min(eers[:-1]):
            best = _copied(trained)
    with torch.no_grad():
        for name, value in best.items():
            trained[name].copy_(value)
    return eers


def step_loss(model: nn.Module, before: nn.Module, objective: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Compute the loss of a batch: AAM-softmax, plus the weighted distance from the verifier as it was.

    Args:
        model: the verifier that is trained.
        before: the verifier as it was.
        objective: AAM-softmax over the new speakers.
        batch: as `CropCollator` makes it.
    """
    device = next(model.parameters()).device
    waveforms, labels = batch["input_values"].to(device), batch["labels"].to(device)
    embeddings = model(waveforms).embeddings
    with torch.no_grad():
        known = before(waveforms).embeddings
    distance = 1 - F.cosine_similarity(embeddings, known).mean()
    return objective(embeddings, labels).mean() + KEEP * distance


def _copied(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


def _eer(model: nn.Module, feature_extractor: SequenceFeatureExtractor, speech: Manifest, trials: Trials) -> float:
    scores = trial_scores(cast(OSKDFTForXVector, model.eval()), feature_extractor, speech, trials)
    return equal_error_rate(scores, trials.labels).value
