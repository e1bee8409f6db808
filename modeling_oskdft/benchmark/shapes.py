"""Make encoders of published shapes with random weights, for benchmarks: nothing is downloaded."""

from transformers import (
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)


def hubert_base() -> PreTrainedModel:
    """Make an encoder of the shape of facebook/hubert-base-ls960."""
    return HubertModel(HubertConfig())


def wavlm_base_plus() -> PreTrainedModel:
    """Make an encoder of the shape of microsoft/wavlm-base-plus."""
    return WavLMModel(WavLMConfig())


def xlsr_53() -> PreTrainedModel:
    """Make an encoder of the shape of facebook/wav2vec2-large-xlsr-53."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    return Wav2Vec2Model(Wav2Vec2Config(**large, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True))


def w2v_bert() -> PreTrainedModel:
    """Make an encoder of the shape of facebook/w2v-bert-2.0."""
    return Wav2Vec2BertModel(Wav2Vec2BertConfig(hidden_act="swish"))


def whisper_small() -> PreTrainedModel:
    """Make a model with an encoder of the shape of openai/whisper-small, and the smallest decoder."""
    widths = {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072}
    return WhisperModel(WhisperConfig(**widths, decoder_layers=1, decoder_attention_heads=12, decoder_ffn_dim=64))
