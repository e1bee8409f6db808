"""Convert checkpoints of the authors' code (Jungwoo4021/OS-KDFT at 7ba757d, both generations) into ours.

Only the names in the checkpoint are needed, none of the authors' code. `docs/deviations.md` lists where a converted
student behaves otherwise.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CONFIG_MAPPING, HubertConfig, PreTrainedConfig

from ..errors import first_line
from ..model.configuration_oskdft import SUPPORTED_ENCODERS, OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector, OSKDFTModel

# Pairs (the authors' name, our name), tried in order, on a name without its prefixes (student., hubert., backend., …).
_ENCODER_NAMES = [
    (r"(.*)\.os_kdft_adapter\.(down|up)\.(weight|bias)", r"\1.adapter.\2.\3"),
    (r"(.*)\.sv_adapter\.(down|up)_proj\.(weight|bias)", r"\1.adapter.\2.\3"),
    (r"(.*)\.sv_adapter\.adapter_layer_norm_before\.(weight|bias)", r"\1.adapter.norm.\2"),
    (r"(.*)\.conv\.weight_g", r"\1.conv.parametrizations.weight.original0"),
    (r"(.*)\.conv\.weight_v", r"\1.conv.parametrizations.weight.original1"),
    (r"time_reduction_layer\.(.*)", r"time_reduction.\1"),
    (r"((?:feature_extractor|feature_projection|encoder)\..*|masked_spec_embed)", r"\1"),
]
_ECAPA_NAMES = [
    (r"w", r"layer_weights"),
    (r"conv1\.(.*)", r"entry.convolution.\1"),
    (r"bn1\.(.*)", r"entry.norm.\1"),
    (r"layer4\.(.*)", r"aggregation.\1"),
    (r"layer(\d+)\.conv1\.(.*)", r"blocks.\1.expand.convolution.\2"),
    (r"layer(\d+)\.bn1\.(.*)", r"blocks.\1.expand.norm.\2"),
    (r"layer(\d+)\.convs\.(\d+)\.(.*)", r"blocks.\1.groups.\2.convolution.\3"),
    (r"layer(\d+)\.bns\.(\d+)\.(.*)", r"blocks.\1.groups.\2.norm.\3"),
    (r"layer(\d+)\.conv3\.(.*)", r"blocks.\1.reduce.convolution.\2"),
    (r"layer(\d+)\.bn3\.(.*)", r"blocks.\1.reduce.norm.\2"),
    (r"layer(\d+)\.se\.se\.1\.(.*)", r"blocks.\1.gate.squeeze.\2"),
    (r"layer(\d+)\.se\.se\.3\.(.*)", r"blocks.\1.gate.excite.\2"),
    (r"attention\.0\.(.*)", r"pooling.hidden.convolution.\1"),
    (r"attention\.2\.(.*)", r"pooling.hidden.norm.\1"),
    (r"attention\.4\.(.*)", r"pooling.scores.\1"),
    (r"bn5\.(.*)", r"pooled_norm.\1"),
    (r"fc6\.(.*)", r"projection.\1"),
    (r"bn6\.(.*)", r"embedding_norm.\1"),
]
_STATISTICS_NAMES = [
    (r"w", r"layer_weights"),
    (r"fc1\.(.*)", r"projection.\1"),
    (r"bn1\.(.*)", r"embedding_norm.\1"),
]
_OBJECTIVE_NAMES = [
    (r"(?:kd_loss\.)?predict_layer\.(.*)", r"kd.predictors.\1"),
    (r"heads\.tconv\.(\d+)\.(.*)", r"kd.upsampling.\1.convolution.\2"),
    (r"heads\.fc\.(.*)", r"kd.projections.\1"),
    (r"(?:ft_loss|loss|softmax_loss)\.(?:cce|ce)\.weight", r"speaker.class_weights"),
    (r"softmax_loss\.weight|(?:ft_loss|loss)\.(?:weight|fc)", r"speaker.weight"),
    (r"(?:ft_loss|loss)\.fc\.(weight|bias)", r"speaker.classifier.\1"),
]


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Hold an original checkpoint under our names, in parts that each load strictly into a module.

    Attributes:
        config: the student's configuration.
        encoder: tensors of `OSKDFTModel(config)`; empty when the checkpoint has no encoder.
        head: tensors of `build_head(config)`; empty when it has no head.
        objectives: tensors of `kd` and `speaker` in `training.objectives.Objectives`; empty when it has no loss.

    All tensors are float32; counters stay integers.
    """

    config: OSKDFTConfig
    encoder: dict[str, Tensor]
    head: dict[str, Tensor]
    objectives: dict[str, Tensor]

    def __repr__(self) -> str:
        encoder = self.config.encoder_config
        return (
            f"ConvertedCheckpoint({encoder.model_type} of {encoder.num_hidden_layers} layers, width "
            f"{encoder.hidden_size}; tensors: {len(self.encoder)} encoder, {len(self.head)} head, "
            f"{len(self.objectives)} objectives)"
        )

    def build(self) -> OSKDFTForXVector | OSKDFTModel:
        """Build the verifier, or the encoder when the checkpoint has no head, in evaluation mode.

        Raises:
            ValueError: when the checkpoint has no encoder, or does not fit its description.
        """
        if not self.encoder:
            raise ValueError("The checkpoint holds no encoder: a head or a loss alone makes no model.")
        try:
            if not self.head:
                encoder = OSKDFTModel(self.config)
                encoder.load_state_dict(self.encoder)
                return encoder.eval()
            verifier = OSKDFTForXVector(self.config)
            verifier.oskdft.load_state_dict(self.encoder)
            verifier.head.load_state_dict(self.head)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"The checkpoint does not fit its description ({reason}): check config.json.") from None
        return verifier.eval()


def convert_original_state_dict(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedCheckpoint:
    """Split an original state dict into its parts and rename their tensors.

    Sizes are read from the tensors. Tensors of the teacher are left out: they never travel with a student.

    Args:
        state_dict: tensors by the authors' names.
        config: the description beside the checkpoint, with the keys `encoder_config` and `adapter`; a head or a loss
            alone needs neither.

    Returns:
        The configuration and the renamed tensors.

    Raises:
        ValueError: for a key that no original module has, or an encoder without its description.
    """
    _check_state_dict(state_dict)
    encoder: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    objectives: dict[str, Tensor] = {}
    stripped = {re.sub(r"^(backend|head)\.", "", name) for name in state_dict}
    head_names = _ECAPA_NAMES if "conv1.weight" in stripped else _STATISTICS_NAMES
    for name, tensor in state_dict.items():
        if name.startswith("teacher."):
            continue
        unprefixed = re.sub(r"^(student\.)?((hubert|wavlm|wav2vec2)\.)?", "", name)
        if renamed := _rename(name, _OBJECTIVE_NAMES):
            objectives[renamed] = _as_float32(tensor)
        elif renamed := _rename(unprefixed, _ENCODER_NAMES):
            encoder[renamed] = _as_float32(tensor)
        elif renamed := _rename(re.sub(r"^(backend|head)\.", "", name), head_names):
            head[_count_blocks_from_zero(renamed)] = _as_float32(tensor)
        else:
            raise ValueError(
                f"The state dict has '{name}', which no module of the authors' code has: remove it first."
            )
    if "speaker.classifier.weight" in objectives and "speaker.classifier.bias" not in objectives:
        objectives["speaker.weight"] = objectives.pop("speaker.classifier.weight")
    if "layer_weights" in head:
        head["layer_weights"] = head["layer_weights"].flatten()
    return ConvertedCheckpoint(_convert_config(config, encoder, head), encoder, head, objectives)


def _check_state_dict(state_dict: Mapping[str, Tensor]) -> None:
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"The checkpoint holds a {type(state_dict).__name__}: tensors by their names are needed.")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"The checkpoint holds a {type(value).__name__} under {str(name)[:40]!r}: tensors by their names are "
                "needed; save model.state_dict()."
            )


def _rename(name: str, names: list[tuple[str, str]]) -> str | None:
    for pattern, replacement in names:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return None


def _count_blocks_from_zero(name: str) -> str:
    return re.sub(r"^blocks\.(\d+)", lambda match: f"blocks.{int(match[1]) - 1}", name)


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor.clone()


def _convert_config(
    config: Mapping[str, Any], encoder: Mapping[str, Tensor], head: Mapping[str, Tensor]
) -> OSKDFTConfig:
    encoder_config = _encoder_config(config, encoder, head)
    fields = _adapter_fields(config, encoder, encoder_config.model_type) | _head_fields(head)
    if "time_reduction.weight" in encoder:
        fields["time_reduction"] = encoder["time_reduction.weight"].shape[-1]
    return OSKDFTConfig(encoder_config=encoder_config, **fields)


def _encoder_config(
    config: Mapping[str, Any], encoder: Mapping[str, Tensor], head: Mapping[str, Tensor]
) -> PreTrainedConfig:
    """Return the encoder's configuration as described, or the smallest one of the width and depth that a head has."""
    described = config.get("encoder_config")
    if described is not None:
        if described.get("model_type") not in SUPPORTED_ENCODERS:
            raise ValueError(
                f"encoder_config has the model_type {described.get('model_type')!r}: one of "
                f"{', '.join(SUPPORTED_ENCODERS)} is needed."
            )
        family = CONFIG_MAPPING[described["model_type"]]
        known = family().to_dict()
        return family(**{name: value for name, value in described.items() if name in known and name != "model_type"})
    if encoder:
        raise ValueError("The state dict holds an encoder: give its encoder_config in config.")
    width = _head_width(head)
    depth = len(head["layer_weights"]) - 1 if "layer_weights" in head else 1
    return HubertConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=1,
        intermediate_size=width,
        num_conv_pos_embedding_groups=math.gcd(width, 16),
        conv_dim=[width] * 7,
        mask_time_prob=0.0,
    )


def _head_width(head: Mapping[str, Tensor]) -> int:
    if "entry.convolution.weight" in head:
        return head["entry.convolution.weight"].shape[1]
    return head["projection.weight"].shape[1] // 2 if head else 768


def _adapter_fields(config: Mapping[str, Any], encoder: Mapping[str, Tensor], family: str) -> dict[str, Any]:
    """Return the fields of the adapter: the paper's has a norm, a scale and a residual, the newer code's has none."""
    down = {name: tensor for name, tensor in encoder.items() if name.endswith("adapter.down.weight")}
    if not down:
        return {"adapter_size": 0}
    is_paper = any(name.endswith("adapter.norm.weight") for name in encoder)
    described = config.get("adapter") or {}
    return {
        "adapter_size": next(iter(down.values())).shape[0],
        "adapter_layers": sorted(int(name.split(".")[2]) for name in down),
        "adapter_norm": is_paper,
        "adapter_scale": described.get("scale", 0.1 if is_paper else 1.0),
        "adapter_residual": described.get("own_residual", is_paper),
        "adapter_activation": described.get("activation", "elu" if family == "wavlm" else "relu"),
        "adapter_initialization": "normal",
        "adapter_noise": None if is_paper else (0.1, 0.5),
    }


def _head_fields(head: Mapping[str, Tensor]) -> dict[str, Any]:
    if not head:
        return {"head_type": "statistics_pooling"}
    fields: dict[str, Any] = {
        "use_weighted_layer_sum": "layer_weights" in head,
        "embedding_size": head["projection.weight"].shape[0],
        "head_type": "statistics_pooling",
    }
    if "entry.convolution.weight" not in head:
        return fields
    groups = [name for name in head if re.fullmatch(r"blocks\.0\.groups\.\d+\.convolution\.weight", name)]
    return fields | {
        "head_type": "ecapa_tdnn",
        "ecapa_channels": head["entry.convolution.weight"].shape[0],
        "ecapa_pooled_channels": head["aggregation.weight"].shape[0],
        "ecapa_attention_channels": head["pooling.scores.weight"].shape[1],
        "ecapa_se_channels": head["blocks.0.gate.squeeze.weight"].shape[0],
        "ecapa_res2net_scale": len(groups) + 1,
    }


def read_original_checkpoint(path: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without running code from it.

    Args:
        path: a `.safetensors` file, or a `.pt` file, which is read with `weights_only=True`.

    Returns:
        Tensors by name.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when `path` is no file, or cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"'{path}' is no file but a folder, a pipe or a device: give a .safetensors or .pt file.")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no checkpoint at '{path}': give a .safetensors or .pt file.") from None
    except Exception as error:
        raise ValueError(f"'{path}' cannot be read as a checkpoint ({first_line(error)}): is it complete?") from error
