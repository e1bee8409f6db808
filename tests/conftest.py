"""Nothing here or below reaches a network; models are tiny and seeded."""

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor
from transformers.utils import logging

from modeling_oskdft.data.manifest import Manifest, load_manifest
from modeling_oskdft.data.synthetic_voices import write_voices

logging.disable_progress_bar()
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared():
    """The folder of reference vectors and real speech; its tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder with reference vectors and real speech is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def voices(tmp_path_factory) -> Path:
    """10 made-up speakers x 2 sessions x 2 utterances."""
    return write_voices(tmp_path_factory.mktemp("voices"), speakers=10, sessions=2, utterances=2, seed=3)


@pytest.fixture(scope="session")
def manifest(voices) -> Manifest:
    return load_manifest(voices)


@pytest.fixture(scope="session")
def feature_extractor():
    return Wav2Vec2FeatureExtractor(return_attention_mask=True)
