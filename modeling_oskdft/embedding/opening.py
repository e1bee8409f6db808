"""Open a saved verifier without running code from its folder, and refuse contents that cannot be right.

Every fault of a folder ends in one sentence.
"""

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
from .locations import PRIVATE, Location, find, is_an_export, locate

OSKDFTForXVector = registration.OSKDFTForXVector  # `AutoModel` opens this class: the import above registers it
LORA_NAME = "adapter_config.json"
LORA_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
SETTLING = 0.5  # seconds in which another process finishes to save over a folder
INSTALLED_CODE = {"trust_remote_code": False}  # else transformers asks on stdin, and takes a piped "y" for consent
# The fields of a feature extractor that a verifier needs, and their allowed values.
EXTRACTOR_FIELDS: dict[str, tuple[Any, ...]] = {
    "feature_extractor_type": ("Wav2Vec2FeatureExtractor",),
    "sampling_rate": (SAMPLING_RATE,),
    "feature_size": (1,),
    "padding_value": (0.0,),
    "padding_side": ("right",),
    "do_normalize": (True, False),
}


def open_verifier(
    name: str | Location, revision: str | None = None
) -> tuple[OSKDFTForXVector, SequenceFeatureExtractor]:
    """Open a saved verifier, or a LoRA folder of one, with its feature extractor.

    Args:
        name: a folder, org/name of a repository on the Hub, or a `Location` of either.
        revision: branch, tag or commit of the repository; a `Location` has its own.

    Returns:
        The verifier in float32 and eval mode, and its feature extractor.

    Raises:
        FileNotFoundError: for a folder or repository that does not exist or cannot be reached.
        ValueError: for a folder that holds no verifier, is damaged, lacks weights, or has numbers that are not finite.
        ImportError: for a LoRA folder without PEFT.
    """
    location = locate(name, revision)
    if _is_lora(location):
        return _open_lora(location)
    try:
        model, loading_info = _open_patiently(location)
    except Exception as error:  # a folder from elsewhere can raise any error
        raise _no_verifier(location, error) from error
    shown = printable(location.name)
    if not isinstance(model, OSKDFTForXVector):
        raise ValueError(f"'{shown}' holds a {type(model).__name__}: a saved OSKDFTForXVector is needed.")
    missing = sorted([*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])])
    if missing:
        raise ValueError(
            f"'{shown}' lacks {len(missing)} of its weights, '{printable(missing[0])}' first: save the model again."
        )
    check_finite(model, location.name)
    return model.eval(), open_feature_extractor(location)


def _open_patiently(location: Location) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Open a model; a second time where another process was just saving over its folder."""
    before = _write_times(location)
    try:
        return _open_model(location)
    except Exception:
        time.sleep(SETTLING)
        if _write_times(location) == before:  # no other process writes there: the folder itself is damaged
            raise
        return _open_model(location)


def _open_model(location: Location) -> tuple[PreTrainedModel, dict[str, Any]]:
    with _quiet_transformers():
        check_sizes(location)
        return AutoModel.from_pretrained(
            location.name,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `open_verifier` names mismatched weights as it names missing ones
            **location.hub_options(),
            **INSTALLED_CODE,
        )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the loading report, which an error sentence replaces, and the bar where stderr is no terminal."""
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


def _write_times(location: Location) -> list[tuple[str, int]]:
    """List the files of a folder with the time at which each was written."""
    if not location.is_folder():
        return []
    with os.scandir(location.name) as files:
        return sorted((file.name, file.stat().st_mtime_ns) for file in files if file.is_file())


def open_feature_extractor(location: Location) -> SequenceFeatureExtractor:
    """Open the feature extractor of a verifier.

    Raises:
        ValueError: for a file that cannot be read, and as `check_feature_extractor` does.
    """
    try:
        extractor = AutoFeatureExtractor.from_pretrained(location.name, **location.hub_options(), **INSTALLED_CODE)
    except Exception as error:
        raise ValueError(
            f"The preprocessor_config.json of '{printable(location.name)}' cannot be read ({first_line(error)}): save "
            "the feature extractor into that folder."
        ) from error
    check_feature_extractor(extractor, location.name)
    return extractor


def check_feature_extractor(extractor: SequenceFeatureExtractor, name: str) -> None:
    """Check that a feature extractor is a `Wav2Vec2FeatureExtractor` of 16 kHz mono that pads with zeros.

    Args:
        extractor: the feature extractor.
        name: its folder or repository, for the sentence.

    Raises:
        ValueError: naming the first field with another value.
    """
    given = {field: getattr(extractor, field, None) for field in EXTRACTOR_FIELDS}
    given["feature_extractor_type"] = type(extractor).__name__
    for field, allowed in EXTRACTOR_FIELDS.items():
        value = given[field]
        if isinstance(value, list | dict) or value not in allowed:
            raise ValueError(
                f"The feature extractor of '{printable(name)}' has {field} {value!r}: "
                f"{' or '.join(map(repr, allowed))} is needed; save the one that the verifier was trained with."
            )


def check_finite(model: PreTrainedModel, name: str) -> None:
    """Check that all weights are finite numbers, because a score from others would decide without a meaning.

    Args:
        model: the verifier.
        name: its folder or repository, for the sentence.

    Raises:
        ValueError: naming the first weight that is not finite.
    """
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"'{printable(name)}' has weights that are not finite, '{printable(key)}' first: save a sound model."
            )


def check_sizes(location: Location) -> None:
    """Check that config.json describes no more weights than the file of weights can hold, before they are allocated.

    A number takes at least half a byte in the file, and four bytes in the model that is built.

    Raises:
        ValueError: for more weights than that.
    """
    config = AutoConfig.from_pretrained(location.name, **location.hub_options(), **INSTALLED_CODE)
    weights = find(location, "model.safetensors")
    if weights is None or getattr(config, "model_type", None) != "oskdft":
        return
    encoder = config.encoder_config
    width, inner, depth = encoder.hidden_size, encoder.intermediate_size, encoder.num_hidden_layers
    shapes = zip(encoder.conv_dim, [1, *encoder.conv_dim[:-1]], encoder.conv_kernel, strict=True)
    convolutions = sum(channels * input_channels * kernel for channels, input_channels, kernel in shapes)
    least = depth * (4 * width * width + 2 * width * inner) + convolutions
    if least > 2 * os.path.getsize(weights):
        raise ValueError(
            f"config.json describes at least {least:,} weights and the file of weights has "
            f"{os.path.getsize(weights):,} bytes: they are not of one model"
        )


def _no_verifier(location: Location, error: Exception) -> Exception:
    """Turn an error of transformers into one sentence that names the folder or repository."""
    shown = printable(location.name)
    if is_an_export(location):
        return ValueError(f"'{shown}' holds an export and no PyTorch weights: open it with backend='auto'.")
    if "without a speaker head" in str(error):
        return error
    at = f", revision {location.revision}," if location.revision else ""
    reason = first_line(error)
    if isinstance(error, OSError) and not location.is_folder():
        return OSError(
            f"There is no verifier that can be read at '{shown}'{at} ({reason}): check the name; {PRIVATE}."
        )
    return ValueError(f"'{shown}'{at} is no verifier that can be opened ({reason}): save the model again.")


def _is_lora(location: Location) -> bool:
    return find(location, LORA_NAME) is not None and find(location, "config.json") is None


def _open_lora(location: Location) -> tuple[OSKDFTForXVector, SequenceFeatureExtractor]:
    """Open a folder that PEFT's `save_pretrained` wrote: its base verifier with the LoRA merged into it."""
    shown = printable(location.name)
    try:
        from peft import PeftModel
    except ImportError:
        raise ImportError(f"'{shown}' is a LoRA folder and PEFT is not installed: pip install 'peft>=0.21'.") from None
    base = _base_of_lora(location)
    if _is_lora(base):
        raise ValueError(f"'{shown}' is a LoRA on a LoRA, '{printable(base.name)}': merge that one and save it.")
    model, extractor = open_verifier(base)
    try:
        merged = PeftModel.from_pretrained(model, _folder_of_lora(location)).merge_and_unload()
    except Exception as error:
        raise ValueError(f"The LoRA in '{shown}' cannot be read ({first_line(error)}): save it again.") from error
    check_finite(merged, location.name)
    if find(location, "preprocessor_config.json"):
        extractor = open_feature_extractor(location)
    return merged.eval(), extractor


def _base_of_lora(location: Location) -> Location:
    """Locate the base verifier of a LoRA, with the token and the cache that its own location has."""
    description = read_json(find(location, LORA_NAME) or location.name)
    base = description.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"'{printable(location.name)}/{LORA_NAME}' names no base_model_name_or_path: save the LoRA again."
        )
    return locate(base, token=location.token, cache_dir=location.cache_dir, local_files_only=location.local_files_only)


def _folder_of_lora(location: Location) -> str:
    """Return the folder on this machine that has the files of a LoRA; PEFT makes no request for it."""
    paths = [find(location, file) for file in (LORA_NAME, *LORA_WEIGHTS)]
    return next((os.path.dirname(path) for path in paths if path is not None), location.name)
