"""Start a student from its teacher: chosen layers and everything below them, copied and cut to its widths."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import check_choice
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from .importance import KeptUnits, choose_units, select_highest, select_random

Student = TypeVar("Student", bound=PreTrainedModel)
STARTS = ("importance", "random_channels", "random_weights")
# Fields of the encoder's configuration that a copied weight needs to be equal, and those that may be smaller.
_EQUAL_FIELDS = [
    *("do_stable_layer_norm", "feat_extract_norm", "feat_proj_layer_norm", "conv_bias", "conv_kernel"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance"),
]
_SMALLER_FIELDS = ("conv_dim", "hidden_size", "intermediate_size", "num_attention_heads")
# The kind of unit along each dimension of a layer's parameters, rows first; None: the dimension is not cut. A
# parameter that is not listed is a vector over the hidden channels.
_UNITS_OF_PARAMETER: dict[str, tuple[str | None, ...]] = {
    **{f"attention.{name}_proj.weight": ("queries", "hidden") for name in "qk"},
    **{f"attention.{name}_proj.bias": ("queries",) for name in "qk"},
    "attention.v_proj.weight": ("values", "hidden"),
    "attention.v_proj.bias": ("values",),
    "attention.out_proj.weight": ("hidden", "values"),
    "attention.gru_rel_pos_const": (None, "heads"),
    "attention.gru_rel_pos_linear.weight": (),
    "attention.gru_rel_pos_linear.bias": (),
    "attention.rel_attn_embed.weight": (None, "heads"),
    "feed_forward.intermediate_dense.weight": ("neurons", "hidden"),
    "feed_forward.intermediate_dense.bias": ("neurons",),
    "feed_forward.output_dense.weight": ("hidden", "neurons"),
}


def evenly_spaced_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Choose teacher layers at equal distances, from the first to the last.

    Args:
        teacher_layers: number of the teacher's layers.
        student_layers: number of layers to choose, from 1 to `teacher_layers`.

    Returns:
        Layers counted from 0, ascending; the first alone for one layer.

    Raises:
        ValueError: when the teacher has fewer layers, or none is asked for.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"{student_layers} layers were asked of a teacher of {teacher_layers}: ask for 1 to that many."
        )
    if student_layers == 1:
        return [0]
    return [round(index * (teacher_layers - 1) / (student_layers - 1)) for index in range(student_layers)]


def thirds(teacher_layers: int) -> list[int]:
    """Return the hidden states at one third, two thirds and the end of a teacher: 4, 8 and 12 for the base models.

    Args:
        teacher_layers: number of the teacher's layers, which is the index of its last hidden state.
    """
    return sorted({max(1, round(teacher_layers * third / 3)) for third in (1, 2, 3)})


def init_student_from_teacher(
    teacher: PreTrainedModel, config: OSKDFTConfig, start: str = "importance"
) -> OSKDFTForXVector:
    """Cut a student out of a teacher: its layers `config.teacher_layers`, at the widths of `config.encoder_config`.

    Convolutions, projection, positional convolution, the encoder's LayerNorm, the chosen layers and, with SpecAugment,
    the mask embedding are copied (the authors' code leaves the positional convolution and the LayerNorm random).
    Student layer 0 of a WavLM always gets the relative-position embedding of teacher layer 0, since no other layer has
    one. Adapters and head start as `config` describes, and a convolution of time reduction as the mean of its frames.

    A student as wide as its teacher has a kd path that is the truncated teacher, bit for bit. A narrower one keeps the
    most important channels, heads and neurons, see `importance.choose_units`. The cut of a unit that nothing writes or
    nothing reads changes no output, unless a LayerNorm averages over the unit. Convolutions that lost inputs are
    scaled back to the strength they had.

    Args:
        teacher: a `HubertModel`, `Wav2Vec2Model` or `WavLMModel`; it is not changed.
        config: the student, best made by `OSKDFTConfig.from_teacher`.
        start: "importance"; or, for comparison and drawn from torch's random state, "random_channels" (as many units
            as above, chosen at random) or "random_weights" (nothing is copied).

    Returns:
        A verifier in training mode, with weights of its own.

    Raises:
        ValueError: for an unknown `start`, a teacher of another family, or a teacher smaller than the student.
    """
    check_choice("start", start, STARTS)  # before the student is built
    return cut_from_teacher(OSKDFTForXVector(config), teacher, start)


def cut_from_teacher(student: Student, teacher: PreTrainedModel, start: str = "importance") -> Student:
    """Give the encoder of a new student of any task its first weights, as `init_student_from_teacher` does.

    Args:
        student: a verifier or a model of another task, changed in place.
        teacher: see there.
        start: see there.

    Returns:
        The student.

    Raises:
        ValueError: as `init_student_from_teacher` does.
    """
    check_choice("start", start, STARTS)
    config: OSKDFTConfig = student.config
    if start == "random_weights":
        return student
    _check(teacher, config)
    select = select_random if start == "random_channels" else select_highest
    kept = choose_units(teacher, config.encoder_config, config.teacher_layers or [], select)
    encoder = student.get_submodule("oskdft")
    with torch.no_grad():
        state = dict(_cut(teacher, config, kept))
        missing, unexpected = encoder.load_state_dict(state, strict=False)
        if config.time_reduction > 1:
            mean = torch.eye(config.encoder_config.conv_dim[-1]) / config.time_reduction
            encoder.time_reduction.weight.copy_(mean[:, :, None].expand_as(encoder.time_reduction.weight))
    unfit = [name for name in missing if not ("adapter." in name or name.startswith("time_reduction."))]
    if unfit := [name for name in (*unfit, *unexpected) if name != "masked_spec_embed"]:
        raise ValueError(f"Student and teacher differ in {', '.join(unfit)}: use OSKDFTConfig.from_teacher.")
    return student


def _check(teacher: PreTrainedModel, config: OSKDFTConfig) -> None:
    """Raise `ValueError` unless every weight of the student can be cut out of the teacher's."""
    source, student, layers = teacher.config, config.encoder_config, config.teacher_layers
    if source.model_type != student.model_type:
        raise ValueError(
            f"The teacher is a {source.model_type} and the student a {student.model_type}: "
            "build the student's config with OSKDFTConfig.from_teacher."
        )
    if layers is None or len(layers) != student.num_hidden_layers:
        raise ValueError(
            f"teacher_layers is {layers} for {student.num_hidden_layers} student layers: name one teacher layer for "
            "each, as OSKDFTConfig.from_teacher does."
        )
    depth = source.num_hidden_layers
    if any(not 0 <= layer < depth for layer in layers):
        raise ValueError(f"teacher_layers is {layers}: the teacher has layers 0 to {depth - 1}.")
    for name in _EQUAL_FIELDS:
        if _as_list(student, name) != _as_list(source, name):
            raise _cannot_start(name, student, source, "as the teacher's")
    for name in _SMALLER_FIELDS:
        sizes, limits = _as_list(student, name), _as_list(source, name)
        if len(sizes) != len(limits) or any(size > limit for size, limit in zip(sizes, limits, strict=True)):
            raise _cannot_start(name, student, source, "no more than the teacher's")
    if student.hidden_size // student.num_attention_heads > source.hidden_size // source.num_attention_heads:
        raise _cannot_start("num_attention_heads", student, source, "such that heads are no wider than the teacher's")


def _as_list(config: PreTrainedConfig, name: str) -> list[Any]:
    value = getattr(config, name, None)
    return list(value) if isinstance(value, list | tuple) else [value]


def _cannot_start(name: str, student: PreTrainedConfig, teacher: PreTrainedConfig, wanted: str) -> ValueError:
    return ValueError(
        f"The student's shape cannot start from the teacher's: its {name} is {getattr(student, name)} and the "
        f"teacher's {getattr(teacher, name)}; make it {wanted}, as OSKDFTConfig.from_teacher does."
    )


def _cut(teacher: PreTrainedModel, config: OSKDFTConfig, kept: KeptUnits) -> Iterator[tuple[str, Tensor]]:
    """Yield the student's weights by name, cut out of the teacher's."""
    state = teacher.state_dict()
    yield from _cut_front_end(state, kept)
    yield from _cut_positions(teacher, kept.hidden)
    names = ["encoder.layer_norm.weight", "encoder.layer_norm.bias"]
    if config.encoder_config.mask_time_prob > 0.0 or config.encoder_config.mask_feature_prob > 0.0:
        names += [name for name in state if name == "masked_spec_embed"]
    for name in names:
        yield name, _index(state[name], kept.hidden)
    for index, layer in enumerate(config.teacher_layers or []):
        weights = _cut_layer(state, layer, kept, index)
        _fit_heads(weights, teacher.config, config.encoder_config)
        yield from ((f"encoder.layers.{index}.{name}", value) for name, value in weights.items())


def _cut_front_end(state: dict[str, Tensor], kept: KeptUnits) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of the convolutions and of the projection."""
    inputs: Tensor | None = None
    for index, channels in enumerate(kept.channels):
        for name in _names_below(f"feature_extractor.conv_layers.{index}.", state):
            if name.endswith("conv.weight"):
                yield name, _index(state[name], channels, inputs) * kept.factors[index][:, None, None]
            else:
                yield name, _index(state[name], channels)
        inputs = channels
    for name in _names_below("feature_projection.layer_norm.", state):
        yield name, _index(state[name], inputs)
    weight, bias = "feature_projection.projection.weight", "feature_projection.projection.bias"
    yield from ((weight, _index(state[weight], kept.hidden, inputs)), (bias, _index(state[bias], kept.hidden)))


def _cut_positions(teacher: PreTrainedModel, hidden: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the positional convolution, cut group by group.

    Its weight is stored as length and direction (`weight_norm` over the kernel). Both are copied where nothing is cut,
    which keeps every bit, and computed anew from the cut weight where something is.
    """
    convolution, prefix = teacher.encoder.pos_conv_embed.conv, "encoder.pos_conv_embed.conv."
    length, direction = (f"{prefix}parametrizations.weight.original{index}" for index in (0, 1))
    yield f"{prefix}bias", _index(convolution.bias, hidden)
    weight = convolution.weight
    if len(hidden) == len(weight):
        stored = convolution.parametrizations.weight
        yield from ((length, stored.original0), (direction, stored.original1))
        return
    groups = hidden.view(convolution.groups, -1)
    cut = torch.cat([weight[channels][:, channels % weight.shape[1]] for channels in groups])
    yield from ((length, cut.square().sum((0, 1), keepdim=True).sqrt()), (direction, cut))


def _cut_layer(state: dict[str, Tensor], layer: int, kept: KeptUnits, index: int) -> dict[str, Tensor]:
    """Return the weights of student layer `index`, cut out of teacher layer `layer`, by their names inside a layer."""
    units, prefix = kept.layers[index]._asdict() | {"hidden": kept.hidden}, f"encoder.layers.{layer}."
    sources = {name.removeprefix(prefix): state[name] for name in _names_below(prefix, state)}
    # The first layer of a WavLM has the position embedding, whichever teacher layer it comes from.
    embedding = "attention.rel_attn_embed.weight"
    sources.pop(embedding, None)
    if index == 0 and f"encoder.layers.0.{embedding}" in state:
        sources[embedding] = state[f"encoder.layers.0.{embedding}"]
    return {
        name: _index(
            values,
            *(None if kind is None else units[kind] for kind in _UNITS_OF_PARAMETER.get(name, ("hidden",))),
        )
        for name, values in sources.items()
    }


def _fit_heads(weights: dict[str, Tensor], teacher: PreTrainedConfig, student: PreTrainedConfig) -> None:
    """Change in place the weights of a layer that depend on the width of its heads."""
    width = student.hidden_size // student.num_attention_heads
    teacher_width = teacher.hidden_size // teacher.num_attention_heads
    if width != teacher_width:  # attention divides by the root of this width: the queries make up for the change
        for name in ("attention.q_proj.weight", "attention.q_proj.bias"):
            weights[name] = weights[name] * (width / teacher_width) ** 0.5
    gate = "attention.gru_rel_pos_linear.weight"
    if gate in weights and student.hidden_size != teacher.hidden_size:
        # The gate of WavLM reads hidden channels by their place in the head, and cut channels change their places:
        # it starts from its bias alone.
        weights[gate] = torch.zeros(len(weights[gate]), width)


def _names_below(prefix: str, state: dict[str, Tensor]) -> list[str]:
    return [name for name in state if name.startswith(prefix)]


def _index(values: Tensor, *indices: Tensor | None) -> Tensor:
    """Select these indices of the first dimensions; None keeps a dimension whole."""
    for dimension, index in enumerate(indices):
        if index is not None:
            values = values.index_select(dimension, index)
    return values
