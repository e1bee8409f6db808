"""Choose the teacher's channels, heads and neurons that a thinner student keeps, by the teacher's weights alone.

A unit (a channel, a head, a neuron) is written by one matrix W and read by another, R. The term that it adds to their
product is R[:, i] W[i]. The Frobenius norm of this rank-one term is ||W[i]|| ||R[:, i]||, and that is the importance
of the unit: zero where nothing writes it or nothing reads it. Activations and attention weights are left out.

The units are those of DPHuBERT (Peng et al., Interspeech 2023): convolution channels, heads and neurons; hidden
channels are added. DPHuBERT learns which units to drop, with L0 gates and a distillation loss. Here nothing is
trained and no data are read.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


class Attention(Protocol):
    """Describe the attention block that all families share."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear
    num_heads: int


class FeedForward(Protocol):
    """Describe the feed-forward block that all families share."""

    intermediate_dense: nn.Linear
    output_dense: nn.Linear


class Layer(Protocol):
    """Describe the transformer layer that all families share, in both norm orders."""

    attention: Attention
    feed_forward: FeedForward
    layer_norm: nn.LayerNorm
    final_layer_norm: nn.LayerNorm


class Convolution(Protocol):
    """Describe the convolution layer that all front ends share; some have a `layer_norm` as well."""

    conv: nn.Conv1d


class LayerUnits(NamedTuple):
    """Hold the units that are kept of one teacher layer, as ascending indices.

    Attributes:
        heads: attention heads.
        queries: rows of the query and of the key projection.
        values: rows of the value projection.
        neurons: neurons of the feed-forward block.
    """

    heads: Tensor
    queries: Tensor
    values: Tensor
    neurons: Tensor


class KeptUnits(NamedTuple):
    """Hold the units that are kept of a teacher, as ascending indices.

    Attributes:
        channels: for each convolution, its kept output channels.
        factors: for each convolution, a scale for its kept channels, see `_compensation`; 1 where nothing is cut.
        hidden: hidden channels; the same for every block that reads or writes the residual stream, with equal numbers
            from each group of the positional convolution.
        layers: the units of each student layer.
    """

    channels: list[Tensor]
    factors: list[Tensor]
    hidden: Tensor
    layers: list[LayerUnits]


class Select(Protocol):
    """Select units by their importance, or by another rule: `select_highest` and `select_random`."""

    def __call__(self, importance: Tensor, number: int, groups: int = 1) -> Tensor:
        """Return the indices of `number` units in ascending order, with equal numbers from each of the groups."""


def select_highest(importance: Tensor, number: int, groups: int = 1) -> Tensor:
    """Select the units of highest importance. Among equal ones the first is kept, on every machine.

    Args:
        importance: (units,), with the units of a group side by side.
        number: how many units to select in total, a multiple of `groups`.
        groups: number of equal groups; each gives as many units.

    Returns:
        Indices (number,), ascending.
    """
    grouped = importance.unflatten(0, (groups, -1))
    chosen = grouped.argsort(dim=1, descending=True, stable=True)[:, : number // groups]
    first = grouped.shape[1] * torch.arange(groups, device=importance.device)
    return (chosen + first[:, None]).flatten().sort().values


def select_random(importance: Tensor, number: int, groups: int = 1) -> Tensor:
    """Select units at random, for comparison with `select_highest`: torch's random state decides.

    Args:
        importance: (units,); only its shape and device are used.
        number: as in `select_highest`.
        groups: as in `select_highest`.

    Returns:
        Indices (number,), ascending.
    """
    return select_highest(torch.rand_like(importance), number, groups)


@torch.no_grad()
def choose_units(
    teacher: PreTrainedModel, student: PreTrainedConfig, layers: list[int], select: Select = select_highest
) -> KeptUnits:
    """Choose the teacher's units that a student keeps. A student of the teacher's own shape keeps all of them.

    Args:
        teacher: a HuBERT, wav2vec 2.0 or WavLM encoder.
        student: the encoder configuration of the student, no wider than the teacher.
        layers: the teacher layers that the student stacks, counted from 0.
        select: the rule by which units are selected.

    Returns:
        The kept units, on the teacher's device.
    """
    encoder = teacher.encoder
    chosen = [encoder.layers[layer] for layer in layers]
    groups = student.num_conv_pos_embedding_groups
    hidden = select(hidden_importance(teacher, chosen), student.hidden_size, groups)
    heads = _select_heads(head_importance(teacher, chosen, hidden), student, select)
    channels = _select_channels(teacher, student, hidden, select)
    return KeptUnits(
        channels,
        _compensation(teacher, channels),
        hidden,
        [
            _select_in_layer(layer, layer_heads, student, hidden, select)
            for layer, layer_heads in zip(chosen, heads, strict=True)
        ],
    )


def hidden_importance(teacher: PreTrainedModel, layers: list[Layer]) -> Tensor:
    """Compute the importance of each channel of the residual stream.

    Every projection that writes the stream adds the squared norm of its row, and every projection that reads it adds
    the squared norm of its column. A column is scaled by the gain of the LayerNorm that stands before the reader.

    Args:
        teacher: the encoder.
        layers: the teacher's layers that the student keeps.

    Returns:
        (hidden,): the root of the product of both sums.
    """
    encoder = teacher.encoder
    positions = encoder.pos_conv_embed.conv.weight  # (hidden, hidden / groups, kernel): it writes and reads the stream
    written = teacher.feature_projection.projection.weight.square().sum(1) + positions.square().sum((1, 2))
    groups = len(positions) // positions.shape[1]
    read = positions.unflatten(0, (groups, -1)).square().sum((1, 3)).flatten()
    pre_norm = bool(teacher.config.do_stable_layer_norm)
    gain = encoder.layer_norm.weight  # of the LayerNorm before the next layer, in post-norm encoders
    for layer in layers:
        attention, block = layer.attention, layer.feed_forward
        written = written + attention.out_proj.weight.square().sum(1) + block.output_dense.weight.square().sum(1)
        before_attention, before_block = (
            (layer.layer_norm.weight, layer.final_layer_norm.weight) if pre_norm else (gain, layer.layer_norm.weight)
        )
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            read = read + (projection.weight * before_attention).square().sum(0)
        read = read + (block.intermediate_dense.weight * before_block).square().sum(0)
        gain = gain if pre_norm else layer.final_layer_norm.weight
    return (written * read).sqrt()


def head_importance(teacher: PreTrainedModel, layers: list[Layer], hidden: Tensor) -> list[Tensor]:
    """Compute the importance of each attention head: the root of the summed squares over the rows of its values.

    Args:
        teacher: the encoder.
        layers: the teacher's layers that the student keeps.
        hidden: indices of the kept hidden channels.

    Returns:
        (heads,) for each layer.
    """
    heads = teacher.config.num_attention_heads
    return [
        _value_importance(layer.attention, hidden).unflatten(0, (heads, -1)).square().sum(1).sqrt() for layer in layers
    ]


def channel_strengths(teacher: PreTrainedModel) -> list[Tensor]:
    """Estimate the root mean square of every channel of the front end, from the waveform upwards.

    The waveform has strength 1. The taps and input channels of a convolution are taken as uncorrelated, so that their
    squares add up; the activation is left out.

    Args:
        teacher: the encoder.

    Returns:
        (channels,) for each convolution, after its norm.
    """
    strengths: list[Tensor] = []
    inputs = teacher.encoder.layer_norm.weight.new_ones(1)
    for layer in teacher.feature_extractor.conv_layers:
        inputs = _output_strength(layer, inputs)
        strengths.append(inputs)
    return strengths


def _output_strength(layer: Convolution, inputs: Tensor) -> Tensor:
    """Return (channels,): the strength after a convolution and its norm, for inputs of strength (input channels,)."""
    strength, bias = _squared_contributions(layer, inputs).sum(1).sqrt(), layer.conv.bias
    if bias is not None:
        strength = strength.hypot(bias)
    norm = getattr(layer, "layer_norm", None)
    if norm is None:
        return strength
    if isinstance(norm, nn.GroupNorm):  # one group per channel: every channel that is not zero gets variance 1
        strength = (strength > 0).to(strength.dtype)
    return (strength * norm.weight).hypot(norm.bias)


def _squared_contributions(layer: Convolution, inputs: Tensor) -> Tensor:
    """Return (channels, input channels): the squared strength that each input adds to each channel."""
    return layer.conv.weight.square().sum(2) * inputs.square()


def _select_channels(
    teacher: PreTrainedModel, student: PreTrainedConfig, hidden: Tensor, select: Select
) -> list[Tensor]:
    """Select the channels of each convolution, from the last convolution to the first.

    The importance of a channel is its strength times the norm of the weights that read it. The last convolution is
    read by the kept hidden channels of the projection. Every other one is read by the kept channels of the next, each
    weighted by the norm of its own readers: this order makes them known.
    """
    projection = teacher.feature_projection
    read = projection.projection.weight[hidden].square().sum(0).sqrt()
    if hasattr(projection, "layer_norm"):
        read = read * projection.layer_norm.weight.abs()
    kept: list[Tensor] = []
    convolutions = teacher.feature_extractor.conv_layers
    strengths = channel_strengths(teacher)
    for layer, width, strength in reversed(list(zip(convolutions, student.conv_dim, strengths, strict=True))):
        channels = select(strength * read, width)
        kept.insert(0, channels)
        read = (layer.conv.weight[channels] * read[channels][:, None, None]).square().sum((0, 2)).sqrt()
    return kept


def _compensation(teacher: PreTrainedModel, channels: list[Tensor]) -> list[Tensor]:
    """Return a factor for each kept channel that gives it back the strength it had with all of its inputs.

    In base models only the first convolution has a norm behind it. Without the factors each later convolution would
    weaken the signal further, and a weaker signal lies in another range of GELU than the one the weights were trained
    for.

    Args:
        teacher: the encoder.
        channels: the kept output channels of each convolution.

    Returns:
        (kept channels,) for each convolution: the root of the squared contributions of all inputs over those of the
        kept inputs; 1 where no input is cut or none is left.
    """
    strengths = channel_strengths(teacher)
    factors = [torch.ones_like(strengths[0][channels[0]])]  # the first convolution reads the waveform, which is whole
    layers = list(teacher.feature_extractor.conv_layers)[1:]
    for layer, inputs, kept_inputs, outputs in zip(layers, strengths, channels, channels[1:], strict=False):
        contributions = _squared_contributions(layer, inputs)[outputs]
        kept = contributions[:, kept_inputs].sum(1)
        factors.append(torch.where(kept > 0, contributions.sum(1) / kept, 1.0).sqrt())
    return factors


def _select_heads(importance: list[Tensor], student: PreTrainedConfig, select: Select) -> list[Tensor]:
    """Select heads in each layer; in WavLM the same in all, which share the position bias of the first layer."""
    if student.model_type == "wavlm":
        return [select(torch.stack(importance).sum(0), student.num_attention_heads)] * len(importance)
    return [select(layer_importance, student.num_attention_heads) for layer_importance in importance]


def _select_in_layer(
    layer: Layer, heads: Tensor, student: PreTrainedConfig, hidden: Tensor, select: Select
) -> LayerUnits:
    attention, block = layer.attention, layer.feed_forward
    # Row i of the queries and row i of the keys meet in the dot product of attention.
    queries = _row_norms(attention.q_proj, hidden) * _row_norms(attention.k_proj, hidden)
    values = _value_importance(attention, hidden)
    neurons = _row_norms(block.intermediate_dense, hidden) * _column_norms(block.output_dense, hidden)
    return LayerUnits(
        heads,
        _select_in_heads(queries, heads, attention.num_heads, student, select),
        _select_in_heads(values, heads, attention.num_heads, student, select),
        select(neurons, student.intermediate_size),
    )


def _select_in_heads(
    importance: Tensor, heads: Tensor, num_heads: int, student: PreTrainedConfig, select: Select
) -> Tensor:
    """Select the rows of a projection that narrower heads keep, in each kept head.

    Args:
        importance: (num_heads * width,), of every row of the teacher's projection.
        heads: indices of the kept heads.
        num_heads: number of the teacher's heads.
        student: the student's encoder configuration.
        select: the rule by which rows are selected.

    Returns:
        Indices into the teacher's rows, ascending.
    """
    by_head = importance.unflatten(0, (num_heads, -1))
    width, kept_width = by_head.shape[1], student.hidden_size // student.num_attention_heads
    rows = select(by_head[heads].flatten(), kept_width * len(heads), len(heads))  # counted over the kept heads alone
    return rows % width + width * heads.repeat_interleave(kept_width)


def _value_importance(attention: Attention, hidden: Tensor) -> Tensor:
    """Return (rows,): the norm of each row of the value projection times the norm of its readers in `out_proj`."""
    return _row_norms(attention.v_proj, hidden) * _column_norms(attention.out_proj, hidden)


def _row_norms(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """Return the norm of each row together with its bias, over the kept inputs."""
    norms = linear.weight[:, inputs].square().sum(1).sqrt()
    return norms if linear.bias is None else norms.hypot(linear.bias)


def _column_norms(linear: nn.Linear, outputs: Tensor) -> Tensor:
    """Return the norm of each column, over the kept outputs."""
    return linear.weight[outputs].square().sum(0).sqrt()
