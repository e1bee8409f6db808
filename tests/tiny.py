"""Make the tiny models of every test: real architectures, a few thousand parameters, every size set to a small one."""

import torch
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector
from modeling_oskdft.scoring.thresholds import Thresholds

CONFIGS = {"hubert": HubertConfig, "wav2vec2": Wav2Vec2Config, "wavlm": WavLMConfig}
MODELS = {"hubert": HubertModel, "wav2vec2": Wav2Vec2Model, "wavlm": WavLMModel}
# (family, pre-norm layers, norm of the convolutions): the published base and large models, and hubert-mini.
SHAPES = [
    ("hubert", False, "group"),
    ("hubert", True, "layer"),
    ("hubert", True, "group"),
    ("wav2vec2", False, "group"),
    ("wav2vec2", True, "layer"),
    ("wavlm", False, "group"),
    ("wavlm", True, "layer"),
]
# Three convolutions of unequal widths instead of seven, which trace and export in a third of the time.
SHORT = {"conv_dim": (12, 16, 20), "conv_kernel": (10, 3, 2), "conv_stride": (5, 4, 4)}
HEADS = ("ecapa_tdnn", "statistics_pooling")


def encoder_config(family="hubert", pre_norm=False, conv_norm="group", layers=2, **fields):
    return CONFIGS[family](
        **{
            "hidden_size": 32,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "conv_dim": (16,) * 7,
            "num_conv_pos_embeddings": 16,
            # 16 channels a group: oneDNN's bfloat16 convolution on AMX is wrong at 8 (published models have 48 or 64).
            "num_conv_pos_embedding_groups": 2,
            "do_stable_layer_norm": pre_norm,
            "feat_extract_norm": conv_norm,
            "conv_bias": conv_norm == "layer",
            "layerdrop": 0.0,
            "mask_time_prob": 0.0,
        }
        | fields
    )


def tiny_config(family="hubert", pre_norm=False, conv_norm="group", layers=2, encoder=None, **fields):
    return OSKDFTConfig(
        encoder_config=encoder_config(family, pre_norm, conv_norm, layers, **(encoder or {})),
        **{
            "adapter_size": 8,
            "embedding_size": 12,
            "head_type": "statistics_pooling",
            "ecapa_channels": 16,
            "ecapa_pooled_channels": 24,
            "ecapa_attention_channels": 8,
            "ecapa_res2net_scale": 4,
            "ecapa_se_channels": 8,
        }
        | fields,
    )


def tiny_teacher(family="hubert", pre_norm=False, conv_norm="group", layers=4, **fields):
    torch.manual_seed(0)  # every call gives the same teacher
    return randomise(MODELS[family](encoder_config(family, pre_norm, conv_norm, layers, **fields))).eval()


def tiny_verifier(*shape, **fields):
    torch.manual_seed(0)  # every call gives the same verifier
    return randomise(OSKDFTForXVector(tiny_config(*shape, **fields))).eval()


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter and running statistic off its start, so that wrong wiring cannot pass by luck."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(0.3 * torch.rand(buffer.shape, generator=generator))
    return model


def save_verifier(place, feature_extractor, **fields):
    """Save a tiny verifier with its feature extractor and a threshold of 0.5; return it."""
    verifier = tiny_verifier(**fields)
    verifier.save_pretrained(place)
    feature_extractor.save_pretrained(place)
    Thresholds({"eer": 0.5}, 100, 50, 40, "made up", verifier.fingerprint()).save(place)
    return verifier


def waves(*lengths, seed=0):
    """Draw noise of these lengths in samples, and the mask of their padding, both (batch, longest)."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.zeros(len(lengths), max(lengths))
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        batch[row, :length] = torch.randn(length, generator=generator) * (1 + row)
        mask[row, :length] = 1
    return batch, mask
