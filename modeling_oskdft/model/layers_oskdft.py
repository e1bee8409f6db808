"""Add an adapter beside the feed-forward block of transformers' layers, for three families and two norm orders."""

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
    """Project down. It is a class, because `_init_weights` is given leaf modules and must tell this one apart."""


class AdapterUp(nn.Linear):
    """Project up. It is a class, because `_init_weights` may start it at zero."""


class ParallelAdapter(nn.Module):
    """Compute `scale * up(act(down(norm(x))))` beside a feed-forward block (Heo et al., 2023, section 3.2)."""

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
        """Compute the update that the ft path adds.

        Args:
            hidden_states: (batch, frames, hidden).

        Returns:
            A tensor of the same shape.
        """
        inner = hidden_states if self.norm is None else self.norm(hidden_states)
        inner = self.activation(self.down(inner))
        if self.noise is not None and self.training:
            low, high = self.noise
            factor = torch.empty((), device=inner.device).uniform_(low, high)
            inner = inner + torch.randn_like(inner) * (factor * inner.detach().abs().mean())
        update = self.scale * self.up(inner)
        return update + hidden_states if self.residual else update


class LayerOutput(NamedTuple):
    """Hold the output of a layer. It is flat: reentrant checkpointing follows gradients through flat tuples only.

    Attributes:
        stream: (batch, frames, hidden) of the only stream while both paths are equal, then of the kd path.
        adapted: the same of the ft path, where the paths differ.
        position_bias: the position bias of a WavLM, for the next layer.
        attentions: (batch, heads, frames, frames), where they are computed.
    """

    stream: Tensor
    adapted: Tensor | None = None
    position_bias: Tensor | None = None
    attentions: Tensor | None = None

    @property
    def streams(self) -> tuple[Tensor, ...]:
        """Return (stream,) while both paths are equal, then (kd, ft)."""
        return (self.stream,) if self.adapted is None else (self.stream, self.adapted)


class TwoPathLayer(nn.Module):
    """Share the code of the six layers below: a transformers layer and an adapter that the ft path alone passes."""

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
        """Run the attention block.

        Args:
            hidden_states: (batch, frames, hidden).
            position_bias: the bias that the layer before returned; WavLM only.
            **kwargs: further arguments of transformers' attention, such as `attention_mask`.

        Returns:
            The attention output (batch, frames, hidden); the position bias, or None in other families; the attentions
            (batch, heads, frames, frames), or None where they are not computed.
        """
        if self.family_has_position_bias:
            kwargs["position_bias"] = position_bias
        output, attentions, *bias = self.attention(hidden_states, **kwargs)
        return self.dropout(output), bias[0] if bias else None, attentions

    def split_paths(self, base: Tensor, adapter_input: Tensor, path: Path) -> tuple[Tensor, ...]:
        """Return the streams of the asked path behind the feed-forward block.

        Args:
            base: (batch, frames, hidden), residual and feed-forward output: the kd path.
            adapter_input: (batch, frames, hidden); the adapter's update is added to `base` for the ft path.
            path: "kd", "ft" or "both".

        Returns:
            One stream, or (kd, ft).
        """
        if self.adapter is None or path == "kd":
            return (base,)
        adapted = base + self.adapter(adapter_input)
        return (adapted,) if path == "ft" else (base, adapted)


class PostNormPaths(TwoPathLayer):
    """Compute `h = LN(x + Attn(x)); y = LN(h + FF(h) [+ A(h)])`: base models."""

    def forward(
        self, hidden_states: Tensor, position_bias: Tensor | None = None, path: Path = "ft", **kwargs: Any
    ) -> LayerOutput:
        """Run the layer on one path, or on both from one input.

        Args:
            hidden_states: (batch, frames, hidden).
            position_bias: as in `attend`.
            path: "kd", "ft" or "both".
            **kwargs: as in `attend`.
        """
        attended, position_bias, attentions = self.attend(hidden_states, position_bias, **kwargs)
        hidden_states = self.layer_norm(hidden_states + attended)
        streams = self.split_paths(hidden_states + self.feed_forward(hidden_states), hidden_states, path)
        kd, *ft = (self.final_layer_norm(stream) for stream in streams)
        return LayerOutput(kd, ft[0] if ft else None, position_bias, attentions)


class PreNormPaths(TwoPathLayer):
    """Compute `h = x + Attn(LN(x)); y = h + FF(LN(h)) [+ A(h)]`: large models. The adapter reads `h`, not `LN(h)`."""

    def forward(
        self, hidden_states: Tensor, position_bias: Tensor | None = None, path: Path = "ft", **kwargs: Any
    ) -> LayerOutput:
        """Run the layer on one path, or on both from one input.

        Args:
            hidden_states: (batch, frames, hidden).
            position_bias: as in `attend`.
            path: "kd", "ft" or "both".
            **kwargs: as in `attend`.
        """
        attended, position_bias, attentions = self.attend(self.layer_norm(hidden_states), position_bias, **kwargs)
        hidden_states = hidden_states + attended
        base = hidden_states + self.feed_forward(self.final_layer_norm(hidden_states))
        kd, *ft = self.split_paths(base, hidden_states, path)
        return LayerOutput(kd, ft[0] if ft else None, position_bias, attentions)


class HubertPostNormLayer(PostNormPaths, hubert.HubertEncoderLayer):
    """Run a layer of HuBERT-base."""


class HubertPreNormLayer(PreNormPaths, hubert.HubertEncoderLayerStableLayerNorm):
    """Run a layer of HuBERT-large and -xlarge."""


class Wav2Vec2PostNormLayer(PostNormPaths, wav2vec2.Wav2Vec2EncoderLayer):
    """Run a layer of wav2vec 2.0 base."""


class Wav2Vec2PreNormLayer(PreNormPaths, wav2vec2.Wav2Vec2EncoderLayerStableLayerNorm):
    """Run a layer of wav2vec 2.0 large (LV-60), XLSR-53, XLS-R."""


class WavLMPostNormLayer(PostNormPaths, wavlm.WavLMEncoderLayer):
    """Run a layer of WavLM-base and -base-plus."""

    family_has_position_bias = True


class WavLMPreNormLayer(PreNormPaths, wavlm.WavLMEncoderLayerStableLayerNorm):
    """Run a layer of WavLM-large."""

    family_has_position_bias = True


class Family(NamedTuple):
    """Hold the transformers classes of one family of encoders; pairs are (post-norm, pre-norm)."""

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
