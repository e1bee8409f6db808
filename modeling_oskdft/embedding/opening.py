"""Opens a saved verifier. No code that came with it runs; what cannot be right in it is refused in one sentence."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedModel, SequenceFeatureExtractor
from transformers.utils import logging

from .. import model as registration
from ..audio.loading import SAMPLING_RATE
from ..errors import first_line, printable
from ..files import read_json
from .locations import check_name, find, is_an_export

OSKDFTForXVector = registration.OSKDFTForXVector  # what AutoModel opens: it is registered from here on
LORA_NAME = "adapter_config.json"
SETTLING = 0.5  # seconds, in which a process that saves over a folder ends
INSTALLED_CODE = {"trust_remote_code": False}  # else transformers asks on stdin, and takes a piped "y" for consent


def open_verifier(name: str, revision: str | None = None) -> tuple[OSKDFTForXVector, SequenceFeatureExtractor]:
    """Open a saved verifier, or a LoRA folder of one, with its feature extractor, in float32 and eval mode.

    Args:
        name: a folder, or org/name of a repository on the Hub.
        revision: branch, tag or commit of the repository.

    Raises:
        FileNotFoundError: for what is not there or cannot be reached.
        ValueError: for what is no verifier, is damaged, lacks weights, or has numbers that are not finite.
    """
    check_name(name)
    if _is_lora(name, revision):
        return _open_lora(name, revision)
    try:
        model, said = _open_twice(name, revision)
    except Exception as error:  # a folder from elsewhere can make anything fail
        raise _no_verifier(name, revision, error) from error
    if not isinstance(model, OSKDFTForXVector):
        raise ValueError(f"'{printable(name)}' holds a {type(model).__name__}: a saved OSKDFTForXVector is needed.")
    missing = sorted([*said["missing_keys"], *(one[0] for one in said["mismatched_keys"])])
    if missing:
        raise ValueError(
            f"'{printable(name)}' lacks {len(missing)} of its weights, '{printable(missing[0])}' first: save the "
            "model again."
        )
    check_finite(model, name)
    return model.eval(), open_feature_extractor(name, revision)


def _open_twice(name: str, revision: str | None) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Open a model; a folder that another process is just saving over gets a second chance."""
    words = {"revision": revision, "dtype": "float32", "output_loading_info": True, **INSTALLED_CODE}
    words["ignore_mismatched_sizes"] = True  # they are named, as missing ones are
    before = _times(name)
    with _quiet_transformers():
        try:
            check_sizes(name, revision)
            return AutoModel.from_pretrained(name, **words)
        except Exception:
            time.sleep(SETTLING)
            if _times(name) == before:  # nobody is writing there: it is as bad as it looks
                raise
            check_sizes(name, revision)
            return AutoModel.from_pretrained(name, **words)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its report of weights, which is told in a sentence, and without a bar on what is no terminal."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _times(name: str) -> list[tuple[str, int]]:
    """When the files of a folder were written."""
    if not os.path.isdir(name):
        return []
    with os.scandir(name) as files:
        return sorted((file.name, file.stat().st_mtime_ns) for file in files if file.is_file())


def open_feature_extractor(name: str, revision: str | None = None) -> SequenceFeatureExtractor:
    """The feature extractor of a verifier. Raises `ValueError` for one that no verifier has."""
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, revision=revision, **INSTALLED_CODE)
    except Exception as error:
        raise ValueError(
            f"The preprocessor_config.json of '{printable(name)}' cannot be read ({first_line(error)}): save the "
            "feature extractor into that folder."
        ) from error
    check_feature_extractor(extractor, name)
    return extractor


def check_feature_extractor(extractor: SequenceFeatureExtractor, name: str) -> None:
    """Raise `ValueError` unless it is a Wav2Vec2FeatureExtractor of 16 kHz mono that pads with zeros."""
    given = {
        "feature_extractor_type": type(extractor).__name__,
        **{
            field: getattr(extractor, field, None)
            for field in ("sampling_rate", "feature_size", "padding_value", "padding_side", "do_normalize")
        },
    }
    wanted: dict[str, Any] = {
        "feature_extractor_type": ("Wav2Vec2FeatureExtractor",),
        "sampling_rate": (SAMPLING_RATE,),
        "feature_size": (1,),
        "padding_value": (0.0,),
        "padding_side": ("right",),
        "do_normalize": (True, False),
    }
    for field, allowed in wanted.items():
        value = given[field]
        if isinstance(value, list | dict) or value not in allowed:
            raise ValueError(
                f"The feature extractor of '{printable(name)}' has {field} {value!r}: "
                f"{' or '.join(map(repr, allowed))} is needed; save the one that the verifier was trained with."
            )


def check_finite(model: PreTrainedModel, name: str) -> None:
    """Raise `ValueError` naming a weight that is not a finite number: it would decide, and mean nothing."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"'{printable(name)}' has weights that are not finite, '{printable(key)}' first: save a sound model."
            )


def check_sizes(name: str, revision: str | None = None) -> None:
    """Raise `ValueError` for layers that cannot be in the file of weights, before memory is asked for.

    A number takes at least half a byte in a file, and a model that is built takes four.
    """
    config = AutoConfig.from_pretrained(name, revision=revision, **INSTALLED_CODE)
    weights = find(name, "model.safetensors", revision)
    if weights is None or getattr(config, "model_type", None) != "oskdft":
        return
    encoder = config.encoder_config
    width, inner, depth = encoder.hidden_size, encoder.intermediate_size, encoder.num_hidden_layers
    convolutions = sum(
        one * before * kernel
        for one, before, kernel in zip(encoder.conv_dim, [1, *encoder.conv_dim[:-1]], encoder.conv_kernel, strict=True)
    )
    least = depth * (4 * width * width + 2 * width * inner) + convolutions
    if least > 2 * os.path.getsize(weights):
        raise ValueError(
            f"config.json describes at least {least:,} weights and the file of weights has "
            f"{os.path.getsize(weights):,} bytes: they are not of one model"
        )


def _no_verifier(name: str, revision: str | None, error: Exception) -> Exception:
    if is_an_export(name, revision):
        return ValueError(
            f"'{printable(name)}' holds an export and no PyTorch weights: open it with backend='onnxruntime'."
        )
    if "without a speaker head" in str(error):
        return error
    at = f", revision {revision}," if revision else ""
    reason = first_line(error)
    if isinstance(error, OSError) and not os.path.isdir(name):
        return OSError(
            f"There is no verifier that can be read at '{printable(name)}'{at} ({reason}): check the name; a private "
            "repository wants `hf auth login` or HF_TOKEN."
        )
    return ValueError(f"'{printable(name)}'{at} is no verifier that can be opened ({reason}): save the model again.")


def _is_lora(name: str, revision: str | None) -> bool:
    return find(name, LORA_NAME, revision) is not None and find(name, "config.json", revision) is None


def _open_lora(name: str, revision: str | None) -> tuple[OSKDFTForXVector, SequenceFeatureExtractor]:
    """A verifier with the weights that PEFT's `save_pretrained` wrote merged into it."""
    try:
        from peft import PeftModel
    except ImportError:
        raise ImportError(
            f"'{printable(name)}' is a LoRA folder and PEFT is not installed: pip install 'peft>=0.21'."
        ) from None
    description = read_json(find(name, LORA_NAME, revision) or name)
    base = description.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"'{printable(name)}/{LORA_NAME}' names no base_model_name_or_path: save the LoRA again.")
    if _is_lora(base, None):
        raise ValueError(f"'{printable(name)}' is a LoRA on a LoRA, '{printable(base)}': merge that one and save it.")
    model, extractor = open_verifier(base)
    try:
        merged = PeftModel.from_pretrained(model, name, revision=revision).merge_and_unload()
    except Exception as error:
        raise ValueError(
            f"The LoRA in '{printable(name)}' cannot be read ({first_line(error)}): save it again."
        ) from error
    check_finite(merged, name)
    if find(name, "preprocessor_config.json", revision):
        extractor = open_feature_extractor(name, revision)
    return merged.eval(), extractor
