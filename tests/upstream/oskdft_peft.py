"""Run PEFT's common tests, method by method, on saved students of two families."""

import pytest
import torch
from peft import (
    BOFTConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    VBLoRAConfig,
    VeraConfig,
)
from transformers import AutoModelForAudioXVector, HubertConfig, Wav2Vec2Config

from modeling_oskdft import OSKDFTConfig, OSKDFTForXVector

from .testing_common import PeftCommonTester
from .testing_utils import set_init_weights_false

LAYERS = {"target_modules": ["intermediate_dense", "output_dense"]}
FEATURES = LAYERS | {"task_type": "FEATURE_EXTRACTION"}
CONFIGS = [
    (LoraConfig, FEATURES),
    (LoraConfig, {"target_modules": "all-linear", "task_type": "FEATURE_EXTRACTION"}),
    (LoraConfig, FEATURES | {"use_dora": True}),
    (LoraConfig, LAYERS | {"modules_to_save": ["head"]}),
    (IA3Config, FEATURES | {"feedforward_modules": ["output_dense"]}),
    (LoHaConfig, LAYERS),
    (LoKrConfig, LAYERS),
    (OFTConfig, FEATURES | {"oft_block_size": 4}),
    (BOFTConfig, FEATURES | {"boft_block_size": 4}),
    (HRAConfig, FEATURES),
    (VeraConfig, FEATURES | {"r": 4}),
    (FourierFTConfig, FEATURES | {"n_frequency": 10}),
    (VBLoRAConfig, FEATURES | {"vector_length": 1, "num_vectors": 2}),
]
FAMILIES = {"hubert": HubertConfig, "wav2vec2": Wav2Vec2Config}


@pytest.fixture(scope="session")
def students(tmp_path_factory):
    """Save a student of each family; returns family to folder."""
    places = {}
    for name, family in FAMILIES.items():
        torch.manual_seed(0)
        encoder = family(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, conv_dim=(16, 16),
            conv_stride=(4, 4), conv_kernel=(8, 8), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
            layerdrop=0.0, mask_time_prob=0.0, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
            feat_proj_dropout=0.0,
        )  # fmt: skip
        config = OSKDFTConfig(encoder, adapter_size=4, embedding_size=8, head_type="statistics_pooling")
        places[name] = str(tmp_path_factory.mktemp("students") / name)
        OSKDFTForXVector(config).save_pretrained(places[name])
    return places


@pytest.mark.parametrize(("config_cls", "config_kwargs"), CONFIGS)
@pytest.mark.parametrize("family", FAMILIES)
class TestStudents(PeftCommonTester):
    """Run each method on each family, without the tests that need tokens or generate text (prompts, beams)."""

    transformers_class = AutoModelForAudioXVector

    def prepare_inputs_for_testing(self):
        """Make two waveforms of noise, (2, 1024) samples, and the mask of the padding of the second."""
        generator = torch.Generator().manual_seed(0)
        mask = torch.ones(2, 1024, dtype=torch.long)
        mask[1, 700:] = 0
        return {"input_values": torch.randn(2, 1024, generator=generator) * mask, "attention_mask": mask}

    def test_attributes(self, students, family, config_cls, config_kwargs):
        self._test_model_attr(students[family], config_cls, dict(config_kwargs))

    def test_adapter_name(self, students, family, config_cls, config_kwargs):
        self._test_adapter_name(students[family], config_cls, dict(config_kwargs))

    def test_save_pretrained(self, students, family, config_cls, config_kwargs):
        self._test_save_pretrained(
            students[family], config_cls, set_init_weights_false(config_cls, dict(config_kwargs))
        )

    def test_load_multiple_adapters(self, students, family, config_cls, config_kwargs):
        self._test_load_multiple_adapters(students[family], config_cls, dict(config_kwargs))

    def test_training(self, students, family, config_cls, config_kwargs):
        self._test_training(students[family], config_cls, dict(config_kwargs))

    @pytest.mark.parametrize("use_reentrant", [True, False])
    def test_gradient_checkpointing(self, students, family, config_cls, config_kwargs, use_reentrant):
        if "modules_to_save" in config_kwargs:
            pytest.skip("the head is trained as well, and this test expects gradients in the method's weights alone")
        self._test_training_gradient_checkpointing(students[family], config_cls, dict(config_kwargs), use_reentrant)

    def test_inference_safetensors(self, students, family, config_cls, config_kwargs):
        self._test_inference_safetensors(students[family], config_cls, dict(config_kwargs))

    def test_delete_adapter(self, students, family, config_cls, config_kwargs):
        self._test_delete_adapter(students[family], config_cls, dict(config_kwargs))

    def test_unload_adapter(self, students, family, config_cls, config_kwargs):
        self._test_unload_adapter(
            students[family], config_cls, set_init_weights_false(config_cls, dict(config_kwargs))
        )

    def test_merge(self, students, family, config_cls, config_kwargs):
        self._test_merge_layers(students[family], config_cls, set_init_weights_false(config_cls, dict(config_kwargs)))
