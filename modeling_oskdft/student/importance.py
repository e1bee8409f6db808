"""What a thinner student keeps of its teacher: channels, heads and neurons, by the weights that make and read them."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


class Attention(Protocol):
    """What the attentions of all families have."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear
    num_heads: int


class FeedForward(Protocol):
    """What the feed-forward blocks of all families have."""

    intermediate_dense: nn.Linear
    output_dense: nn.Linear


class Layer(Protocol):
    """What the layers of all families have, of both norm orders."""

    attention: Attention
    feed_forward: FeedForward
    layer_norm: nn.LayerNorm
    final_layer_norm: nn.LayerNorm


class Convolution(Protocol):
    """What the convolutions of all front ends have; some have a `layer_norm` as well."""

    conv: nn.Conv1d


class KeptOfLayer(NamedTuple):
    """Of one teacher layer, as ascending indices: heads, rows of q and k, rows of v, neurons."""

    heads: Tensor
    queries: Tensor
    values: Tensor
    neurons: Tensor


class Kept(NamedTuple):
    """Of a teacher, as ascending indices: channels of each convolution, hidden channels, and what its layers keep.

    The hidden channels are the same wherever the residual stream is written or read, and as many of each group of the
    positional convolution. `factors` makes up for what the kept channels of a convolution no longer read: (kept
    channels,), 1 where nothing is left out. `layers` has one entry for each student layer.
    """

    channels: list[Tensor]
    factors: list[Tensor]
    hidden: Tensor
    layers: list[KeptOfLayer]


class Scores:
    """How the candidates are ranked: by importance, or by chance.

    The importance of a group of weights is the norm of those that make a value times the norm of those that read it,
    so that what is dead on either side goes first. The units are those of DPHuBERT (Peng et al., Interspeech 2023):
    convolution channels, heads, neurons, and hidden channels beside them. DPHuBERT learns what to drop, with L0 gates
    and a distillation loss; this is a function of the weights alone, with no data and no training. By chance:
    `torch`'s random state decides, for comparison.
    """

    def __init__(self, by_chance: bool = False) -> None:
        self.by_chance = by_chance

    def best(self, scores: Tensor, number: int, groups: int = 1) -> Tensor:
        """scores: (candidates,). The `number` highest of them, as many of each of the equal `groups`, ascending."""
        if self.by_chance:
            scores = torch.rand_like(scores)
        grouped = scores.unflatten(0, (groups, -1))
        # Stable: equal scores keep the first, on every machine.
        chosen = grouped.argsort(dim=1, descending=True, stable=True)[:, : number // groups]
        return (
            (chosen + grouped.shape[1] * torch.arange(groups, device=scores.device)[:, None]).flatten().sort().values
        )


@torch.no_grad()
def choose(teacher: PreTrainedModel, student: PreTrainedConfig, layers: list[int], by_chance: bool = False) -> Kept:
    """What a student of this encoder configuration keeps of the teacher and its `layers`.

    A student of the teacher's own shape keeps everything.
    """
    scores, encoder = Scores(by_chance), teacher.encoder
    chosen = [encoder.layers[layer] for layer in layers]
    groups = student.num_conv_pos_embedding_groups
    hidden = scores.best(hidden_importance(teacher, chosen), student.hidden_size, groups)
    heads = _heads(head_importance(teacher, chosen, hidden), student, scores)
    channels = _channels(teacher, student, hidden, scores)
    return Kept(
        channels,
        _make_up(teacher, channels),
        hidden,
        [_of_layer(layer, own, student, hidden, scores) for layer, own in zip(chosen, heads, strict=True)],
    )


def hidden_importance(teacher: PreTrainedModel, layers: list[Layer]) -> Tensor:
    """(hidden,): of each channel of the residual stream, over everything that writes it and everything that reads it.

    layers: the teacher's layers that the student keeps.
    """
    encoder = teacher.encoder
    positions = encoder.pos_conv_embed.conv.weight
    written = teacher.feature_projection.projection.weight.square().sum(1) + positions.square().sum((1, 2))
    groups = len(positions) // positions.shape[1]
    read = positions.unflatten(0, (groups, -1)).square().sum((1, 3)).flatten()
    pre_norm = bool(teacher.config.do_stable_layer_norm)
    gain = encoder.layer_norm.weight  # of the norm whose output the next layer reads; the last one's is the output
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
    """(heads,) for each layer: of each head, its values times what reads them."""
    count = teacher.config.num_attention_heads
    return [_values(layer.attention, hidden).unflatten(0, (count, -1)).square().sum(1).sqrt() for layer in layers]


def _heads(importance: list[Tensor], student: PreTrainedConfig, scores: Scores) -> list[Tensor]:
    """Of each layer its own; WavLM's layers keep the same, because the first makes a position bias for all of them."""
    if student.model_type == "wavlm":
        return [scores.best(torch.stack(importance).sum(0), student.num_attention_heads)] * len(importance)
    return [scores.best(one, student.num_attention_heads) for one in importance]


def _channels(teacher: PreTrainedModel, student: PreTrainedConfig, hidden: Tensor, scores: Scores) -> list[Tensor]:
    """Last convolution first, so that a channel counts by what the kept ones read of it, and they by theirs."""
    projection = teacher.feature_projection
    read = projection.projection.weight[hidden].square().sum(0).sqrt()
    if hasattr(projection, "layer_norm"):
        read = read * projection.layer_norm.weight.abs()
    kept: list[Tensor] = []
    convolutions = teacher.feature_extractor.conv_layers
    for layer, width, signal in reversed(list(zip(convolutions, student.conv_dim, signals(teacher), strict=True))):
        kept.insert(0, scores.best(signal * read, width))
        read = (layer.conv.weight[kept[0]] * read[kept[0]][:, None, None]).square().sum((0, 2)).sqrt()
    return kept


def signals(teacher: PreTrainedModel) -> list[Tensor]:
    """(channels,) of each convolution: how much it makes of each channel, of inputs as strong as those before it."""
    result: list[Tensor] = []
    inputs = teacher.encoder.layer_norm.weight.new_ones(1)
    for layer in teacher.feature_extractor.conv_layers:
        result.append(inputs := _made(layer, inputs))
    return result


def _made(layer: Convolution, inputs: Tensor) -> Tensor:
    """(channels,): the strength of each channel after the convolution and its norm. inputs: that of what it reads."""
    signal, shift = _strengths(layer, inputs).sum(1).sqrt(), layer.conv.bias
    if shift is not None:
        signal = signal.hypot(shift)
    norm = getattr(layer, "layer_norm", None)
    if norm is None:
        return signal
    if isinstance(norm, nn.GroupNorm):  # each channel is brought to one scale: only whether there is anything counts
        signal = (signal > 0).to(signal.dtype)
    return (signal * norm.weight).hypot(norm.bias)


def _strengths(layer: Convolution, inputs: Tensor) -> Tensor:
    """(channels, input channels): the square of what each input adds."""
    return layer.conv.weight.square().sum(2) * inputs.square()


def _make_up(teacher: PreTrainedModel, channels: list[Tensor]) -> list[Tensor]:
    """Factors (kept channels,) for each convolution: as strong as the channel was with all that the teacher reads.

    Few convolutions have a norm behind them. What is left out at each would add up, and weak signals leave the part of
    the activation that they were trained for.
    """
    strength = signals(teacher)
    factors = [torch.ones_like(strength[0][channels[0]])]
    layers = list(teacher.feature_extractor.conv_layers)[1:]
    for layer, inputs, before, own in zip(layers, strength, channels, channels[1:], strict=False):
        whole = _strengths(layer, inputs)[own]
        left = whole[:, before].sum(1)
        factors.append(torch.where(left > 0, whole.sum(1) / left, 1.0).sqrt())
    return factors


def _values(attention: Attention, hidden: Tensor) -> Tensor:
    return _rows(attention.v_proj, hidden) * attention.out_proj.weight[hidden].square().sum(0).sqrt()


def _rows(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """The norm of each row with its bias, over the inputs that are kept."""
    norms = linear.weight[:, inputs].square().sum(1).sqrt()
    return norms if linear.bias is None else norms.hypot(linear.bias)


def _of_layer(
    layer: Layer,
    heads: Tensor,
    student: PreTrainedConfig,
    hidden: Tensor,
    scores: Scores,
) -> KeptOfLayer:
    attention, block = layer.attention, layer.feed_forward
    queries = _rows(attention.q_proj, hidden) * _rows(attention.k_proj, hidden)
    neurons = _rows(block.intermediate_dense, hidden) * block.output_dense.weight[hidden].square().sum(0).sqrt()
    return KeptOfLayer(
        heads,
        _inside(queries, heads, attention.num_heads, student, scores),
        _inside(_values(attention, hidden), heads, attention.num_heads, student, scores),
        scores.best(neurons, student.intermediate_size),
    )


def _inside(rows: Tensor, heads: Tensor, count: int, student: PreTrainedConfig, scores: Scores) -> Tensor:
    """Rows of a projection that a narrower head keeps, for the kept heads. rows: (count * width,) scores."""
    own = rows.unflatten(0, (count, -1))
    width, number = own.shape[1], student.hidden_size // student.num_attention_heads
    inside = scores.best(own[heads].flatten(), number * len(heads), len(heads))
    return inside % width + width * heads.repeat_interleave(number)
