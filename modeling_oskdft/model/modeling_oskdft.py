"""Run the two-path student: one stack of transformer layers, with and without its adapters.

    waveform ── convolutions ── projection ── positional convolution ── layer 1 … n ─────────── kd path
                                                                            └ + adapter each ── ft path ── head

Up to the first adapter both paths are equal and are computed once. Layers, attention and the convolutional front end
are transformers' own; this file adds the second path through the stack, and padding that changes no result. Encoder
and task model lie in one modeling file, as in transformers: it travels to the Hub with the weights.
"""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import XVectorOutput
from transformers.models.hubert import modeling_hubert as hubert
from transformers.models.wavlm import modeling_wavlm as wavlm
from transformers.utils import ModelOutput, logging
from transformers.utils.generic import can_return_tuple

from .adapters_oskdft import SpeakerAdapters
from .companions_oskdft import Companions
from .configuration_oskdft import OSKDFTConfig
from .heads_oskdft import AAMSoftmaxLoss, LayerMixture, build_head
from .layers_oskdft import FAMILIES, PATHS, AdapterUp, LayerOutput, ParallelAdapter, Path

logger = logging.get_logger(__name__)
Lengths = TypeVar("Lengths", int, Tensor)
DEFAULT_NUM_LABELS = 2  # `num_labels` of every configuration of transformers that was given none


@dataclass
class OSKDFTModelOutput(ModelOutput):
    """Hold the hidden states of the asked path, and beside them the kd path's when `path` is "both".

    Attributes:
        last_hidden_state: (batch, frames, hidden) of the asked path; of the ft path for "both".
        hidden_states: n + 1 tensors (batch, frames, hidden): the input of the first layer and the output of each. The
            last one is `last_hidden_state`, for both norm orders.
        kd_last_hidden_state: as above, of the kd path, for "both" only.
        kd_hidden_states: as above, of the kd path, for "both" only.
        attentions: one tensor (batch, heads, frames, frames) a layer, of the same path as `last_hidden_state`.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    kd_last_hidden_state: Tensor | None = None
    kd_hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def feature_lengths(config: OSKDFTConfig, lengths: Lengths) -> Lengths:
    """Count the frames of a number of samples.

    A frame counts when its whole receptive field is real audio: a convolution turns n values into
    (n - kernel) // stride + 1.

    Args:
        config: the student's configuration.
        lengths: samples at 16 kHz, an int or an integer tensor of any shape.

    Returns:
        Frames, of the type and shape of `lengths`.
    """
    encoder = config.encoder_config
    for kernel, stride in zip(encoder.conv_kernel, encoder.conv_stride, strict=True):
        lengths = (lengths - kernel) // stride + 1
    return lengths // config.time_reduction


def shortest_input(config: OSKDFTConfig) -> int:
    """Count the samples that one frame needs: the receptive field of the front end, 400 in the published models.

    Args:
        config: the student's configuration.
    """
    return receptive_field(config.encoder_config, config.time_reduction)


def receptive_field(encoder: PreTrainedConfig, frames: int = 1) -> int:
    """Count the samples from which an encoder's convolutions compute a number of frames.

    Args:
        encoder: the encoder's configuration.
        frames: number of neighbouring frames.
    """
    for kernel, stride in reversed(list(zip(encoder.conv_kernel, encoder.conv_stride, strict=True))):
        frames = (frames - 1) * stride + kernel
    return frames


def masked_group_norm(norm: nn.GroupNorm, values: Tensor, lengths: Tensor) -> Tensor:
    """Apply GroupNorm with one group per channel, with statistics over valid frames.

    Plain GroupNorm averages over padding as well. This is why transformers' own HuBERT-base gives one recording other
    results in a padded batch than alone.

    Args:
        norm: the GroupNorm, with as many groups as channels.
        values: (batch, channels, frames).
        lengths: (batch,), the number of valid frames in each row.

    Returns:
        A tensor of the shape and dtype of `values`.
    """
    valid = torch.arange(values.shape[-1], device=values.device) < lengths[:, None, None]
    inputs = values.float()
    mean = (inputs * valid).sum(-1, keepdim=True) / lengths[:, None, None]
    centred = (inputs - mean) * valid
    variance = centred.square().sum(-1, keepdim=True) / lengths[:, None, None]
    normalised = centred * (variance + norm.eps).rsqrt()
    return (normalised * norm.weight[:, None] + norm.bias[:, None]).to(values.dtype)


class OSKDFTPreTrainedModel(PreTrainedModel):
    """Load, save and initialise both models, the encoder and the verifier."""

    config_class = OSKDFTConfig
    base_model_prefix = "oskdft"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        layer.__name__ for family in FAMILIES.values() for layer in family.layers
    ]
    auto_map: ClassVar[dict[str, str]] = {"AutoConfig": "configuration_oskdft.OSKDFTConfig"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The code of a user's own class does not travel with ours, which lies in one folder.
        if cls.__module__.rpartition(".")[0] != __name__.rpartition(".")[0]:
            cls._auto_class = None
            cls.auto_map = {}

    @property
    def _supports_sdpa(self) -> bool:
        """Whether attention may be other than eager: not in WavLM, which adds a gated position bias to it."""
        return bool(self.config.encoder_config.model_type != "wavlm")

    _supports_flash_attn = _supports_sdpa
    _supports_flex_attn = _supports_sdpa

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.encoder_config.initializer_range
        zero_start = self.config.adapter_initialization == "zero"
        if isinstance(module, AdapterUp) and zero_start:
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, OSKDFTModel) and hasattr(module, "masked_spec_embed"):
            init.uniform_(module.masked_spec_embed)
        elif isinstance(module, wavlm.WavLMAttention):
            init.ones_(module.gru_rel_pos_const)
        elif isinstance(module, LayerMixture) and hasattr(module, "layer_weights"):
            init.constant_(module.layer_weights, 1.0 / len(module.layer_weights))
        elif isinstance(module, AAMSoftmaxLoss):
            init.xavier_normal_(module.weight)

    def _get_feat_extract_output_lengths(self, input_lengths: Lengths) -> Lengths:
        """Count the frames of a number of samples, see `feature_lengths`, by the name in transformers' models."""
        return feature_lengths(self.config, input_lengths)

    def _encode(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
        **kwargs: Any,
    ) -> tuple[tuple[Tensor, ...], Tensor | None, dict[str, Any]]:
        """Compute what a head reads: all hidden states of the ft path, and the mask of frames.

        Returns:
            Both, and `hidden_states` and `attentions` as the output of a model has them: None where nobody asked.
        """
        encoder: OSKDFTModel = self.oskdft
        outputs = encoder(
            input_values,
            attention_mask,
            path="ft",
            output_hidden_states=True,
            output_attentions=output_attentions,
            return_dict=True,
            **kwargs,
        )
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states = outputs.hidden_states
        asked = {"hidden_states": states if output_hidden_states else None, "attentions": outputs.attentions}
        return states, encoder.frame_mask(attention_mask, states[-1].shape[1]), asked

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model as transformers does, with the code and the `auto_map` that open it without this package.

        Args:
            save_directory: it is made when it does not exist.
            **kwargs: as in transformers.
        """
        if self.auto_map:
            self.config.auto_map = dict(self.auto_map)
        elif hasattr(self.config, "auto_map"):
            del self.config.auto_map
        super().save_pretrained(save_directory, **kwargs)


class OSKDFTModel(OSKDFTPreTrainedModel):
    """Encode raw waveforms into hidden states, on the kd path, the ft path, or both.

    Example:
        >>> encoder = OSKDFTModel(OSKDFTConfig())
        >>> encoder(torch.randn(1, 16000), path="both").kd_last_hidden_state.shape
        torch.Size([1, 49, 768])
    """

    # transformers' own modules, which have no types
    feature_extractor: Any
    feature_projection: Any
    encoder: Any

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        encoder_config = config.encoder_config
        # The attention of WavLM is eager only; other families take the implementation of the whole model.
        attention = encoder_config._attn_implementation or config._attn_implementation
        encoder_config._attn_implementation = "eager" if encoder_config.model_type == "wavlm" else attention
        family = FAMILIES[encoder_config.model_type]
        pre_norm = bool(encoder_config.do_stable_layer_norm)
        self.feature_extractor = family.feature_encoder(encoder_config)
        if config.time_reduction > 1:
            width, stride = encoder_config.conv_dim[-1], config.time_reduction
            self.time_reduction = nn.Conv1d(width, width, kernel_size=stride, stride=stride, bias=False)
        self.feature_projection = family.feature_projection(encoder_config)
        if encoder_config.mask_time_prob > 0.0 or encoder_config.mask_feature_prob > 0.0:
            self.masked_spec_embed = nn.Parameter(torch.empty(encoder_config.hidden_size).uniform_())
        self.encoder = family.encoders[pre_norm](encoder_config)
        self.encoder.layers = nn.ModuleList(
            family.layers[pre_norm](encoder_config, self._adapter(index), **self._layer_arguments(index))
            for index in range(encoder_config.num_hidden_layers)
        )
        self.pre_norm = pre_norm
        self.post_init()

    def _adapter(self, index: int) -> ParallelAdapter | None:
        return ParallelAdapter(self.config) if index in self.config.adapted_layers else None

    def _layer_arguments(self, index: int) -> dict[str, bool]:
        if self.config.encoder_config.model_type != "wavlm":
            return {}
        return {"has_relative_position_bias": index == 0}

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        path: Path = "ft",
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> OSKDFTModelOutput:
        """Compute the hidden states of the asked path.

        Args:
            input_values: (batch, samples) of audio at 16 kHz, normalised as the feature extractor does it.
            attention_mask: (batch, samples), 1 where audio is real, padding on the right; None when nothing is padded.
                With a mask every row equals its own unpadded run (to 1e-4).
            path: "kd" leaves the adapters out, "ft" passes them, "both" computes both in one pass.
            output_hidden_states: return all hidden states; None: as `config.output_hidden_states`.
            output_attentions: return the attentions; None: as `config.output_attentions`. They exist with
                `attn_implementation="eager"`; any other gives a warning and none.
            **kwargs: `return_dict=False` gives a tuple; further columns of a batch are ignored.

        Returns:
            An `OSKDFTModelOutput`.

        Raises:
            ValueError: for `input_values` of a wrong shape, type or length, and for a mask that does not fit.
            TypeError: for a misspelt argument.
        """
        self._check_input(input_values, attention_mask, path)
        _refuse_misspelt(kwargs)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_attentions and self.encoder.config._attn_implementation != "eager":
            logger.warning_once(
                f"output_attentions: attention '{self.encoder.config._attn_implementation}' computes none; open "
                "the model with attn_implementation='eager'."
            )
            output_attentions = False
        features = self.convolve(input_values, attention_mask)
        frame_mask = self.frame_mask(attention_mask, features.shape[-1] // self.config.time_reduction)
        outputs = self.encode(features, frame_mask, path, bool(output_attentions))
        if output_hidden_states:
            return outputs
        return OSKDFTModelOutput(  # a new one, because a field that is set to None later stays in its tuple
            last_hidden_state=outputs.last_hidden_state,
            kd_last_hidden_state=outputs.kd_last_hidden_state,
            attentions=outputs.attentions,
        )

    def encode(
        self,
        features: Tensor,
        frame_mask: Tensor | None = None,
        path: Path = "ft",
        output_attentions: bool = False,
    ) -> OSKDFTModelOutput:
        """Compute all hidden states from the output of `convolve`.

        Args:
            features: (batch, channels, frames), before time reduction.
            frame_mask: (batch, frames after time reduction), as `frame_mask` returns it, or None.
            path: "kd", "ft" or "both".
            output_attentions: return the attentions.

        Returns:
            An `OSKDFTModelOutput`.
        """
        attentions: list[Tensor] | None = [] if output_attentions else None
        streams = self._run_layers(self._project(features, frame_mask), frame_mask, path, attentions)
        ft, kd = streams[-1], streams[0]
        return OSKDFTModelOutput(
            last_hidden_state=ft[-1],
            hidden_states=tuple(ft),
            kd_last_hidden_state=kd[-1] if path == "both" else None,
            kd_hidden_states=tuple(kd) if path == "both" else None,
            attentions=None if attentions is None else tuple(attentions),
        )

    def freeze_feature_encoder(self) -> None:
        """Stop the gradients of the convolutional front end."""
        self.feature_extractor.requires_grad_(False)

    def frame_mask(self, attention_mask: Tensor | None, frames: int) -> Tensor | None:
        """Turn a mask of samples into a mask of frames, which are valid when all of their samples are.

        Args:
            attention_mask: (batch, samples) or None.
            frames: number of frames in the batch. Take it from the shape of a tensor: exporters cannot always derive
                it from the number of samples.

        Returns:
            (batch, frames), True for valid frames; None without a mask.
        """
        if attention_mask is None:
            return None
        lengths = feature_lengths(self.config, attention_mask.sum(-1).long())
        return torch.arange(frames, device=attention_mask.device) < lengths[:, None]

    def _project(self, features: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Turn convolutional features into the input of the encoder: time reduction, projection, SpecAugment."""
        if self.config.time_reduction > 1:
            features = self.time_reduction(features)
        projected = self.feature_projection(features.transpose(1, 2))
        hidden_states = projected[0] if isinstance(projected, tuple) else projected
        if self.training and hasattr(self, "masked_spec_embed"):
            hidden_states = self._augment(hidden_states, frame_mask)
        return hidden_states

    def convolve(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Run the convolutional front end.

        Only its GroupNorm needs the mask: every other operation sees a single frame's receptive field.

        Args:
            input_values: (batch, samples).
            attention_mask: (batch, samples) or None.

        Returns:
            (batch, channels, frames), before time reduction.
        """
        hidden_states = input_values[:, None]
        layers = self.feature_extractor.conv_layers
        if self._checkpoints(layers[0]) and any(
            parameter.requires_grad for parameter in self.feature_extractor.parameters()
        ):
            hidden_states.requires_grad_()  # reentrant checkpointing drops a layer whose input has no gradient
        for index, layer in enumerate(layers):
            if index == 0 and attention_mask is not None and isinstance(layer.layer_norm, nn.GroupNorm):
                hidden_states = self._first_convolution(layer, hidden_states, attention_mask)
            else:
                hidden_states = layer(hidden_states)
        return hidden_states

    def _first_convolution(self, layer: nn.Module, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Run the first convolution with GroupNorm over valid frames, under the checkpointing of its layer."""
        encoder, first = self.config.encoder_config, cast(Any, layer)
        kernel, stride = encoder.conv_kernel[0], encoder.conv_stride[0]
        lengths = (attention_mask.sum(-1).long() - kernel) // stride + 1

        def run(values: Tensor) -> Tensor:
            return first.activation(masked_group_norm(first.layer_norm, first.conv(values), lengths))

        if self._checkpoints(layer):
            return first._gradient_checkpointing_func(run, hidden_states)
        return run(hidden_states)

    def _checkpoints(self, layer: nn.Module) -> bool:
        return bool(getattr(layer, "gradient_checkpointing", False)) and self.training and torch.is_grad_enabled()

    def _augment(self, hidden_states: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Apply SpecAugment as transformers' encoders do, before the paths separate, so that they share one mask."""
        config = self.config.encoder_config
        batch, frames, width = hidden_states.shape
        if config.apply_spec_augment and config.mask_time_prob > 0 and frames >= config.mask_time_length:
            spans = hubert._compute_mask_indices(
                (batch, frames),
                config.mask_time_prob,
                config.mask_time_length,
                None if frame_mask is None else frame_mask.long(),
                config.mask_time_min_masks,
            )
            masked = torch.as_tensor(spans, device=hidden_states.device)[..., None]
            hidden_states = torch.where(masked, self.masked_spec_embed.to(hidden_states.dtype), hidden_states)
        if config.apply_spec_augment and config.mask_feature_prob > 0:
            spans = hubert._compute_mask_indices(
                (batch, width),
                config.mask_feature_prob,
                config.mask_feature_length,
                min_masks=config.mask_feature_min_masks,
            )
            hidden_states = hidden_states.masked_fill(
                torch.as_tensor(spans, device=hidden_states.device)[:, None], 0.0
            )
        return hidden_states

    def _run_layers(
        self, hidden_states: Tensor, frame_mask: Tensor | None, path: Path, attentions: list[Tensor] | None = None
    ) -> tuple[list[Tensor], ...]:
        """Run mask, positional convolution, norms and layers in the encoder's order, with two streams where needed.

        Args:
            hidden_states: (batch, frames, hidden), the projected features.
            frame_mask: (batch, frames) or None.
            path: "kd", "ft" or "both".
            attentions: a list to which each layer's attentions are appended, or None.

        Returns:
            The n + 1 hidden states of the asked path, alone; for "both" those of the kd and those of the ft path.
        """
        encoder = self.encoder
        if frame_mask is not None:
            hidden_states = hidden_states.masked_fill(~frame_mask[..., None], 0.0)
        attention_mask = self._attention_mask(hidden_states, frame_mask)
        hidden_states = hidden_states + encoder.pos_conv_embed(hidden_states)
        hidden_states = encoder.dropout(hidden_states if self.pre_norm else encoder.layer_norm(hidden_states))
        if len(encoder.layers) and self._checkpoints(encoder.layers[0]) and not hidden_states.requires_grad:
            hidden_states = hidden_states.detach().requires_grad_()  # as in `convolve`, below a frozen front end
        streams: tuple[Tensor, ...] = (hidden_states,)
        history = [streams]
        position_bias: Tensor | None = None
        for index, layer in enumerate(encoder.layers):
            if not self._drops(index):
                output = self._step(layer, streams, position_bias, path, attention_mask)
                streams, position_bias = output.streams, output.position_bias
                if attentions is not None and output.attentions is not None:
                    attentions.append(output.attentions)
            history.append(streams)
        if self.pre_norm:
            history[-1] = tuple(encoder.layer_norm(stream) for stream in streams)
        if path != "both":
            return ([states[0] for states in history],)
        return [states[0] for states in history], [states[-1] for states in history]

    @staticmethod
    def _step(
        layer: nn.Module,
        streams: tuple[Tensor, ...],
        position_bias: Tensor | None,
        path: Path,
        attention_mask: Tensor | None,
    ) -> LayerOutput:
        """Run one layer: once while there is one stream, otherwise once for each stream.

        Tensors that carry a gradient are positional arguments: reentrant checkpointing ignores keyword arguments.
        """
        if len(streams) == 1:
            return LayerOutput(*layer(streams[0], position_bias, path=path, attention_mask=attention_mask))
        kd, ft = (
            LayerOutput(*layer(stream, position_bias, path=stream_path, attention_mask=attention_mask))
            for stream, stream_path in zip(streams, ("kd", "ft"), strict=True)
        )
        return LayerOutput(kd.stream, ft.streams[-1], kd.position_bias, ft.attentions)

    def _drops(self, index: int) -> bool:
        """Draw whether LayerDrop skips a layer, for both paths at once; never the first of a WavLM."""
        probability = self.config.encoder_config.layerdrop
        if not self.training or probability == 0.0:
            return False
        owns_position_bias = index == 0 and self.config.encoder_config.model_type == "wavlm"
        return not owns_position_bias and bool(torch.rand(()) < probability)

    def _attention_mask(self, hidden_states: Tensor, frame_mask: Tensor | None) -> Tensor | None:
        config = self.config.encoder_config
        if config.model_type == "wavlm":
            return frame_mask
        return create_bidirectional_mask(config=config, inputs_embeds=hidden_states, attention_mask=frame_mask)

    def _check_input(self, input_values: Tensor, attention_mask: Tensor | None, path: str) -> None:
        if path not in PATHS:
            raise ValueError(f"path is '{path}': use one of {', '.join(PATHS)}.")
        if input_values.dim() != 2:
            raise ValueError(
                f"input_values has shape {tuple(input_values.shape)}: (batch, samples) of mono audio is needed; "
                "mix the channels first."
            )
        if not input_values.is_floating_point():
            raise ValueError(
                f"input_values are {input_values.dtype}: floating-point samples in [-1, 1] are needed; divide integer "
                "samples by their full scale."
            )
        shortest = shortest_input(self.config)
        if input_values.shape[1] < shortest:
            raise ValueError(
                f"input_values has {input_values.shape[1]} samples: one frame needs {shortest} "
                f"({1000 * shortest / 16000:.0f} ms at 16 kHz); give a longer recording."
            )
        if attention_mask is not None and attention_mask.shape != input_values.shape:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}: it must be that of input_values, "
                f"{tuple(input_values.shape)}."
            )
        # A look at the values would break the graph of a compiled model; in training the collator has checked them.
        if not (self.training or torch.compiler.is_compiling() or torch.jit.is_tracing()):
            self._check_values(input_values, attention_mask, shortest)

    @staticmethod
    def _check_values(input_values: Tensor, attention_mask: Tensor | None, shortest: int) -> None:
        if not bool(torch.isfinite(input_values).all()):
            raise ValueError("input_values has NaN or infinite samples: finite audio is needed; check the recording.")
        if attention_mask is None:
            return
        if int(attention_mask.sum(-1).min()) < shortest:
            raise ValueError(
                f"attention_mask leaves {int(attention_mask.sum(-1).min())} samples of one row: one frame needs "
                f"{shortest}; leave that recording out."
            )
        if bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
            raise ValueError("attention_mask has a 1 after a 0: pad on the right only.")


class OSKDFTForXVector(Companions, SpeakerAdapters, OSKDFTPreTrainedModel):
    """Embed speakers: the ft path of the encoder and a speaker head give one embedding an utterance.

    With `config.num_labels` above 2 (`OSKDFTForXVector.from_pretrained(name, num_labels=N)`) the model has a class
    vector for each of N speakers, and `labels` give a loss. 2 is transformers' default for a configuration that was
    given no number, so a verifier has no class vectors unless they are asked for. They are centroids of people in a
    training set: they are never saved, and start at random when a model is opened.

    Example:
        >>> verifier = OSKDFTForXVector(OSKDFTConfig(head_type="statistics_pooling"))
        >>> verifier(torch.randn(2, 16000)).embeddings.shape
        torch.Size([2, 192])
    """

    auto_map: ClassVar[dict[str, str]] = {
        **OSKDFTPreTrainedModel.auto_map,
        "AutoModel": "modeling_oskdft.OSKDFTForXVector",
        "AutoModelForAudioXVector": "modeling_oskdft.OSKDFTForXVector",
    }

    _keys_to_ignore_on_load_missing: ClassVar[list[str]] = [r"objective\.weight"]

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        self.oskdft = OSKDFTModel(config)
        self.head = build_head(config)
        if config.num_labels > DEFAULT_NUM_LABELS:
            self.objective = AAMSoftmaxLoss(config.embedding_size, config.num_labels)
            self._keys_to_ignore_on_save = ["objective.weight"]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> XVectorOutput:
        """Compute speaker embeddings, always on the ft path.

        Args:
            input_values: (batch, samples), as in `OSKDFTModel`.
            attention_mask: (batch, samples) or None, as in `OSKDFTModel`.
            labels: (batch,), speakers from 0 to `config.num_labels` - 1. They give `loss`, the mean AAM-softmax of the
                batch with the paper's margin and scale; `OSKDFTTrainer` has more objectives.
            output_hidden_states: return all hidden states; None: as `config.output_hidden_states`.
            output_attentions: as in `OSKDFTModel`.
            **kwargs: `return_dict=False` gives a tuple; further columns of a batch are ignored.

        Returns:
            An `XVectorOutput`. Its `embeddings` are (batch, embedding_size), float32, not normalised to length 1;
            `logits` is the same tensor, for code that was written for `Wav2Vec2ForXVector`.

        Raises:
            ValueError: for `input_values` of a wrong shape, type or length, a mask that does not fit, or labels
                without class vectors.
            TypeError: for a misspelt argument.
        """
        states, frame_mask, asked = self._encode(
            input_values, attention_mask, output_hidden_states, output_attentions, **kwargs
        )
        embeddings = self.head(states, frame_mask)
        loss = None if labels is None else self._loss(embeddings, labels)
        return XVectorOutput(loss=loss, logits=embeddings, embeddings=embeddings, **asked)

    def task_output(self, embeddings: Tensor) -> Tensor:
        """Return what a loss of the task reads of an embedding: itself."""
        return embeddings

    def _loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if not hasattr(self, "objective"):
            raise ValueError(
                "labels were given to a model without classes: open it with num_labels=N, the number of speakers, "
                f"more than {DEFAULT_NUM_LABELS}."
            )
        return self.objective(embeddings, labels)

    def freeze_feature_encoder(self) -> None:
        """Stop the gradients of the convolutional front end."""
        self.oskdft.freeze_feature_encoder()

    def freeze_base_model(self) -> None:
        """Stop the gradients of the whole encoder with its adapters: only the head learns."""
        self.oskdft.requires_grad_(False)

    def export_kd_path(self) -> PreTrainedModel:
        """Copy the distilled encoder into a plain `HubertModel`, `Wav2Vec2Model` or `WavLMModel`, for other tasks.

        Returns:
            The encoder, without adapters, in evaluation mode.

        Raises:
            ValueError: when `time_reduction` is above 1: these classes have no such convolution.
        """
        if self.config.time_reduction > 1:
            raise ValueError(
                f"time_reduction is {self.config.time_reduction}: the plain encoder classes have no such convolution; "
                "use OSKDFTModel with path='kd'."
            )
        encoder_config = self.config.encoder_config
        plain = FAMILIES[encoder_config.model_type].model(type(encoder_config).from_dict(encoder_config.to_dict()))
        state = {name: value for name, value in self.oskdft.state_dict().items() if ".adapter." not in name}
        plain.load_state_dict(state)
        return plain.to(self.dtype).eval()


def _refuse_misspelt(columns: dict[str, Any]) -> None:
    """Raise `TypeError` for a keyword that is almost an argument: as a further column it would be ignored."""
    for name in columns:
        near = difflib.get_close_matches(name, ("input_values", "attention_mask"), 1, 0.8)
        if near:
            raise TypeError(f"forward has no argument '{name}': did you mean '{near[0]}'?")


def adapter_parameters(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """Iterate over the named parameters of the adapters, which the ft path alone uses.

    Args:
        model: the encoder or the verifier.
    """
    return ((name, parameter) for name, parameter in model.named_parameters() if ".adapter." in name)


# With these, save_pretrained copies the travelling files. A copy of this file registers its own classes again.
OSKDFTConfig.register_for_auto_class()
OSKDFTForXVector.register_for_auto_class("AutoModelForAudioXVector")
