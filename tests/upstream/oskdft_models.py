"""Run transformers' common model tests on both of our models, three families and two norm orders."""

import unittest

import torch
from transformers import HubertConfig, Wav2Vec2Config, WavLMConfig

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector, OSKDFTModel

from .test_configuration_common import ConfigTester
from .test_modeling_common import ModelTesterMixin

# Start of a test's name: the reason why the test does not apply.
INAPPLICABLE = {
    "test_model_get_set_embeddings": "there are no tokens",
    "test_resize_": "there are no tokens",
    "test_tie_": "there are no tokens",
    "test_tied_": "there are no tokens",
    "test_inputs_embeds": "there are no tokens",
    "test_training": "the loss needs num_labels, and trains class vectors that are never saved",
    "test_gradient_checkpointing": "the same",
    "test_torchscript": "torch.jit.script is not supported; tracing and torch.export are",
}
# The same, for WavLM alone.
INAPPLICABLE_TO_WAVLM = {
    "test_sdpa_can_dispatch_non_composite_models": "WavLM's attention is eager only, as in transformers",
    "test_retain_grad": "its attentions are computed beside its output, which no gradient reaches through them",
}
PAD_LEFT = "attention_mask has a 1 after a 0: padding on the left is refused by design"


class Tester:
    """Make the configuration and the inputs that transformers' tests ask for."""

    is_training = False
    batch_size, samples = 2, 1024

    def __init__(self, family, pre_norm):
        self.family, self.pre_norm = family, pre_norm
        self.encoder_seq_length = self.seq_length = 62
        self.num_hidden_layers, self.hidden_size, self.num_attention_heads = 2, 16, 2
        self.key_length = self.seq_length

    def get_config(self):
        encoder = self.family(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=20,
            conv_dim=(32, 32, 32),
            conv_stride=(4, 4, 1),
            conv_kernel=(8, 8, 1),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            do_stable_layer_norm=self.pre_norm,
            feat_extract_norm="layer" if self.pre_norm else "group",
            layerdrop=0.0,
            mask_time_prob=0.0,
        )
        return OSKDFTConfig(encoder, adapter_size=4, embedding_size=8, head_type="statistics_pooling")

    def prepare_config_and_inputs_for_common(self):
        generator = torch.Generator().manual_seed(0)
        inputs = {
            "input_values": torch.randn(self.batch_size, self.samples, generator=generator),
            "attention_mask": torch.ones(self.batch_size, self.samples, dtype=torch.long),
        }
        return self.get_config(), inputs


class Common(ModelTesterMixin):
    """Run the tests for one family and one norm order."""

    all_model_classes = (OSKDFTModel, OSKDFTForXVector)
    test_resize_embeddings = False
    test_head_masking = False
    family, pre_norm = HubertConfig, False

    def setUp(self):
        name = self._testMethodName
        known = INAPPLICABLE | (INAPPLICABLE_TO_WAVLM if self.family is WavLMConfig else {})
        reason = next((reason for start, reason in known.items() if name.startswith(start)), None)
        if reason is None and "pad_left" in name:
            reason = PAD_LEFT
        if reason is not None:
            self.skipTest(reason)
        self.model_tester = Tester(self.family, self.pre_norm)
        self.config_tester = ConfigTester(self, config_class=OSKDFTConfig, has_text_modality=False)


class HubertPostNorm(Common, unittest.TestCase):
    """HuBERT-base."""


class HubertPreNorm(Common, unittest.TestCase):
    """HuBERT-large."""

    pre_norm = True


class Wav2Vec2PostNorm(Common, unittest.TestCase):
    """wav2vec 2.0 base."""

    family = Wav2Vec2Config


class Wav2Vec2PreNorm(Common, unittest.TestCase):
    """XLSR."""

    family, pre_norm = Wav2Vec2Config, True


class WavLMPostNorm(Common, unittest.TestCase):
    """WavLM-base."""

    family = WavLMConfig


class WavLMPreNorm(Common, unittest.TestCase):
    """WavLM-large."""

    family, pre_norm = WavLMConfig, True
