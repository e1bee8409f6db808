"""Configuration of the two-path student: its encoder, its adapters and its speaker head."""

import difflib
import inspect
import os
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, HubertConfig, PreTrainedConfig
from transformers.activations import ACT2CLS
from transformers.utils import logging

logger = logging.get_logger(__name__)

SUPPORTED_ENCODERS = ("hubert", "wav2vec2", "wavlm")
HEAD_TYPES = ("ecapa_tdnn", "statistics_pooling")
ADAPTER_INITIALIZATIONS = ("zero", "normal")
ADAPTER_ACTIVATIONS = (*ACT2CLS, "elu")

# Names that transformers itself writes into a config.json or passes to the constructor of any configuration.
_TRANSFORMERS_FIELDS = frozenset(
    {field.name for field in fields(PreTrainedConfig)}
    | {"attn_implementation", "auto_map", "model_type", "name_or_path", "num_labels", "output_attentions"}
    | {"torch_dtype", "custom_pipelines", "quantization_config", "tie_word_embeddings"}
)


def nearest_name(name: str, candidates: Iterable[str]) -> str:
    """The end of an error sentence about an unknown name: the closest known one, or all of them."""
    known = sorted(candidates)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"the known ones are {', '.join(known)}."


class OSKDFTConfig(PreTrainedConfig):
    """Everything needed to build an OS-KDFT student (Heo et al., Interspeech 2023, section 3).

    Args:
        encoder_config: the student's own `HubertConfig`, `Wav2Vec2Config` or `WavLMConfig` (or its dict). Its
            `num_hidden_layers` is the student's. Default: HuBERT-base with two layers.
        adapter_size: width of the bottleneck beside each feed-forward block; 64 in the paper, 0 for no adapters.
        adapter_layers: student layers that have an adapter; None for all.
        adapter_norm: LayerNorm before the down-projection, as in the paper's code (the newer code has none).
        adapter_scale: factor on the adapter's output; 0.1 in the paper's code, 1 in the newer code.
        adapter_residual: add the adapter's input to its output, as the paper's code does.
        adapter_activation: a transformers activation; "relu", or "elu" in the authors' WavLM student.
        adapter_initialization: "zero" starts the up-projection at zero, so that both paths start equal; "normal" draws
            it with the encoder's `initializer_range`, as the authors' code does.
        adapter_noise: (low, high), the range of the factor on the training-time noise of the authors' newer code.
        time_reduction: stride of a convolution before the projection; 2 halves the layers' work (FitHuBERT).
        head_type: "ecapa_tdnn" (the paper) or "statistics_pooling" (the authors' newer code).
        embedding_size: width of the speaker embedding.
        ecapa_channels, ecapa_pooled_channels, ecapa_attention_channels, ecapa_res2net_scale, ecapa_se_channels,
        ecapa_dilations: sizes of the ECAPA-TDNN head (Desplanques et al., Interspeech 2020), the authors' values.
        use_weighted_layer_sum: the head reads a freely weighted sum of all hidden states; False: the last one.
        teacher_name_or_path, teacher_layers: where the student came from, for the model card; of a folder its name.

    Raises `ValueError` for an unknown field (naming the nearest one), an unsupported encoder family, or a value
    outside its range.
    """

    model_type = "oskdft"
    sub_configs = {"encoder_config": AutoConfig}

    def __init__(
        self,
        encoder_config: PreTrainedConfig | dict[str, Any] | None = None,
        adapter_size: int = 64,
        adapter_layers: list[int] | None = None,
        adapter_norm: bool = True,
        adapter_scale: float = 0.1,
        adapter_residual: bool = False,
        adapter_activation: str = "relu",
        adapter_initialization: str = "zero",
        adapter_noise: tuple[float, float] | None = None,
        time_reduction: int = 1,
        head_type: str = "ecapa_tdnn",
        embedding_size: int = 192,
        ecapa_channels: int = 512,
        ecapa_pooled_channels: int = 1536,
        ecapa_attention_channels: int = 256,
        ecapa_res2net_scale: int = 8,
        ecapa_se_channels: int = 128,
        ecapa_dilations: tuple[int, ...] = (2, 3, 4),
        use_weighted_layer_sum: bool = True,
        teacher_name_or_path: str | None = None,
        teacher_layers: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in self._unknown(kwargs):
            raise ValueError(f"OSKDFTConfig has no field '{name}': {nearest_name(name, self.field_names())}")
        self.encoder_config = _as_encoder_config(encoder_config)
        self.adapter_size = adapter_size
        self.adapter_layers = None if adapter_layers is None else list(adapter_layers)
        self.adapter_norm = adapter_norm
        self.adapter_scale = adapter_scale
        self.adapter_residual = adapter_residual
        self.adapter_activation = adapter_activation
        self.adapter_initialization = adapter_initialization
        self.adapter_noise = None if adapter_noise is None else list(adapter_noise)
        self.time_reduction = time_reduction
        self.head_type = head_type
        self.embedding_size = embedding_size
        self.ecapa_channels = ecapa_channels
        self.ecapa_pooled_channels = ecapa_pooled_channels
        self.ecapa_attention_channels = ecapa_attention_channels
        self.ecapa_res2net_scale = ecapa_res2net_scale
        self.ecapa_se_channels = ecapa_se_channels
        self.ecapa_dilations = list(ecapa_dilations)
        self.use_weighted_layer_sum = use_weighted_layer_sum
        self.teacher_name_or_path = teacher_name_or_path
        self.teacher_layers = None if teacher_layers is None else list(teacher_layers)
        super().__init__(**kwargs)
        self._check()

    @classmethod
    def field_names(cls) -> list[str]:
        """The configuration's own fields, in the order of the constructor."""
        parameters = inspect.signature(cls.__init__).parameters
        return [name for name in parameters if name not in ("self", "kwargs")]

    @classmethod
    def from_teacher(
        cls, name_or_config: str | PreTrainedConfig | dict[str, Any], layers: Iterable[int] = (0, 1), **fields: Any
    ) -> "OSKDFTConfig":
        """A student that keeps the teacher's shape and the given layers of it.

        name_or_config: a repository, a folder, or a configuration of a supported family.
        layers: teacher layers, counted from 0, in the order in which the student stacks them.
        LayerDrop and SpecAugment are switched off, because a shallow student must not lose a layer by accident.
        Raises `ValueError` for an unsupported family, a layer that does not exist, or an unknown field.
        """
        config = AutoConfig.from_pretrained(name_or_config) if isinstance(name_or_config, str) else name_or_config
        teacher = _as_encoder_config(config)
        chosen = list(layers)
        depth = teacher.num_hidden_layers
        if not chosen:
            raise ValueError(f"The student was given no layers: name at least one of the teacher's 0 to {depth - 1}.")
        for layer in chosen:
            if not 0 <= layer < depth:
                raise ValueError(f"Teacher layer {layer} does not exist: the teacher has layers 0 to {depth - 1}.")
        student = teacher.to_dict() | {
            "num_hidden_layers": len(chosen),
            "layerdrop": 0.0,
            "mask_time_prob": 0.0,
            "mask_feature_prob": 0.0,
        }
        student.pop("_name_or_path", None)
        source = name_or_config if isinstance(name_or_config, str) else getattr(teacher, "name_or_path", None)
        if source and os.path.isdir(source):  # its path says nothing elsewhere, and may say more than it should
            source = os.path.basename(os.path.abspath(source))
        origin = {"teacher_name_or_path": source or None, "teacher_layers": chosen}
        return cls(**({"encoder_config": student} | origin | fields))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:  # noqa: ANN401  (transformers' own return)
        """As in transformers, but a field that a newer version has written only warns."""
        unknown = cls._unknown(config_dict)
        if unknown:
            logger.warning(
                f"config.json has fields that this version does not know and ignores: {', '.join(unknown)}."
            )
        known = {name: value for name, value in config_dict.items() if name not in unknown}
        return super().from_dict(known, **kwargs)

    @property
    def adapted_layers(self) -> list[int]:
        """Student layers that have an adapter, ascending; empty when `adapter_size` is 0."""
        if self.adapter_size == 0:
            return []
        depth = self.encoder_config.num_hidden_layers
        return list(range(depth)) if self.adapter_layers is None else sorted(set(self.adapter_layers))

    @classmethod
    def _unknown(cls, names: Iterable[str]) -> list[str]:
        known = _TRANSFORMERS_FIELDS.union(cls.field_names())
        return [name for name in names if name not in known and not name.startswith("_")]

    def _check(self) -> None:
        depth = self.encoder_config.num_hidden_layers
        for layer in self.adapter_layers or []:
            if not 0 <= layer < depth:
                raise ValueError(f"adapter_layers names layer {layer}: the student has layers 0 to {depth - 1}.")
        for name, allowed in (
            ("head_type", HEAD_TYPES),
            ("adapter_initialization", ADAPTER_INITIALIZATIONS),
            ("adapter_activation", ADAPTER_ACTIVATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}': use one of {', '.join(allowed)}.")
        sizes = [name for name in self.field_names() if name.startswith("ecapa_") and name != "ecapa_dilations"]
        for name, least in {
            "adapter_size": 0,
            **dict.fromkeys(("time_reduction", "embedding_size", *sizes), 1),
        }.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if self.ecapa_channels % self.ecapa_res2net_scale:
            raise ValueError(
                f"ecapa_channels is {self.ecapa_channels}: it must be a multiple of ecapa_res2net_scale, "
                f"{self.ecapa_res2net_scale}."
            )
        if not self.ecapa_dilations or min(self.ecapa_dilations) < 1:
            raise ValueError(
                f"ecapa_dilations is {self.ecapa_dilations}: give a dilation of at least 1 for each block."
            )
        noise = self.adapter_noise
        if noise is not None and (len(noise) != 2 or not 0 <= noise[0] <= noise[1]):
            raise ValueError(f"adapter_noise is {noise}: give two numbers, 0 <= low <= high.")


def _as_encoder_config(config: PreTrainedConfig | dict[str, Any] | None) -> Any:  # noqa: ANN401  (three families)
    """The encoder's configuration object, from itself, from its dict, or the default: HuBERT-base with two layers."""
    if config is None:
        config = HubertConfig(num_hidden_layers=2, layerdrop=0.0, mask_time_prob=0.0)
    family = config.get("model_type") if isinstance(config, dict) else config.model_type
    if family not in SUPPORTED_ENCODERS:
        raise ValueError(
            f"An encoder of family '{family}' is not supported: use one of {', '.join(SUPPORTED_ENCODERS)}."
        )
    if isinstance(config, dict):
        config = CONFIG_MAPPING[family](**{name: value for name, value in config.items() if name != "model_type"})
    for name in ("adapter_attn_dim", "add_adapter", "conv_pos_batch_norm"):
        if getattr(config, name, None):
            raise ValueError(f"The encoder's {name} is {getattr(config, name)}: OS-KDFT needs it off.")
    return config
