"""One layer of the student: transformers' own, for three families and two norm orders, with an adapter beside it."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.models.hubert import modeling_hubert as hubert
from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2
from transformers.models.wavlm import modeling_wavlm as wavlm

from .configuration_oskdft import OSKDFTConfig

Path = Literal["kd", "ft", "both"]
PATHS = ("kd", "ft", "both")


class AdapterDown(nn.Linear):
    """A class of its own, because `_init_weights` sees leaves only."""


class AdapterUp(nn.Linear):
    """A class of its own, because it may start at zero."""


class ParallelAdapter(nn.Module):
    """The bottleneck beside a feed-forward block: `scale * up(act(down(norm(x))))` (Heo et al., 2023, section 3.2)."""

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__()
        width = config.encoder_config.hidden_size
        self.norm = nn.LayerNorm(width, eps=config.encoder_config.layer_norm_eps) if config.adapter_norm else None
        self.down = AdapterDown(width, config.adapter_size)
        name = config.adapter_activation
        self.activation = nn.ELU() if name == "elu" else ACT2FN[name]  # transformers' table lacks ELU
        self.up = AdapterUp(config.adapter_size, width)
        self.scale = config.adapter_scale
        self.residual = config.adapter_residual
        self.noise = config.adapter_noise

    def forward(self, hidden_states: Tensor) -> Tensor:
        """hidden_states: (batch, frames, hidden). Returns what the ft path adds, of the same shape."""
        inner = hidden_states if self.norm is None else self.norm(hidden_states)
        inner = self.activation(self.down(inner))
        if self.noise is not None and self.training:
            low, high = self.noise
            factor = torch.empty((), device=inner.device).uniform_(low, high)
            inner = inner + torch.randn_like(inner) * (factor * inner.detach().abs().mean())
        update = self.scale * self.up(inner)
        return update + hidden_states if self.residual else update


class LayerOutput(NamedTuple):
    """What leaves a layer. Flat, because reentrant checkpointing follows gradients through flat tuples only.

    stream: the one stream while both paths are equal, else the kd path's. adapted: the ft path's, where they differ.
    position_bias: WavLM's, for the next layer. attentions: (batch, heads, frames, frames) where they are computed.
    """

    stream: Tensor
    adapted: Tensor | None = None
    position_bias: Tensor | None = None
    attentions: Tensor | None = None

    @property
    def streams(self) -> tuple[Tensor, ...]:
        """One stream, or (kd, ft)."""
        return (self.stream,) if self.adapted is None else (self.stream, self.adapted)


class TwoPathLayer(nn.Module):
    """What is common to the six layers below: a transformers layer with an adapter that one path passes."""

    attention: nn.Module
    dropout: nn.Module
    layer_norm: nn.Module
    feed_forward: nn.Module
    final_layer_norm: nn.Module
    family_has_position_bias = False

    def __init__(self, encoder_config: PreTrainedConfig, adapter: ParallelAdapter | None, **kwargs: Any) -> None:
        super().__init__(encoder_config, **kwargs)
        self.adapter = adapter

    def attend(
        self, hidden_states: Tensor, position_bias: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Attention output (batch, frames, hidden), the position bias where the family has one, and the attentions."""
        if self.family_has_position_bias:
            kwargs["position_bias"] = position_bias
        output, attentions, *bias = self.attention(hidden_states, **kwargs)
        return self.dropout(output), bias[0] if bias else None, attentions

    def part(self, base: Tensor, adapter_input: Tensor, path: Path) -> tuple[Tensor, ...]:
        """The streams that leave the feed-forward block: with the adapter's update, without it, or both."""
        if self.adapter is None or path == "kd":
            return (base,)
        adapted = base + self.adapter(adapter_input)
        return (adapted,) if path == "ft" else (base, adapted)


class PostNormPaths(TwoPathLayer):
    """`h = LN(x + Attn(x)); y = LN(h + FF(h) [+ A(h)])`: base models."""

    def forward(
        self, hidden_states: Tensor, position_bias: Tensor | None = None, path: Path = "ft", **kwargs: Any
    ) -> LayerOutput:
        """hidden_states: (batch, frames, hidden)."""
        attended, position_bias, attentions = self.attend(hidden_states, position_bias, **kwargs)
        hidden_states = self.layer_norm(hidden_states + attended)
        streams = self.part(hidden_states + self.feed_forward(hidden_states), hidden_states, path)
        kd, *ft = (self.final_layer_norm(stream) for stream in streams)
        return LayerOutput(kd, ft[0] if ft else None, position_bias, attentions)


class PreNormPaths(TwoPathLayer):
    """`h = x + Attn(LN(x)); y = h + FF(LN(h)) [+ A(h)]`: large models. The adapter reads `h`, not `LN(h)`."""

    def forward(
        self, hidden_states: Tensor, position_bias: Tensor | None = None, path: Path = "ft", **kwargs: Any
    ) -> LayerOutput:
        """hidden_states: (batch, frames, hidden)."""
        attended, position_bias, attentions = self.attend(self.layer_norm(hidden_states), position_bias, **kwargs)
        hidden_states = hidden_states + attended
        base = hidden_states + self.feed_forward(self.final_layer_norm(hidden_states))
        kd, *ft = self.part(base, hidden_states, path)
        return LayerOutput(kd, ft[0] if ft else None, position_bias, attentions)


class HubertPostNormLayer(PostNormPaths, hubert.HubertEncoderLayer):
    """HuBERT-base."""


class HubertPreNormLayer(PreNormPaths, hubert.HubertEncoderLayerStableLayerNorm):
    """HuBERT-large and -xlarge."""


class Wav2Vec2PostNormLayer(PostNormPaths, wav2vec2.Wav2Vec2EncoderLayer):
    """wav2vec 2.0 base."""


class Wav2Vec2PreNormLayer(PreNormPaths, wav2vec2.Wav2Vec2EncoderLayerStableLayerNorm):
    """wav2vec 2.0 large, XLSR-53, XLS-R."""


class WavLMPostNormLayer(PostNormPaths, wavlm.WavLMEncoderLayer):
    """WavLM-base and -base-plus."""

    family_has_position_bias = True


class WavLMPreNormLayer(PreNormPaths, wavlm.WavLMEncoderLayerStableLayerNorm):
    """WavLM-large."""

    family_has_position_bias = True


class Family(NamedTuple):
    """The transformers classes of one family of encoders; pairs are (post-norm, pre-norm)."""

    model: type[PreTrainedModel]
    feature_encoder: type[nn.Module]
    feature_projection: type[nn.Module]
    encoders: tuple[type[nn.Module], type[nn.Module]]
    layers: tuple[type[TwoPathLayer], type[TwoPathLayer]]


FAMILIES = {
    "hubert": Family(
        hubert.HubertModel,
        hubert.HubertFeatureEncoder,
        hubert.HubertFeatureProjection,
        (hubert.HubertEncoder, hubert.HubertEncoderStableLayerNorm),
        (HubertPostNormLayer, HubertPreNormLayer),
    ),
    "wav2vec2": Family(
        wav2vec2.Wav2Vec2Model,
        wav2vec2.Wav2Vec2FeatureEncoder,
        wav2vec2.Wav2Vec2FeatureProjection,
        (wav2vec2.Wav2Vec2Encoder, wav2vec2.Wav2Vec2EncoderStableLayerNorm),
        (Wav2Vec2PostNormLayer, Wav2Vec2PreNormLayer),
    ),
    "wavlm": Family(
        wavlm.WavLMModel,
        wavlm.WavLMFeatureEncoder,
        wavlm.WavLMFeatureProjection,
        (wavlm.WavLMEncoder, wavlm.WavLMEncoderStableLayerNorm),
        (WavLMPostNormLayer, WavLMPreNormLayer),
    ),
}
