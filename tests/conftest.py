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
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor
from transformers.utils import logging

from modeling_oskdft.audio.synthetic_voices import write_voices
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.scoring.thresholds import Thresholds
from tests.tiny import SHORT, tiny_verifier

logging.disable_progress_bar()
if torch.backends.cpu.get_cpu_capability() != "AVX512" and torch.cpu._is_avx512_supported():
    # Where ATEN_CPU_CAPABILITY hides AVX-512 of a processor that has it, torch 2.13's flash attention in bfloat16 ends
    # in "pack_vnni2 is only supported when avx512 is supported". A processor without it never comes there.
    torch.backends.cuda.enable_flash_sdp(False)
SHARED = Path(__file__).resolve().parents[2] / "shared"


# Files of few tests that take long: two processes would wait for the last of them, so they come first.
LONGEST = (
    *("training/test_distributed.py", "test_wheel.py", "training/callbacks/test_signals.py", "hub/test_upload.py"),
    *("hub/test_datasets.py", "examples/test_one_step_or_two.py", "benchmark/test_benchmarks.py", "test_recipes.py"),
    *("evaluation/test_page.py", "examples/test_robustness.py", "test_security.py", "test_snippets.py"),
    *(
        "spaces/in_browser/test_page_answers.py",
        "spaces/in_browser/test_page_kept.py",
        "export/test_other_formats.py",
        "export/test_onnx_graph.py",
    ),
)


def pytest_collection_modifyitems(items):
    """Bring the longest files to the front; the others keep their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(Path(item.path), len(LONGEST)))


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
def people_of_now(tmp_path_factory):
    """24 made-up speakers with two recordings each."""
    return write_voices(tmp_path_factory.mktemp("now"), speakers=24, sessions=2, utterances=1, seed=11)


@pytest.fixture(scope="session")
def people_of_before(tmp_path_factory, voices):
    """10 other speakers whose second recording is a quieter copy of the first: any verifier tells them apart."""
    place = tmp_path_factory.mktemp("before")
    for speaker in sorted(voices.iterdir()):
        recording = sorted(speaker.rglob("*.flac"))[0]
        samples, rate = soundfile.read(recording)
        for number, gain in enumerate((1.0, 0.8)):
            path = place / f"before_{speaker.name}" / f"session{number}" / "a.flac"
            path.parent.mkdir(parents=True)
            soundfile.write(path, gain * samples, rate)
    return place


@pytest.fixture(scope="session")
def manifest(voices) -> Manifest:
    return load_manifest(voices)


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The path of an ffmpeg; tests of m4a skip without one."""
    from modeling_oskdft.audio.ffmpeg import find_ffmpeg

    try:
        return find_ffmpeg()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def voxceleb(tmp_path, voices) -> Path:
    """Both sets as they are unpacked, tiny: VoxCeleb1 dev (6 speakers) and test (2), VoxCeleb2 dev (8), as WAV."""
    speakers = sorted(voices.iterdir())
    places = [(f"1/dev/wav/id{10001 + number}", speakers[number]) for number in range(6)]
    places += [(f"1/test/wav/id{10270 + number}", speakers[6 + number]) for number in range(2)]
    places += [(f"2/dev/aac/id{12 + number:05d}", speakers[number]) for number in range(8)]
    for place, speaker in places:
        for session in sorted(speaker.iterdir()):
            for number, file in enumerate(sorted(session.iterdir())):
                target = tmp_path / "vox" / place / f"video-{session.name}" / f"{number:05d}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                samples, rate = soundfile.read(file)
                soundfile.write(target, samples, rate)
    names = [f"id{10270 + n}/video-session{s}/{u:05d}.wav" for n in range(2) for s in range(2) for u in range(2)]
    lines = [f"{int(a[:7] == b[:7])} {a} {b}\n" for a in names for b in names if a < b]
    (tmp_path / "vox/1/veri_test2.txt").write_text("".join(lines))
    return tmp_path / "vox"


@pytest.fixture(scope="session")
def feature_extractor():
    return Wav2Vec2FeatureExtractor(return_attention_mask=True)


@pytest.fixture(scope="session")
def saved_verifier(tmp_path_factory, feature_extractor) -> Path:
    """A folder with a verifier and thresholds of its own: 0.5 at the EER, none at 0.1 % false accepts."""
    place = tmp_path_factory.mktemp("verifier") / "saved"
    model = tiny_verifier(encoder=SHORT)
    model.save_pretrained(place)
    feature_extractor.save_pretrained(place)
    values = {"eer": 0.5, "far_1_percent": 0.999999, "far_0.1_percent": None}
    Thresholds(values, 100, 50, 40, "made up", model.fingerprint()).save(place)
    return place


@pytest.fixture(scope="session")
def exported(saved_verifier) -> Path:
    """What `oskdft export` makes of it: an export takes seconds."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")
    from modeling_oskdft.export.onnx_graph import export_onnx

    export_onnx(saved_verifier, saved_verifier.with_name("exported"))
    return saved_verifier.with_name("exported")
