"""Open any speech encoder of transformers, as a teacher of hidden states or as the origin of a student."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)

from ..audio.loading import SAMPLING_RATE
from ..embedding.locations import check_name
from ..embedding.opening import INSTALLED_CODE
from ..errors import first_line
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector, OSKDFTPreTrainedModel
from .objectives.frames import frame_grid


def load_teacher(name: str) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load the encoder of a speech model in float32, and its feature extractor.

    Args:
        name: a folder or a repository: of HuBERT, wav2vec 2.0 and WavLM, Data2VecAudio, UniSpeech, UniSpeechSat,
            Wav2Vec2-Conformer, w2v-BERT 2.0, Whisper, or of a verifier without adapters.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it cannot be opened, when its frames are not known, or when it reads another sampling rate.
    """
    model, feature_extractor = _open(name)
    return encoder_of(model, name), feature_extractor


def _open(name: str) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    config = _load_config(name)
    if not isinstance(config, OSKDFTConfig):
        frame_grid(config)  # raises for an encoder whose frames are not known
    with _loading_errors(name):
        model = AutoModel.from_pretrained(name, dtype="float32", **INSTALLED_CODE)
        feature_extractor = AutoFeatureExtractor.from_pretrained(name, **INSTALLED_CODE)
    check_rate(feature_extractor, name)
    return model, feature_extractor


def check_rate(feature_extractor: SequenceFeatureExtractor, name: str) -> None:
    """Refuse a teacher for another sampling rate.

    Raises:
        ValueError: naming both rates.
    """
    if feature_extractor.sampling_rate != SAMPLING_RATE:
        raise ValueError(
            f"The teacher at '{name}' reads {feature_extractor.sampling_rate} Hz: a teacher for {SAMPLING_RATE} Hz is "
            "needed."
        )


def load_origin(name: str) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load the encoder that a student is cut from, and its feature extractor with a mask in its output.

    Args:
        name: a folder or a repository of HuBERT, wav2vec 2.0 or WavLM, or of a verifier without adapters.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it cannot be opened, or is of another family.
    """
    load_origin_config(name)
    model, feature_extractor = load_teacher(name)
    feature_extractor.return_attention_mask = True
    return model, feature_extractor


def load_trunk(name: str) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load what `student_from` names: an encoder as `load_origin` does, or the kd path of a verifier with adapters."""
    load_origin_config(name)
    model, feature_extractor = _open(name)
    feature_extractor.return_attention_mask = True
    if not isinstance(model, OSKDFTForXVector):
        return encoder_of(model, name), feature_extractor
    if model.config.time_reduction > 1:
        raise ValueError(
            f"'{name}' has time_reduction {model.config.time_reduction}, a convolution that no plain encoder has: "
            "name a student without it in student_from."
        )
    return model.export_kd_path(), feature_extractor


def load_origin_config(name: str) -> PreTrainedConfig:
    """Load the configuration of an encoder that a student can be cut from; raises as `load_origin` does."""
    config = _load_config(name)
    if isinstance(config, OSKDFTConfig):
        return config.encoder_config
    with _loading_errors(name, "a student is cut from HuBERT, wav2vec 2.0 or WavLM; name one in student_from"):
        OSKDFTConfig.from_teacher(config, [0])
    return config


def encoder_of(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the part of a model that gives hidden states of speech.

    Raises:
        ValueError: for a verifier with adapters, whose hidden states belong to its ft path.
    """
    if isinstance(model, OSKDFTPreTrainedModel) and not isinstance(model, OSKDFTForXVector):
        raise ValueError(f"'{name}' is a {type(model).__name__}: name a verifier or an encoder.")
    if isinstance(model, OSKDFTForXVector):
        if model.config.adapted_layers:
            raise ValueError(
                f"'{name}' is a verifier with adapters: name it in embedding_teachers, which reads its embeddings."
            )
        return model.export_kd_path()
    return model.get_encoder() if model.config.is_encoder_decoder else model


def layers_of(encoder: PreTrainedModel) -> nn.Module:
    """Return the module of an encoder whose `layers` are its layers.

    Raises:
        ValueError: for an encoder that keeps them elsewhere.
    """
    for place in (encoder, getattr(encoder, "encoder", None)):
        if isinstance(getattr(place, "layers", None), nn.ModuleList):
            assert isinstance(place, nn.Module)
            return place
    raise ValueError(f"The teacher is a {type(encoder).__name__}, which has no list of layers: use a transformer.")


def cut_layers(encoder: PreTrainedModel, depth: int) -> None:
    """Leave out the layers of an encoder behind a hidden state.

    Args:
        encoder: changed in place. Whisper applies its last LayerNorm to the last of its hidden states: a cut one has
            none, so that its states stay those of the whole encoder.
        depth: index of the last hidden state that is wanted, below the number of layers.
    """
    place = layers_of(encoder)
    place.layers = cast(nn.ModuleList, place.layers)[:depth]
    encoder.config.num_hidden_layers = depth
    if encoder.config.model_type == "whisper":
        encoder.layer_norm = nn.Identity()


def fit_to_crops(encoder: PreTrainedModel, samples: int) -> None:
    """Cut the positions of Whisper, which reads 30 s and nothing else, to the frames of a crop.

    Its positions are a table from the first frame on, so a crop has those that a recording begins with.

    Args:
        encoder: changed in place; other encoders stay as they are.
        samples: length of a crop.

    Raises:
        ValueError: for crops of more than 30 s.
    """
    if encoder.config.model_type != "whisper":
        return
    frames, table = frame_grid(encoder.config).frames(samples), encoder.embed_positions.weight
    if frames > len(table):
        raise ValueError(f"A crop has {frames} frames and the Whisper teacher {len(table)}: lower crop_seconds.")
    encoder.embed_positions = nn.Embedding.from_pretrained(table[:frames].detach().clone())
    encoder.max_source_positions = encoder.config.max_source_positions = frames


@torch.inference_mode()
def check_hidden_states(encoder: PreTrainedModel, inputs: dict[str, torch.Tensor], samples: int) -> None:
    """Compute the hidden states of a crop once, before the run.

    Args:
        encoder: cut and in evaluation mode.
        inputs: what its feature extractor returned for a crop.
        samples: length of the crop.

    Raises:
        ValueError: when the encoder gives no hidden states, or others than its configuration says.
    """
    kind = type(encoder).__name__
    try:
        states = encoder(**inputs, output_hidden_states=True).hidden_states
    except Exception as error:  # a model of another kind can make anything fail
        raise ValueError(
            f"The teacher is a {kind}, which computes no hidden states of a crop ({first_line(error)}): use another."
        ) from error
    depth = encoder.config.num_hidden_layers
    if not states or len(states) != depth + 1:
        raise ValueError(
            f"The teacher is a {kind}, which gives {len(states or ())} hidden states for {depth} layers: use a model "
            "that returns hidden_states."
        )
    wanted = (1, frame_grid(encoder.config).frames(samples), encoder.config.hidden_size)
    if tuple(states[-1].shape) != wanted:
        raise ValueError(
            f"The teacher is a {kind}, whose states of a crop have the shape {tuple(states[-1].shape)} where its "
            f"configuration says {wanted}: its frame rate is not known here; use another."
        )


def _load_config(name: str) -> PreTrainedConfig:
    if not name:
        raise ValueError(
            "The recipe names no teacher: set teacher to a folder or a repository, e.g. facebook/hubert-base-ls960."
        )
    with _loading_errors(name):
        check_name(name)
        return AutoConfig.from_pretrained(name, **INSTALLED_CODE)


@contextmanager
def _loading_errors(name: str, advice: str = "check the folder") -> Iterator[None]:
    """Turn the loading errors of transformers into one sentence that names the teacher."""
    try:
        yield
    except Exception as error:  # a folder from elsewhere can make anything fail
        reason = first_line(error)
        if isinstance(error, OSError):
            raise FileNotFoundError(f"There is no teacher at '{name}' ({reason}): check the name.") from None
        raise ValueError(f"The teacher at '{name}' cannot be opened ({reason}): {advice}.") from error
