"""How a student starts: chosen layers and everything below them, copied from the teacher as far as they fit."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from .importance import Kept, choose

STARTS = ("importance", "random_channels", "random_weights")
# Of the encoder's configuration: what a copied weight cannot do without, and what a student may have less of.
_SAME = [
    *("do_stable_layer_norm", "feat_extract_norm", "feat_proj_layer_norm", "conv_bias", "conv_kernel"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance"),
]
_AT_MOST = ("conv_dim", "hidden_size", "intermediate_size", "num_attention_heads")
# What is indexed by what: rows, then columns. Names are those of a layer's parameters.
_OF_LAYER: dict[str, tuple[str | None, ...]] = {
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
    """`student_layers` teacher layers from the first to the last, counted from 0; the first alone for one.

    Raises `ValueError` when the teacher has fewer.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"{student_layers} layers were asked of a teacher of {teacher_layers}: ask for 1 to that many."
        )
    if student_layers == 1:
        return [0]
    return [round(index * (teacher_layers - 1) / (student_layers - 1)) for index in range(student_layers)]


def thirds(teacher_layers: int) -> list[int]:
    """The hidden states at a third, two thirds and the end of a teacher: 4, 8 and 12 of the base models' 12."""
    return sorted({max(1, round(teacher_layers * part / 3)) for part in (1, 2, 3)})


def init_student_from_teacher(
    teacher: PreTrainedModel, config: OSKDFTConfig, start: str = "importance"
) -> OSKDFTForXVector:
    """A student that is the teacher cut to `config.teacher_layers` and to the widths of `config.encoder_config`.

    Convolutions, projection, positional convolution, the encoder's LayerNorm, the chosen layers and, where SpecAugment
    is on, the mask embedding are copied (the authors' code leaves the positional convolution and the LayerNorm
    random). Of WavLM, the relative-position embedding of teacher layer 0 goes into student layer 0, whichever layers
    were chosen. A student as wide as its teacher has a kd path that is the truncated teacher, bit for bit. A narrower
    one keeps the most important channels, heads and neurons, as `importance.choose` finds them in the weights (not
    with learned gates, as DPHuBERT does); where no LayerNorm counts it, leaving out what is dead changes nothing.
    What its convolutions no longer read is made up for by their scale.
    A convolution of time reduction starts as the mean of its frames. Adapters and head start as the config says.

    start: "importance"; "random_channels", which keeps as many by chance; or "random_weights", which takes nothing
    from the teacher: both for comparison, by torch's random state.
    Raises `ValueError` for a teacher of another family, or of a shape that has less than the student.
    """
    if start not in STARTS:
        raise ValueError(f"start is '{start}': use one of {', '.join(STARTS)}.")
    student = OSKDFTForXVector(config)
    if start == "random_weights":
        return student
    _check(teacher, config)
    kept = choose(teacher, config.encoder_config, config.teacher_layers or [], start == "random_channels")
    encoder = student.oskdft
    with torch.no_grad():
        state = dict(_cut(teacher, config, kept))
        missing, unexpected = encoder.load_state_dict(state, strict=False)
        if config.time_reduction > 1:
            mean = torch.eye(config.encoder_config.conv_dim[-1]) / config.time_reduction
            encoder.time_reduction.weight.copy_(mean[:, :, None].expand_as(encoder.time_reduction.weight))
    stray = [name for name in missing if not ("adapter." in name or name.startswith("time_reduction."))]
    if stray := [name for name in (*stray, *unexpected) if name != "masked_spec_embed"]:
        raise ValueError(f"Student and teacher differ in {', '.join(stray)}: use OSKDFTConfig.from_teacher.")
    return student


def _check(teacher: PreTrainedModel, config: OSKDFTConfig) -> None:
    """Raise `ValueError` unless every weight of the student has one in the teacher."""
    theirs, own, layers = teacher.config, config.encoder_config, config.teacher_layers
    if theirs.model_type != own.model_type:
        raise ValueError(
            f"The teacher is a {theirs.model_type} and the student a {own.model_type}: "
            "build the student's config with OSKDFTConfig.from_teacher."
        )
    if layers is None or len(layers) != own.num_hidden_layers:
        raise ValueError(
            f"teacher_layers is {layers} for {own.num_hidden_layers} student layers: name one teacher layer for "
            "each, as OSKDFTConfig.from_teacher does."
        )
    depth = theirs.num_hidden_layers
    if any(not 0 <= layer < depth for layer in layers):
        raise ValueError(f"teacher_layers is {layers}: the teacher has layers 0 to {depth - 1}.")
    for name in _SAME:
        if _listed(own, name) != _listed(theirs, name):
            raise _cannot_start(name, own, theirs, "as the teacher's")
    for name in _AT_MOST:
        widths, most = _listed(own, name), _listed(theirs, name)
        if len(widths) != len(most) or any(one > other for one, other in zip(widths, most, strict=True)):
            raise _cannot_start(name, own, theirs, "no more than the teacher's")
    if own.hidden_size // own.num_attention_heads > theirs.hidden_size // theirs.num_attention_heads:
        raise _cannot_start("num_attention_heads", own, theirs, "such that heads are no wider than the teacher's")


def _listed(config: PreTrainedConfig, name: str) -> list[Any]:
    value = getattr(config, name, None)
    return list(value) if isinstance(value, list | tuple) else [value]


def _cannot_start(name: str, own: PreTrainedConfig, theirs: PreTrainedConfig, wanted: str) -> ValueError:
    return ValueError(
        f"The student's shape cannot start from the teacher's: its {name} is {getattr(own, name)} and the teacher's "
        f"{getattr(theirs, name)}; make it {wanted}, as OSKDFTConfig.from_teacher does."
    )


def _cut(teacher: PreTrainedModel, config: OSKDFTConfig, kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """The student's weights by their names, out of the teacher's."""
    state = teacher.state_dict()
    yield from _cut_front_end(state, kept)
    yield from _cut_positions(teacher, kept.hidden)
    names = ["encoder.layer_norm.weight", "encoder.layer_norm.bias"]
    if config.encoder_config.mask_time_prob > 0.0 or config.encoder_config.mask_feature_prob > 0.0:
        names += [name for name in state if name == "masked_spec_embed"]
    for name in names:
        yield name, _select(state[name], kept.hidden)
    for index, layer in enumerate(config.teacher_layers or []):
        cut = _cut_layer(state, layer, kept, index)
        _fit_heads(cut, teacher.config, config.encoder_config)
        yield from ((f"encoder.layers.{index}.{name}", value) for name, value in cut.items())


def _cut_front_end(state: dict[str, Tensor], kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """Convolutions and projection."""
    inputs: Tensor | None = None
    for index, channels in enumerate(kept.channels):
        for name in _below(f"feature_extractor.conv_layers.{index}.", state):
            if name.endswith("conv.weight"):
                yield name, _select(state[name], channels, inputs) * kept.factors[index][:, None, None]
            else:
                yield name, _select(state[name], channels)
        inputs = channels
    for name in _below("feature_projection.layer_norm.", state):
        yield name, _select(state[name], inputs)
    weight, bias = "feature_projection.projection.weight", "feature_projection.projection.bias"
    yield from ((weight, _select(state[weight], kept.hidden, inputs)), (bias, _select(state[bias], kept.hidden)))


def _cut_positions(teacher: PreTrainedModel, hidden: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The positional convolution, each group on its own: as the teacher has it, or cut and normed anew."""
    convolution, prefix = teacher.encoder.pos_conv_embed.conv, "encoder.pos_conv_embed.conv."
    length, direction = (f"{prefix}parametrizations.weight.original{part}" for part in (0, 1))
    yield f"{prefix}bias", _select(convolution.bias, hidden)
    weight = convolution.weight
    if len(hidden) == len(weight):
        parts = convolution.parametrizations.weight
        yield from ((length, parts.original0), (direction, parts.original1))
        return
    groups = hidden.view(convolution.groups, -1)
    cut = torch.cat([weight[own][:, own % weight.shape[1]] for own in groups])
    yield from ((length, cut.square().sum((0, 1), keepdim=True).sqrt()), (direction, cut))


def _cut_layer(state: dict[str, Tensor], layer: int, kept: Kept, index: int) -> dict[str, Tensor]:
    """What student layer `index` takes of this teacher layer, by the names inside a layer."""
    axes, prefix = kept.layers[index]._asdict() | {"hidden": kept.hidden}, f"encoder.layers.{layer}."
    sources = {name.removeprefix(prefix): state[name] for name in _below(prefix, state)}
    # WavLM's first layer has the position embedding, whichever of the teacher's it is.
    embedding = "attention.rel_attn_embed.weight"
    sources.pop(embedding, None)
    if index == 0 and f"encoder.layers.0.{embedding}" in state:
        sources[embedding] = state[f"encoder.layers.0.{embedding}"]
    return {
        name: _select(values, *(None if axis is None else axes[axis] for axis in _OF_LAYER.get(name, ("hidden",))))
        for name, values in sources.items()
    }


def _fit_heads(cut: dict[str, Tensor], theirs: PreTrainedConfig, own: PreTrainedConfig) -> None:
    """What narrower heads and narrower layers change beside indices."""
    widths = own.hidden_size // own.num_attention_heads, theirs.hidden_size // theirs.num_attention_heads
    if widths[0] != widths[1]:  # attention divides by the root of a head's width: what it softens by stays
        for name in ("attention.q_proj.weight", "attention.q_proj.bias"):
            cut[name] = cut[name] * (widths[0] / widths[1]) ** 0.5
    gate = "attention.gru_rel_pos_linear.weight"
    if gate in cut and own.hidden_size != theirs.hidden_size:
        # WavLM's gate reads hidden channels by their place, and they have changed places: it starts from its bias.
        cut[gate] = torch.zeros(len(cut[gate]), widths[0])


def _below(prefix: str, state: dict[str, Tensor]) -> list[str]:
    return [name for name in state if name.startswith(prefix)]


def _select(values: Tensor, *indices: Tensor | None) -> Tensor:
    """The values at these indices of the first dimensions; None: all of one."""
    for dimension, index in enumerate(indices):
        if index is not None:
            values = values.index_select(dimension, index)
    return values
