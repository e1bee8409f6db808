"""Compute the targets of a step: what the frozen teachers say of its crops."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .teacher import Teacher, TeacherOutput
from .verifiers import VerifierTeacher


class Targets(NamedTuple):
    """The targets of a step, in the order in which `JointModel.forward` takes them.

    Args:
        hidden_states, conv_features, conv_target: see `TeacherOutput`; None without a teacher.
        embeddings: (batch, embedding_size) of each verifier.
    """

    hidden_states: tuple[Tensor, ...] | None
    conv_features: Tensor | None
    conv_target: Tensor | None
    embeddings: list[Tensor]


def compute_targets(batch: dict[str, Any], teacher: Teacher | None, verifiers: Sequence[VerifierTeacher]) -> Targets:
    """Compute the targets of a batch.

    Args:
        batch: as `CropCollator` returns it; the inputs of the teachers are taken out of it.
        teacher: gives hidden states.
        verifiers: give embeddings.
    """
    own = {"input_values": batch.pop("teacher_input_values", batch["input_values"])}
    if "attention_mask" in batch:
        own["attention_mask"] = batch["attention_mask"]
    views: dict[int | None, dict[str, Tensor]] = {None: own, **dict(enumerate(batch.pop("teacher_views", ())))}
    output = TeacherOutput(None) if teacher is None else teacher(views[teacher.view])
    return Targets(*output, [verifier(views[verifier.view]) for verifier in verifiers])
