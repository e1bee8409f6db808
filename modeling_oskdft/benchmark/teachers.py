"""Measure the joint step of one student under several teachers, in turn.

The student has HuBERT-base's first two layers. A teacher gives hidden states, down to its deepest target, or, as a
verifier with all of its layers, embeddings. The weights are random, of the published shapes, and the crops are noise.
Features that a teacher reads are computed by the workers of the loader, so they are timed apart, on one crop.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from ..audio.loading import SAMPLING_RATE
from ..data.crops import features_of
from ..evaluation.cost import alternating_medians
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from ..student.initialization import init_student_from_teacher
from ..training.joint_model import JointModel
from ..training.objectives.building import ObjectiveArguments, build_objectives
from ..training.speech_encoders import encoder_of, fit_to_crops
from ..training.targets import compute_targets
from ..training.teacher import Teacher
from ..training.verifiers import VerifierTeacher
from .shapes import hubert_base, w2v_bert, whisper_small

ROUNDS, CROPS, SECONDS, SPEAKERS = 5, 4, 3, 5994
SAMPLES = SECONDS * SAMPLING_RATE


class Taught(NamedTuple):
    """Describe what a student learns from.

    Args:
        encoder: function that makes the encoder with hidden states to learn; None without.
        extractor: its feature extractor.
        targets: indices of these states.
        verifier: whether a fine-tuned HuBERT-base gives embeddings.
    """

    encoder: Callable[[], PreTrainedModel] | None
    extractor: Callable[[], SequenceFeatureExtractor] = Wav2Vec2FeatureExtractor
    targets: tuple[int, ...] = (4, 8, 12)
    verifier: bool = False


STATES, EMBEDDING = "HuBERT-base, hidden states", "HuBERT-base verifier, embedding"
TEACHERS = {
    STATES: Taught(hubert_base),
    EMBEDDING: Taught(None, verifier=True),
    f"{STATES}, and its verifier, embedding": Taught(hubert_base, verifier=True),
    "Whisper-small, hidden states": Taught(whisper_small, WhisperFeatureExtractor),
    "w2v-BERT 2.0, hidden states": Taught(w2v_bert, SeamlessM4TFeatureExtractor, (8, 16, 24)),
}


class Step:
    """Run the joint step of the student under one kind of teacher.

    Args:
        taught: the teachers.
        origin: the encoder that the student is cut from.
    """

    def __init__(self, taught: Taught, origin: PreTrainedModel) -> None:
        torch.manual_seed(0)
        fields: dict[str, Any] = {"head_type": "statistics_pooling"}
        student = init_student_from_teacher(origin, OSKDFTConfig.from_teacher(origin.config, [0, 1], **fields))
        waveforms = list(np.random.default_rng(0).normal(0, 0.1, (CROPS, SAMPLES)).astype(np.float32))
        self.batch: dict[str, Any] = {"input_values": torch.from_numpy(np.stack(waveforms))}
        self.teacher, self.verifiers, config = None, [], None
        extractor = taught.extractor()
        start = time.perf_counter()
        view = features_of(extractor, waveforms[:1])
        self.feature_seconds = time.perf_counter() - start
        if taught.encoder is not None:
            encoder = encoder_of(taught.encoder(), "teacher")
            fit_to_crops(encoder, SAMPLES)
            config = encoder.config
            reads_samples = "input_values" in view
            self.batch |= {} if reads_samples else {"teacher_views": [features_of(extractor, waveforms)]}
            self.teacher = Teacher(encoder, taught.targets, view=None if reads_samples else 0)
        if taught.verifier:
            depth = list(range(origin.config.num_hidden_layers))
            whole = OSKDFTConfig.from_teacher(origin.config, depth, adapter_size=0, **fields)
            self.verifiers = [VerifierTeacher(OSKDFTForXVector(whole))]
        arguments = ObjectiveArguments(
            kd_objective="embedding" if taught.encoder is None else "layerwise_heads",
            kd_target_layers=list(taught.targets),
            embedding_kd_weight=1.0 if taught.verifier and taught.encoder is not None else 0.0,
        )
        sizes = [verifier.embedding_size for verifier in self.verifiers]
        objectives = build_objectives(arguments, student, [1] * SPEAKERS, config, sizes)
        self.joint = JointModel(student, objectives).train()
        trained = [parameter for parameter in self.joint.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=1e-5, fused=True)

    def __call__(self) -> None:
        """Run the teachers, forward, backward and the optimiser's step."""
        self.optimizer.zero_grad()
        targets = compute_targets(dict(self.batch), self.teacher, self.verifiers)
        output = self.joint(self.batch["input_values"], torch.arange(CROPS), *targets)
        share = torch.tensor(1 / CROPS)
        output.losses(share, share, 1.0)["loss"].backward()
        self.optimizer.step()


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure every teacher; return a row for each, and the ratios between them."""
    torch.manual_seed(0)
    origin = hubert_base()
    steps = {name: Step(taught, origin) for name, taught in TEACHERS.items()}
    seconds = alternating_medians(steps, ROUNDS)
    rows = [
        {
            "teacher": name,
            "crops": f"{CROPS} x {SECONDS} s",
            "steps/s": 1 / seconds[name],
            "times the first row": seconds[name] / seconds[STATES],
            "features, ms a crop": 1000 * step.feature_seconds,
        }
        for name, step in steps.items()
    ]
    return rows, {"embedding / hidden states of the same teacher (at most 1.15)": seconds[EMBEDDING] / seconds[STATES]}
