"""Configuration of the two-path student: its encoder, its adapters and its speaker head."""

import difflib
import inspect
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Self, TypeGuard

from transformers import CONFIG_MAPPING, AutoConfig, HubertConfig, PreTrainedConfig
from transformers.activations import ACT2CLS

SUPPORTED_ENCODERS = ("hubert", "wav2vec2", "wavlm")
HEAD_TYPES = ("ecapa_tdnn", "statistics_pooling")
ADAPTER_INITIALIZATIONS = ("zero", "normal")
ADAPTER_ACTIVATIONS = (*ACT2CLS, "elu")
# What `OSKDFTConfig.from_teacher` takes beside the configuration's own fields.
SHAPE_FIELDS = ("front_end_width", "front_end_stride", "hidden_size", "intermediate_size", "num_attention_heads")

# Names that transformers itself writes into a config.json or passes to the constructor of any configuration.
_TRANSFORMERS_FIELDS = frozenset(
    {field.name for field in fields(PreTrainedConfig)}
    | {"attn_implementation", "auto_map", "model_type", "name_or_path", "num_labels", "output_attentions"}
    | {"torch_dtype", "custom_pipelines", "quantization_config", "tie_word_embeddings"}
)


# Prefixes of our own fields: an unknown one in a config.json was written by a newer version.
_OWN_PREFIXES = ("adapter_", "ecapa_", "teacher_", "head_", "embedding_", "encoder_", "time_", "use_weighted_")
# Sizes beyond which no speech encoder goes; they bound what a config.json from elsewhere can ask memory for.
MOST_LAYERS, MOST_WIDTH = 512, 65_536


def nearest_name(name: str, candidates: Iterable[str]) -> str:
    """The end of an error sentence about an unknown name: the closest known one, or all of them."""
    known = sorted(candidates)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"the known ones are {', '.join(known)}."


def _encoder_field(name: str, meaning: str) -> property:
    """Make a property that reads a field of `encoder_config` at the top of the configuration, where tools look for it.

    `attribute_map` of transformers cannot name a field of a nested configuration. A property is not written to
    `config.json`, so the number stays there once, in `encoder_config`.
    """

    def read(config: "OSKDFTConfig") -> int:
        return getattr(config.encoder_config, name)

    def refuse(config: "OSKDFTConfig", value: object) -> None:
        raise AttributeError(
            f"{name} was set to {value!r} on an OSKDFTConfig, which reads it from encoder_config: set "
            f"encoder_config.{name}, or build the configuration with OSKDFTConfig.from_teacher."
        )

    return property(read, refuse, doc=meaning)


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
    hidden_size = _encoder_field("hidden_size", "Width of the transformer layers.")
    num_hidden_layers = _encoder_field("num_hidden_layers", "Number of the student's transformer layers.")
    num_attention_heads = _encoder_field("num_attention_heads", "Number of attention heads in a layer.")
    intermediate_size = _encoder_field("intermediate_size", "Width of a layer's feed-forward block.")

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
        # AutoModel asks for a class by its name, and cannot ask for none.
        kwargs["architectures"] = kwargs.get("architectures") or ["OSKDFTForXVector"]
        super().__init__(**kwargs)
        self._check()

    @classmethod
    def field_names(cls) -> list[str]:
        """The configuration's own fields, in the order of the constructor; those of a subclass come first."""
        names: dict[str, None] = {}
        for one in cls.__mro__[: cls.__mro__.index(OSKDFTConfig) + 1]:
            for name, parameter in inspect.signature(one).parameters.items():
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    names[name] = None
        return list(names)

    @classmethod
    def from_teacher(
        cls,
        name_or_config: str | PreTrainedConfig | dict[str, Any],
        layers: Iterable[int] = (0, 1),
        front_end_width: float | Iterable[float] | None = None,
        front_end_stride: Iterable[int] | None = None,
        hidden_size: float | None = None,
        intermediate_size: int | None = None,
        num_attention_heads: int | None = None,
        **fields: Any,
    ) -> "OSKDFTConfig":
        """A student that keeps the given layers of the teacher, and of its widths what is asked for.

        name_or_config: a repository, a folder, or a configuration of a supported family.
        layers: teacher layers, counted from 0, in the order in which the student stacks them.
        front_end_width: channels of the widest convolution, the others in the teacher's proportion; or one number for
        each convolution. front_end_stride: one stride for each convolution. hidden_size: width of the layers. Widths
        below 1 are shares of the teacher's.
        intermediate_size: of their feed-forward blocks; None: in the teacher's proportion. num_attention_heads: None:
        as many as heads of the teacher's width fill `hidden_size`. Whatever is None is the teacher's.
        LayerDrop and SpecAugment are switched off, because a shallow student must not lose a layer by accident.
        Raises `ValueError` for an unsupported family, a layer that does not exist, an unknown field, a width that the
        teacher does not have or that heads or groups do not divide, and frames that do not fall on the teacher's.
        """
        for name in cls._unknown(fields):
            known = [*cls.field_names(), *SHAPE_FIELDS]
            raise ValueError(f"OSKDFTConfig has no field '{name}': {nearest_name(name, known)}")
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
            **_front_end(teacher, front_end_width, front_end_stride),
            **_layer_widths(teacher, hidden_size, intermediate_size, num_attention_heads),
        }
        student.pop("_name_or_path", None)
        source = name_or_config if isinstance(name_or_config, str) else getattr(teacher, "name_or_path", None)
        if source and os.path.isdir(source):  # its path says nothing elsewhere, and may say more than it should
            source = os.path.basename(os.path.abspath(source))
        origin = {"teacher_name_or_path": source or None, "teacher_layers": chosen}
        result = cls(**({"encoder_config": student} | origin | fields))
        frame_ratio(result.encoder_config, teacher, result.time_reduction)
        return result

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As in transformers; what a user has set on the configuration stays, and a newer version's field warns."""
        unknown = cls._unknown(config_dict)
        newer = [name for name in unknown if name.startswith(_OWN_PREFIXES)]
        if newer:
            warnings.warn(
                f"config.json has fields that this version does not know and ignores: {', '.join(newer)}.",
                stacklevel=2,
            )
        known = {name: value for name, value in config_dict.items() if name not in unknown}
        result = super().from_dict(known, **kwargs)
        config = result[0] if isinstance(result, tuple) else result
        for name in unknown:
            if name not in newer and not hasattr(cls, name):
                setattr(config, name, config_dict[name])
        return result

    @property
    def adapted_layers(self) -> list[int]:
        """Student layers that have an adapter, ascending; empty when `adapter_size` is 0."""
        if self.adapter_size == 0:
            return []
        depth = self.encoder_config.num_hidden_layers
        return list(range(depth)) if self.adapter_layers is None else sorted(set(self.adapter_layers))

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next, as transformers' speech configurations name it: 320 by default."""
        return math.prod(self.encoder_config.conv_stride) * self.time_reduction

    @classmethod
    def _unknown(cls, names: Iterable[str]) -> list[str]:
        known = _TRANSFORMERS_FIELDS.union(cls.field_names())
        return [name for name in names if name not in known and not name.startswith("_")]

    def _check(self) -> None:
        check_encoder(self.encoder_config)
        self._check_types()
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
        sizes = [
            name for name in OSKDFTConfig.field_names() if name.startswith("ecapa_") and name != "ecapa_dilations"
        ]
        for name, least in {
            "adapter_size": 0,
            **dict.fromkeys(("time_reduction", "embedding_size", *sizes), 1),
        }.items():
            _check_whole(name, getattr(self, name), least, MOST_WIDTH)
        if self.ecapa_channels % self.ecapa_res2net_scale:
            raise ValueError(
                f"ecapa_channels is {self.ecapa_channels}: it must be a multiple of ecapa_res2net_scale, "
                f"{self.ecapa_res2net_scale}."
            )
        dilations = self.ecapa_dilations
        if not dilations or len(dilations) > 64 or not all(_is_whole(one) and 1 <= one <= 1024 for one in dilations):
            raise ValueError(f"ecapa_dilations is {dilations}: give a dilation of at least 1 for each block.")
        encoder = self.encoder_config
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if encoder.hidden_size % getattr(encoder, name):
                raise ValueError(
                    f"hidden_size is {encoder.hidden_size}: it must be a multiple of the encoder's {name}, "
                    f"{getattr(encoder, name)}."
                )
        noise = self.adapter_noise
        if noise is not None and (len(noise) != 2 or not 0 <= noise[0] <= noise[1]):
            raise ValueError(f"adapter_noise is {noise}: give two numbers, 0 <= low <= high.")

    def _check_types(self) -> None:
        for name in ("adapter_norm", "adapter_residual", "use_weighted_layer_sum"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}: true or false is needed.")
        _check_number("adapter_scale", self.adapter_scale)
        for name in ("adapter_layers", "teacher_layers"):
            value = getattr(self, name)
            if value is not None and not all(_is_whole(layer) for layer in value):
                raise ValueError(f"{name} is {value}: numbers of layers are needed, or null.")
        if self.teacher_name_or_path is not None and not isinstance(self.teacher_name_or_path, str):
            raise ValueError(f"teacher_name_or_path is {self.teacher_name_or_path!r}: a text is needed, or null.")
        for value in self.adapter_noise or ():
            _check_number("adapter_noise", value)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}: it must be at least {least}, a whole number.")
    if value > most:
        raise ValueError(f"{name} is {value}: it must be at most {most:,}; no speech encoder is larger.")


def _check_number(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and least <= value <= most:
            return
    at_least = "" if least == -math.inf else f" of at least {least:g}"
    between = at_least if most == math.inf else f" from {least:g} to {most:g}"
    raise ValueError(f"{name} is {value!r}: a finite number{between} is needed.")


def check_encoder(config: PreTrainedConfig) -> None:
    """Raise `ValueError` for a field of the encoder's configuration whose type or size no encoder has."""
    _check_whole("num_hidden_layers", config.num_hidden_layers, 0, MOST_LAYERS)
    for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_conv_pos_embeddings"):
        _check_whole(name, getattr(config, name), 1, MOST_WIDTH)
    _check_whole("num_conv_pos_embedding_groups", config.num_conv_pos_embedding_groups, 1, MOST_WIDTH)
    lists = {name: getattr(config, name) for name in ("conv_dim", "conv_kernel", "conv_stride")}
    for name, values in lists.items():
        if not isinstance(values, list | tuple) or not 1 <= len(values) <= 64:
            raise ValueError(f"{name} is {values!r}: a list with a number for each convolution is needed.")
        for value in values:
            _check_whole(name, value, 1, MOST_WIDTH)
    if len({len(values) for values in lists.values()}) != 1:
        raise ValueError("conv_dim, conv_kernel and conv_stride have different lengths: one number each is needed.")
    for name in ("layer_norm_eps", "initializer_range"):
        _check_number(name, getattr(config, name), 0.0)
    dropouts = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    for name in (*dropouts, "mask_time_prob", "mask_feature_prob"):
        _check_number(name, getattr(config, name), 0.0, 1.0)
    for name in ("hidden_act", "feat_extract_activation"):
        value = getattr(config, name)
        if not isinstance(value, str) or value not in ACT2CLS:
            raise ValueError(f"{name} is {value!r}: {nearest_name(str(value), ACT2CLS)}")
    if config.feat_extract_norm not in ("group", "layer"):
        raise ValueError(f"feat_extract_norm is {config.feat_extract_norm!r}: use group or layer.")


def _as_encoder_config(config: PreTrainedConfig | dict[str, Any] | None) -> PreTrainedConfig:
    """The encoder's configuration object, from itself, from its dict, or the default: HuBERT-base with two layers."""
    if config is None:
        config = HubertConfig(num_hidden_layers=2, layerdrop=0.0, mask_time_prob=0.0)
    if not isinstance(config, dict | PreTrainedConfig):
        raise ValueError(f"encoder_config is {config!r}: a configuration or its dict is needed.")
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


def frame_ratio(encoder: PreTrainedConfig, teacher: PreTrainedConfig, time_reduction: int = 1) -> int:
    """How many frames of the teacher's encoder one frame of a student's spans.

    encoder, teacher: the two encoders' configurations. Raises `ValueError` unless that is a whole number: the
    distillation would hold frames against each other that lie at different times.
    """
    own, theirs = math.prod(encoder.conv_stride) * time_reduction, math.prod(teacher.conv_stride)
    if own % theirs:
        raise ValueError(
            f"The student makes a frame every {own} samples and the teacher every {theirs}: choose front_end_stride "
            f"and time_reduction so that their product is a multiple of {theirs}."
        )
    return own // theirs


def _front_end(
    teacher: PreTrainedConfig, width: float | Iterable[float] | None, stride: Iterable[int] | None
) -> dict[str, list[int]]:
    """The fields of the encoder's configuration that a thinner front end changes."""
    theirs = list(teacher.conv_dim)
    asked = [width] if isinstance(width, int | float) else list(theirs if width is None else width)
    strides = list(teacher.conv_stride if stride is None else stride)
    if len(asked) == 1:
        widest = _whole_width("front_end_width", asked[0], max(theirs))
        _check_range("front_end_width", widest, max(theirs), "channels of the teacher's widest convolution")
        asked = [max(round(one * widest / max(theirs)), 1) for one in theirs]
    widths = [_whole_width("front_end_width", own, most) for own, most in zip(asked, theirs, strict=False)]
    widths += [int(one) for one in asked[len(theirs) :]]
    for name, values in (("front_end_width", widths), ("front_end_stride", strides)):
        if len(values) != len(theirs):
            raise ValueError(
                f"{name} is {values}: give one number for each of the teacher's {len(theirs)} convolutions."
            )
    for own, most in zip(widths, theirs, strict=True):
        _check_range("front_end_width", own, most, "channels of the teacher's convolution")
    if min(strides) < 1:
        raise ValueError(f"front_end_stride is {strides}: every stride must be at least 1.")
    return {"conv_dim": widths, "conv_stride": strides}


def _layer_widths(
    teacher: PreTrainedConfig, hidden_size: float | None, intermediate_size: int | None, heads: int | None
) -> dict[str, int]:
    """The fields of the encoder's configuration that narrower layers change."""
    width = teacher.hidden_size
    if hidden_size is not None:
        width = _whole_width("hidden_size", hidden_size, teacher.hidden_size)
    _check_range("hidden_size", width, teacher.hidden_size, "the teacher's hidden_size")
    inner = intermediate_size
    if inner is None:
        inner = max(round(teacher.intermediate_size * width / teacher.hidden_size), 1)
    _check_range("intermediate_size", inner, teacher.intermediate_size, "the teacher's intermediate_size")
    head_width = teacher.hidden_size // teacher.num_attention_heads
    if heads is None:
        if width % head_width:
            raise ValueError(
                f"hidden_size is {width}: it must be a multiple of {head_width}, the width of a teacher's head, or "
                "num_attention_heads must be given and divide it."
            )
        heads = width // head_width
    _check_range("num_attention_heads", heads, teacher.num_attention_heads, "the teacher's num_attention_heads")
    if width % heads:
        raise ValueError(
            f"hidden_size is {width} with {heads} num_attention_heads: give a hidden_size that they divide."
        )
    _check_range("hidden_size / num_attention_heads", width // heads, head_width, "the width of a teacher's head")
    return {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads}


def _whole_width(name: str, value: float, theirs: int) -> int:
    """A number of channels; below 1, that share of the teacher's."""
    if 0 < value < 1:
        return round(value * theirs)
    if value != int(value):
        raise ValueError(f"{name} is {value}: give a whole number, or a share of the teacher's below 1.")
    return int(value)


def _check_range(name: str, value: int, most: int, what: str) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{name} is {value}: a student starts from 1 to {most}, {what}; give a number in between.")
