"""Open frozen verifiers, and compute the embeddings that a student is pulled towards."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioXVector,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

from ..embedding.locations import check_name
from ..embedding.opening import INSTALLED_CODE, open_verifier
from ..errors import first_line
from ..model.companions_oskdft import fingerprint_of
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from ..student.positional_convolution import use_fourier_on_gpu
from .precision import protect_narrow_convolutions
from .speech_encoders import check_rate
from .teacher import autocast

# Weights behind the embedding: a verifier is complete without them.
BEHIND_THE_EMBEDDING = ("objective.", "classifier.")


def load_verifier(name: str) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load a verifier with its feature extractor: an `OSKDFTForXVector`, or a class of `AutoModelForAudioXVector`.

    Args:
        name: a folder or a repository.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it cannot be opened, or holds an encoder without a trained head.
    """
    try:
        check_name(name)
        config = AutoConfig.from_pretrained(name, **INSTALLED_CODE)
        if isinstance(config, OSKDFTConfig):
            return open_verifier(name)
        model, info = AutoModelForAudioXVector.from_pretrained(
            name, dtype="float32", output_loading_info=True, **INSTALLED_CODE
        )
        feature_extractor = AutoFeatureExtractor.from_pretrained(name, **INSTALLED_CODE)
    except Exception as error:  # a folder from elsewhere can make anything fail
        reason = first_line(error)
        if isinstance(error, OSError):
            raise FileNotFoundError(
                f"There is no verifier at '{name}' ({reason}): check embedding_teachers."
            ) from None
        raise ValueError(
            f"embedding_teachers names '{name}', which holds no verifier that opens ({reason}): name an "
            "OSKDFTForXVector, or a model of transformers' AutoModelForAudioXVector."
        ) from error
    missing = [key for key in info["missing_keys"] if not key.startswith(BEHIND_THE_EMBEDDING)]
    if missing := [key for key in missing if not key.endswith("masked_spec_embed")]:
        raise ValueError(
            f"'{name}' has no trained head for embeddings ('{sorted(missing)[0]}' is missing): name a verifier in "
            "embedding_teachers, and an encoder in teacher."
        )
    check_rate(feature_extractor, name)
    return model, feature_extractor


class VerifierTeacher:
    """A frozen verifier.

    It is no module, so no optimiser, checkpoint or wrapper finds it.

    Args:
        model: an `OSKDFTForXVector`, or a model of transformers whose output has `embeddings`.
        dtype: bfloat16 computes by autocast; embeddings are returned as float32.
        view: index of its inputs among those that the collator makes by other feature extractors than the student's;
            None: it reads the student's `input_values`.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype = torch.float32, view: int | None = None) -> None:
        self.fingerprint = fingerprint_of(model.state_dict())[:16]
        self.model = model.requires_grad_(False).eval()
        protect_narrow_convolutions(self.model)
        use_fourier_on_gpu(self.model)
        self.dtype, self.view = dtype, view

    @property
    def embedding_size(self) -> int:
        """Size of the embeddings."""
        config: Any = self.model.config
        return config.embedding_size if isinstance(config, OSKDFTConfig) else config.xvector_output_dim

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        """Embed a crop once, before the run.

        Raises:
            ValueError: when the verifier cannot embed it, as one whose filters are longer than the crop.
        """
        kind = type(self.model).__name__
        try:
            embeddings = self(inputs)
        except Exception as error:  # a model of another kind can make anything fail
            raise ValueError(
                f"embedding_teachers has a {kind}, which cannot embed a crop ({first_line(error)}): raise "
                "crop_seconds, or name another."
            ) from error
        if not bool(torch.isfinite(embeddings).all()):
            raise ValueError(f"embedding_teachers has a {kind} whose embedding of a crop is not finite: name another.")

    def to(self, device: torch.device) -> "VerifierTeacher":
        """Move the verifier to a device."""
        self.model.to(device)
        return self

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Embed crops of one length.

        Args:
            inputs: what its feature extractor returned, e.g. `input_values` (batch, samples).

        Returns:
            (batch, embedding_size), float32, at unit length; a copy, because autograd does not accept tensors of
            inference mode.
        """
        device = next(iter(inputs.values())).device
        with torch.inference_mode(), autocast(device, self.dtype):
            embeddings = self._embed(inputs)
        return F.normalize(embeddings.to(torch.float32, copy=True), dim=-1)

    def _embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        if isinstance(self.model, OSKDFTForXVector):
            # Not by `forward`: it looks at the samples, and the host would wait for the device in every step.
            encoder = self.model.oskdft
            states = encoder.encode(encoder.convolve(inputs["input_values"]), path="ft").hidden_states
            return cast(Tensor, self.model.head(states))
        return cast(Tensor, self.model(**inputs).embeddings)
