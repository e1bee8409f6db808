"""Configure the two-path student: its encoder, its adapters and its speaker head."""

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
# Arguments of `OSKDFTConfig.from_teacher` beside the configuration's own fields.
SHAPE_FIELDS = ("front_end_width", "front_end_stride", "hidden_size", "intermediate_size", "num_attention_heads")

# Names that transformers itself writes into config.json, or passes to the constructor of any configuration.
_TRANSFORMERS_FIELDS = frozenset(
    {field.name for field in fields(PreTrainedConfig)}
    | {"attn_implementation", "auto_map", "model_type", "name_or_path", "num_labels", "output_attentions"}
    | {"torch_dtype", "custom_pipelines", "quantization_config", "tie_word_embeddings"}
)
# Prefixes of our own fields: an unknown one in a config.json was written by a newer version.
_OWN_PREFIXES = ("adapter_", "ecapa_", "teacher_", "head_", "embedding_", "encoder_", "time_", "use_weighted_")
# No speech encoder is larger: the limits bound the memory that a config.json from elsewhere can ask for.
MOST_LAYERS, MOST_WIDTH = 512, 65_536


def nearest_name(name: str, candidates: Iterable[str]) -> str:
    """Word the end of an error sentence about an unknown name: the closest known name, or all of them.

    Args:
        name: the unknown name.
        candidates: the known names.
    """
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
    """Describe an OS-KDFT student (Heo et al., Interspeech 2023, section 3), all that is needed to build one.

    `hidden_size`, `num_hidden_layers`, `num_attention_heads` and `intermediate_size` of `encoder_config` can be read
    here as well.

    Args:
        encoder_config: the student's own `HubertConfig`, `Wav2Vec2Config` or `WavLMConfig`, or its dict. Its
            `num_hidden_layers` is the number of the student's layers. None: HuBERT-base with two layers.
        adapter_size: width of the bottleneck beside each feed-forward block; 64 in the paper, 0 for no adapters.
        adapter_layers: student layers that have an adapter, counted from 0; None: all.
        adapter_norm: LayerNorm before the down-projection, as in the paper's code (the newer code has none).
        adapter_scale: factor on the adapter's output; 0.1 in the paper's code, 1 in the newer code.
        adapter_residual: add the adapter's input to its output, as the paper's code does.
        adapter_activation: name of a transformers activation, or "elu", as in the authors' WavLM student.
        adapter_initialization: "zero" starts the up-projection at zero, so that both paths start equal; "normal" draws
            it with the encoder's `initializer_range`, as the authors' code does.
        adapter_noise: (low, high), the range of the factor on the training-time noise of the authors' newer code;
            None: no noise.
        time_reduction: stride of a convolution before the projection; 2 halves the frames of the layers (FitHuBERT).
        head_type: "ecapa_tdnn" (the paper) or "statistics_pooling" (the authors' newer code).
        embedding_size: width of the speaker embedding.
        ecapa_channels: channels of the ECAPA-TDNN head (Desplanques et al., Interspeech 2020); the defaults of all
            its sizes are the authors'. A multiple of `ecapa_res2net_scale`.
        ecapa_pooled_channels: channels before the pooling of ECAPA-TDNN.
        ecapa_attention_channels: bottleneck of the attention of ECAPA-TDNN.
        ecapa_res2net_scale: number of groups in a Res2Net block.
        ecapa_se_channels: bottleneck of a squeeze-excitation gate.
        ecapa_dilations: dilation of each block of ECAPA-TDNN.
        use_weighted_layer_sum: the head reads a sum of all hidden states with free weights; False: the last one.
        teacher_name_or_path: the teacher, for the model card; of a folder only its name.
        teacher_layers: the teacher layers that the student started from, counted from 0, for the model card.
        **kwargs: fields of transformers' own. `num_labels` above 2 gives `OSKDFTForXVector` a loss.

    Raises:
        ValueError: for an unknown field (with the nearest name), an unsupported encoder family, or a value outside of
            its range.
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
            if isinstance(getattr(type(self), name, None), property):  # one of `_encoder_field`
                raise ValueError(
                    f"{name} is a field of encoder_config: set it there, or build the configuration with "
                    "OSKDFTConfig.from_teacher."
                )
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
        # AutoModel chooses between two classes by this name, and fails when there is none.
        kwargs["architectures"] = kwargs.get("architectures") or ["OSKDFTForXVector"]
        super().__init__(**kwargs)
        self._check()

    @classmethod
    def field_names(cls) -> list[str]:
        """List the configuration's own fields in the order of the constructor; fields of a subclass come first."""
        names: dict[str, None] = {}
        for ancestor in cls.__mro__[: cls.__mro__.index(OSKDFTConfig) + 1]:
            for name, parameter in inspect.signature(ancestor).parameters.items():
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
        intermediate_size: float | None = None,
        num_attention_heads: int | None = None,
        **fields: Any,
    ) -> "OSKDFTConfig":
        """Configure a student that keeps some layers of a teacher, at the teacher's widths or at smaller ones.

        LayerDrop and SpecAugment are switched off, because a shallow student must not lose a layer by accident.

        Args:
            name_or_config: a repository, a folder, or the configuration of a HuBERT, wav2vec 2.0 or WavLM teacher.
            layers: teacher layers, counted from 0, in the order in which the student stacks them.
            front_end_width: channels of the widest convolution, the others in the teacher's proportion; or one number
                for each convolution. Below 1 it is a share of the teacher's width. None: the teacher's.
            front_end_stride: one stride for each convolution. None: the teacher's.
            hidden_size: width of the layers; below 1 a share of the teacher's width. None: the teacher's.
            intermediate_size: width of their feed-forward blocks; below 1 a share. None: in the teacher's proportion.
            num_attention_heads: None: as many heads of the teacher's width as fill `hidden_size`.
            **fields: further fields of the configuration.

        Raises:
            ValueError: for an unsupported family, a layer that the teacher does not have, an unknown field, a width
                above the teacher's or one that heads or groups do not divide, or a frame that spans no whole number
                of the teacher's frames.
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
        if source and os.path.isdir(source):  # a path is useless on other machines, and may be private
            source = os.path.basename(os.path.abspath(source))
        origin = {"teacher_name_or_path": source or None, "teacher_layers": chosen}
        result = cls(**({"encoder_config": student} | origin | fields))
        frame_ratio(result.encoder_config, teacher, result.time_reduction)
        return result

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Build the configuration from a dict, as transformers does, and tolerate unknown fields of a `config.json`.

        A field with one of our prefixes comes from a newer version: it is left out with a warning. Any other field was
        set by a user and stays, unless its name is taken by a method or a property.

        Args:
            config_dict: the fields.
            **kwargs: as in transformers.
        """
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
        """List the student layers that have an adapter, ascending; empty when `adapter_size` is 0."""
        if self.adapter_size == 0:
            return []
        depth = self.encoder_config.num_hidden_layers
        return list(range(depth)) if self.adapter_layers is None else sorted(set(self.adapter_layers))

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Count the samples from one frame to the next, by the name in transformers' speech configurations."""
        return math.prod(self.encoder_config.conv_stride) * self.time_reduction

    @classmethod
    def _unknown(cls, names: Iterable[str]) -> list[str]:
        known = _TRANSFORMERS_FIELDS.union(cls.field_names())
        return [name for name in names if name not in known and not name.startswith("_")]

    def _check(self) -> None:
        check_encoder(self.encoder_config)
        self._check_types()
        for name, allowed in (
            ("head_type", HEAD_TYPES),
            ("adapter_initialization", ADAPTER_INITIALIZATIONS),
            ("adapter_activation", ADAPTER_ACTIVATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}': use one of {', '.join(allowed)}.")
        self._check_adapters()
        self._check_head()
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            divisor = getattr(self.encoder_config, name)
            if self.hidden_size % divisor:
                raise ValueError(
                    f"hidden_size is {self.hidden_size}: it must be a multiple of the encoder's {name}, {divisor}."
                )

    def _check_adapters(self) -> None:
        for layer in self.adapter_layers or []:
            if not 0 <= layer < self.num_hidden_layers:
                last = self.num_hidden_layers - 1
                raise ValueError(f"adapter_layers names layer {layer}: the student has layers 0 to {last}.")
        _check_whole("adapter_size", self.adapter_size, 0, MOST_WIDTH)
        noise = self.adapter_noise
        if noise is not None and (len(noise) != 2 or not 0 <= noise[0] <= noise[1]):
            raise ValueError(f"adapter_noise is {noise}: give two numbers, 0 <= low <= high.")

    def _check_head(self) -> None:
        ecapa_fields = [name for name in OSKDFTConfig.field_names() if name.startswith("ecapa_")]
        for name in ("time_reduction", "embedding_size", *ecapa_fields):
            if name != "ecapa_dilations":
                _check_whole(name, getattr(self, name), 1, MOST_WIDTH)
        if self.ecapa_channels % self.ecapa_res2net_scale:
            raise ValueError(
                f"ecapa_channels is {self.ecapa_channels}: it must be a multiple of ecapa_res2net_scale, "
                f"{self.ecapa_res2net_scale}."
            )
        dilations = self.ecapa_dilations
        if not 1 <= len(dilations) <= 64 or not all(_is_whole(number) and 1 <= number <= 1024 for number in dilations):
            raise ValueError(f"ecapa_dilations is {dilations}: give a dilation of at least 1 for each block.")

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
    """Check the types and sizes of an encoder's configuration, which may come from an unknown `config.json`.

    Args:
        config: a `HubertConfig`, `Wav2Vec2Config` or `WavLMConfig`.

    Raises:
        ValueError: for a field whose type or size no encoder has.
    """
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
    """Return the encoder's configuration as an object; None gives HuBERT-base with two layers."""
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
    """Count the teacher's frames that one frame of a student spans.

    Args:
        encoder: the encoder configuration of the student.
        teacher: the encoder configuration of the teacher.
        time_reduction: the student's `time_reduction`.

    Raises:
        ValueError: unless the count is a whole number. Distillation would compare frames of different times.
    """
    student_step = math.prod(encoder.conv_stride) * time_reduction
    teacher_step = math.prod(teacher.conv_stride)
    if student_step % teacher_step:
        raise ValueError(
            f"The student makes a frame every {student_step} samples and the teacher every {teacher_step}: choose "
            f"front_end_stride and time_reduction so that their product is a multiple of {teacher_step}."
        )
    return student_step // teacher_step


def _front_end(
    teacher: PreTrainedConfig, width: float | Iterable[float] | None, stride: Iterable[int] | None
) -> dict[str, list[int]]:
    """Return the fields of the encoder's configuration that a thinner front end changes."""
    limits = list(teacher.conv_dim)
    widest = max(limits)
    given = [width] if isinstance(width, int | float) else list(limits if width is None else width)
    strides = list(teacher.conv_stride if stride is None else stride)
    if len(given) == 1:
        chosen = _whole_width("front_end_width", given[0], widest)
        _check_range("front_end_width", chosen, widest, "channels of the teacher's widest convolution")
        given = [max(round(limit * chosen / widest), 1) for limit in limits]
    widths = [_whole_width("front_end_width", value, limit) for value, limit in zip(given, limits, strict=False)]
    widths += [int(value) for value in given[len(limits) :]]
    for name, values in (("front_end_width", widths), ("front_end_stride", strides)):
        if len(values) != len(limits):
            raise ValueError(
                f"{name} is {values}: give one number for each of the teacher's {len(limits)} convolutions."
            )
    for value, limit in zip(widths, limits, strict=True):
        _check_range("front_end_width", value, limit, "channels of the teacher's convolution")
    if min(strides) < 1:
        raise ValueError(f"front_end_stride is {strides}: every stride must be at least 1.")
    return {"conv_dim": widths, "conv_stride": strides}


def _layer_widths(
    teacher: PreTrainedConfig, hidden_size: float | None, intermediate_size: float | None, heads: int | None
) -> dict[str, int]:
    """Return the fields of the encoder's configuration that narrower layers change."""
    width = teacher.hidden_size
    if hidden_size is not None:
        width = _whole_width("hidden_size", hidden_size, teacher.hidden_size)
    _check_range("hidden_size", width, teacher.hidden_size, "the teacher's hidden_size")
    if intermediate_size is not None:
        inner = _whole_width("intermediate_size", intermediate_size, teacher.intermediate_size)
    else:
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


def _whole_width(name: str, value: float, teacher_width: int) -> int:
    """Return a width as a whole number; a value below 1 is a share of the teacher's width."""
    if 0 < value < 1:
        return round(value * teacher_width)
    if value != int(value) or (value == 1 and isinstance(value, float)):
        raise ValueError(f"{name} is {value}: give a whole number, or a share of the teacher's below 1.")
    return int(value)


def _check_range(name: str, value: int, most: int, meaning: str) -> None:
    """Raise `ValueError` unless a width lies between 1 and the teacher's, which `meaning` names."""
    if not 1 <= value <= most:
        raise ValueError(f"{name} is {value}: a student starts from 1 to {most}, {meaning}; give a number in between.")
