import itertools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from modeling_oskdft import OSKDFTForXVector, SpeakerVerifier
from modeling_oskdft.audio.loading import load_audio
from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding.runtimes import OnnxEmbedder, TorchEmbedder
from modeling_oskdft.export.folder import WRITTEN
from modeling_oskdft.export.onnx_graph import export_onnx, write_graph
from modeling_oskdft.model.modeling_oskdft import shortest_input
from modeling_oskdft.scoring import thresholds
from modeling_oskdft.scoring.calibration import OperatingPoint
from modeling_oskdft.scoring.normalization import Cohort
from modeling_oskdft.scoring.thresholds import Thresholds
from modeling_oskdft.verification.decision import POINTS
from tests.bare import bare_site
from tests.scoring.test_calibration import calibration
from tests.tiny import SHORT, encoder_config, tiny_verifier

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'modeling-oskdft[export]'")
ROOT = Path(__file__).resolve().parents[2]


class Case(NamedTuple):
    family: str
    pre_norm: bool
    conv_norm: str
    head_type: str
    time_reduction: int
    fields: dict = {}
    do_normalize: bool = True


# Every pair of values of the first five: see `test_the_cases_hold_every_pair`.
CASES = [
    Case("hubert", False, "group", "ecapa_tdnn", 2),
    Case("hubert", True, "layer", "statistics_pooling", 1, {"use_weighted_layer_sum": False}),
    Case("wav2vec2", False, "layer", "ecapa_tdnn", 1, {"adapter_residual": True}),
    Case("wav2vec2", True, "group", "statistics_pooling", 2, do_normalize=False),
    Case("wavlm", False, "layer", "statistics_pooling", 2, {"adapter_size": 0}),
    Case("wavlm", True, "group", "ecapa_tdnn", 1),
]


def test_the_cases_hold_every_pair():
    for first, second in itertools.combinations(range(5), 2):
        values = [{case[field] for case in CASES} for field in (first, second)]
        assert {(case[first], case[second]) for case in CASES} == set(itertools.product(*values))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case[:5])))
def pair(request, tmp_path_factory):
    """A PyTorch verifier, and its graph in onnxruntime."""
    case = request.param
    model = tiny_verifier(
        *case[:3],
        head_type=case.head_type,
        time_reduction=case.time_reduction,
        encoder=SHORT,
        ecapa_dilations=(2,),
        ecapa_res2net_scale=2,
        **case.fields,
    )
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=case.do_normalize)
    torch_embedder = TorchEmbedder(model, extractor)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(torch_embedder, path, 20, "tiny")
    return torch_embedder, OnnxEmbedder(path)


def noise(*lengths, seed=0):
    """Waveforms with an offset and a level of their own, as recordings have them."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(0.02, 0.05 * (1 + row), samples)).astype(np.float32) for row, samples in enumerate(lengths)
    ]


def cosines(first, second):
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def test_the_graph_gives_what_pytorch_gives_at_any_length_and_batch(pair):
    shortest = shortest_input(pair[0].model.config)
    for lengths in ((shortest,), (16000,), (shortest, 4001, 9000), (3000,) * 5):
        expected, exported = (embedder.embed(noise(*lengths)) for embedder in pair)
        assert exported.shape == expected.shape == (len(lengths), 12)
        assert cosines(expected, exported).min() > 1 - 1e-4
        np.testing.assert_allclose(exported, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_padding_changes_nothing(pair):
    """The graph must not read the padding, whatever its values are."""
    waveforms = noise(2000, 9000, 4001)
    together = pair[1].embed(waveforms)
    alone = np.concatenate([pair[1].embed([waveform]) for waveform in waveforms])
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())
    values, mask = np.full((1, 6000), 0.7, np.float32), np.zeros((1, 6000), np.int64)
    values[0, :2000], mask[0, :2000] = waveforms[0], 1
    (loud,) = pair[1].session.run(None, {"input_values": values, "attention_mask": mask})
    np.testing.assert_allclose(loud[0], alone[0], atol=1e-4 * np.abs(alone).max())


@pytest.fixture(scope="module")
def recordings(voices):
    return sorted(str(file) for file in voices.rglob("*.flac"))[:6]


def test_the_folder_of_an_export_and_the_metadata_of_its_graph(exported, saved_verifier):
    import onnx

    measured = {"calibration.json", "cohort.safetensors"}  # this model has neither
    others = {"model.xml", "model.bin", "model.pte"}  # of other formats
    assert {file.name for file in exported.iterdir()} == WRITTEN - measured - others
    assert "MIT" in (exported / "silero_vad.LICENSE").read_text()
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""} and model.opset_import[0].version == 20
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["input_values"] == shapes["attention_mask"] and len(set(shapes["input_values"])) == 2
    assert shapes["embeddings"] == [shapes["input_values"][0], 12]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    torch_verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    assert facts["fingerprint"] == torch_verifier.fingerprint() and facts["sampling_rate"] == "16000"
    assert facts["shortest_input"] == str(shortest_input(torch_verifier.embedder.model.config))
    graph = (exported / "model.onnx").read_bytes()
    assert b"site-packages" not in graph and str(ROOT).encode() not in graph, "paths of this machine were removed"


def test_an_export_is_replaced_and_nothing_else_is(exported, saved_verifier, tmp_path, capsys):
    place = tmp_path / "place"
    shutil.copytree(exported, place)
    (place / "thresholds.json").write_text("{}")
    report = export_onnx(saved_verifier, place, opset=18)
    assert report.opset == 18 and report.cosine > 1 - 1e-6
    assert report.bytes == (place / "model.onnx").stat().st_size
    assert Thresholds.load(place / "thresholds.json") == Thresholds.load(saved_verifier / "thresholds.json")
    assert [file.name for file in tmp_path.iterdir()] == ["place"]
    before = sorted(file.name for file in saved_verifier.iterdir())
    assert main(["export", str(saved_verifier), "--out", str(saved_verifier)]) == 2
    assert "which no export wrote: give a folder that is new" in capsys.readouterr().err
    assert sorted(file.name for file in saved_verifier.iterdir()) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        export_onnx(saved_verifier, tmp_path / "file")
    (place / "model.onnx").write_bytes(b"my own")
    with pytest.raises(ValueError, match="is no export of this package: give a folder that is new or empty"):
        export_onnx(saved_verifier, place)
    assert (place / "model.onnx").read_bytes() == b"my own"


def test_a_verifier_that_cannot_be_exported_is_refused_in_one_sentence(saved_verifier, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]

    def refusal(*arguments):
        assert main(["export", *arguments, *out]) == 2
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1 and not (tmp_path / "out").exists()
        return sentence

    assert "opset is 17: 18 to 23 are supported" in refusal(str(saved_verifier), "--opset", "17")
    assert "There is no folder at" in refusal(str(tmp_path / "nothing"))
    HubertModel(encoder_config()).save_pretrained(tmp_path / "plain")
    assert "holds a HubertModel: a saved OSKDFTForXVector" in refusal(str(tmp_path / "plain"))
    shutil.copytree(saved_verifier, tmp_path / "left")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, sampling_rate=8000)
    extractor.save_pretrained(tmp_path / "left")
    assert "has sampling_rate 8000: 16000 is needed" in refusal(str(tmp_path / "left"))


def test_weights_that_give_nan_are_named(saved_verifier, tmp_path):
    broken = OSKDFTForXVector.from_pretrained(saved_verifier)
    broken.head.projection.weight.data[0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    shutil.copy(saved_verifier / "preprocessor_config.json", tmp_path / "broken")
    with pytest.raises(ValueError, match="has weights that are not finite"):
        export_onnx(tmp_path / "broken", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_killed_in_the_middle_nothing_has_the_final_name(saved_verifier, tmp_path):
    """The process dies while the folder is being written: after the graph, before the rest."""
    code = """
import os, sys, time
from pathlib import Path
from modeling_oskdft.export import onnx_graph
def stop(*_):
    print("written", flush=True)
    time.sleep(60)
onnx_graph.lowest_cosine = stop
onnx_graph.write_graph = lambda source, path, *_: path.write_bytes(b"graph")
onnx_graph.OnnxEmbedder = lambda path: None
onnx_graph.check_parity = lambda *_: None
onnx_graph.export_onnx(sys.argv[1], sys.argv[2])
"""
    command = [sys.executable, "-c", code, str(saved_verifier), str(tmp_path / "deep" / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "deep" / "out").exists()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Python with onnxruntime, numpy and soundfile, and neither torch nor this package."""
    site = bare_site(tmp_path_factory.mktemp("alone") / "site", ("onnxruntime", "numpy", "soundfile"))

    def run(*arguments, **variables):
        environment = {"PYTHONPATH": str(site), "PATH": "", "OMP_NUM_THREADS": "1"} | variables
        command = [sys.executable, "-S", "-P", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert "No module named 'torch'" in run("-c", "import torch").stderr
    assert "No module named 'modeling_oskdft'" in run("-c", "import modeling_oskdft").stderr
    return run


def test_the_program_has_the_constants_of_the_package(exported):
    program = runpy.run_path(str(exported / "verify.py"))  # numpy and onnxruntime are imported by __main__ alone
    assert program["OPERATING_POINTS"] == POINTS
    assert program["ENOUGH_SPEAKERS"] == thresholds.ENOUGH_SPEAKERS
    assert program["LARGEST_THRESHOLD"] == thresholds.LIMIT


def test_the_folder_stands_alone(exported, saved_verifier, recordings, alone, tmp_path):
    shutil.copytree(exported, tmp_path / "moved")
    page = tmp_path / "moved" / "verify.py"
    verifier = SpeakerVerifier.from_pretrained(saved_verifier)
    for point, code in (
        ("eer", {True: 0, False: 1}),
        ("far_1_percent", {True: 0, False: 1}),
        ("far_0.1_percent", {None: 3}),
    ):
        for other in (recordings[0], recordings[3]):
            expected = verifier.verify(recordings[0], other, point)
            done = alone(page, recordings[0], other, "--operating_point", point)
            assert done.returncode == code[expected.same_speaker] and done.stderr == ""
            assert f"score {expected.score:.4f}" in done.stdout
    same = alone(page, recordings[0], recordings[0]).stdout
    assert same == "same speaker (score 1.0000, threshold 0.5000)\n"


def sentence_of(done):
    """The sentence of a program that ended with an error of the input."""
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("verify.py: ") and "Traceback" not in done.stderr
    return done.stderr


def test_the_program_names_what_is_wrong_with_its_input(exported, recordings, alone, tmp_path):
    def refusal(*arguments, page=exported / "verify.py"):
        return sentence_of(alone(page, *arguments))

    def recording(name, samples, rate=16000, subtype=None):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    low = recording("low.wav", np.full(8000, 0.1), 8000)
    assert f"'{low}' is at 8000 Hz: resample it, e.g. `ffmpeg -i {low} -ar 16000 OUT.wav`" in refusal(
        recordings[0], low
    )
    assert "is silent: give" in refusal(recording("silent.wav", np.full(16000, 1e-5)), recordings[0])
    assert "is too short" in refusal(recording("short.wav", np.full(30, 0.1)), recordings[0])
    assert "There is no recording at 'nowhere.wav'" in refusal("nowhere.wav", recordings[0])
    assert "has NaN or infinite samples" in refusal(
        recordings[0], recording("nan.wav", np.full(16000, np.nan), subtype="FLOAT")
    )
    assert "prior is 2.0: a probability between 0 and 1" in refusal(recordings[0], recordings[0], "--prior", "2")
    shutil.copytree(exported, tmp_path / "other")
    stored = json.loads((exported / "thresholds.json").read_text())
    (tmp_path / "other" / "thresholds.json").write_text(json.dumps(stored | {"fingerprint": "of others"}))
    done = alone(tmp_path / "other" / "verify.py", *recordings[:2])
    assert done.returncode == 3 and done.stdout.startswith("no decision (score ")
    (tmp_path / "other" / "model.onnx").write_bytes(b"no graph")
    assert "model.onnx" in refusal(*recordings[:2], page=tmp_path / "other" / "verify.py")


def test_the_program_decides_as_the_package_does_with_a_calibration(exported, recordings, alone, tmp_path):
    place = tmp_path / "moved"
    shutil.copytree(exported, place)
    fingerprint = json.loads((exported / "thresholds.json").read_text())["fingerprint"]
    rows = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    cohort = Cohort(rows / np.linalg.norm(rows, axis=1, keepdims=True), fingerprint, 10)
    speech = np.concatenate([load_audio(recordings[0])] * 12)
    long = tmp_path / "long.wav"
    soundfile.write(long, speech, 16000)
    points = {"eer": OperatingPoint(0.5, 0, 1), "far_1_percent": None, "far_0.1_percent": None}
    for stored in (
        calibration(fingerprint=fingerprint, operating_points=points),
        calibration(fingerprint=fingerprint, operating_points=points, duration=None, score=(2.0, 1.0)),
        calibration(fingerprint=fingerprint, operating_points=points, duration=None, cohort=cohort.digest),
    ):
        cohort.save(place)
        stored.save(place)
        verifier = SpeakerVerifier.from_pretrained(place)
        for point, others in (("eer", [recordings[3], long]), ("bayes", [recordings[3]])):
            for other in others:
                expected = verifier.verify(recordings[0], other, point, prior=0.2)
                done = alone(place / "verify.py", recordings[0], other, "--operating_point", point, "--prior", "0.2")
                assert done.returncode == {True: 0, False: 1}[expected.same_speaker], done.stderr
                assert f"score {expected.score:.4f}, threshold {expected.threshold:.4f}" in done.stdout
                assert f"ratio {expected.llr:.2f}, probability {expected.probability:.4f}" in done.stdout
                assert [line.partition("warning: ")[2] for line in done.stderr.splitlines()] == list(expected.warnings)
    (place / "cohort.safetensors").write_bytes(b"no")
    assert "cohort.safetensors is missing or damaged" in sentence_of(alone(place / "verify.py", *recordings[:2]))
    for damage in ("{", '{"fingerprint": "x"}'):
        (place / "calibration.json").write_text(damage.replace("x", fingerprint))
        said = sentence_of(alone(place / "verify.py", *recordings[:2]))
        assert "calibration.json is damaged: export the verifier again, or remove the file" in said


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"fingerprint": F}', '{"fingerprint": F, "values": {"eer": NaN}}']
)
def test_damaged_thresholds_are_no_decision(exported, recordings, alone, tmp_path, content):
    shutil.copytree(exported, tmp_path / "moved")
    fingerprint = json.loads((exported / "thresholds.json").read_text())["fingerprint"]
    (tmp_path / "moved" / "thresholds.json").write_text(content.replace("F", json.dumps(fingerprint)))
    assert "thresholds.json is damaged" in sentence_of(alone(tmp_path / "moved" / "verify.py", *recordings[:2]))


def test_no_fault_of_the_program_is_taken_for_a_decision(exported, recordings, alone, tmp_path):
    """Python ends with 1 where an exception leaves it, and 1 is a decision."""
    import onnx

    page = tmp_path / "moved" / "verify.py"
    shutil.copytree(exported, page.parent)
    bare = subprocess.run(
        [sys.executable, "-S", "-P", page, "a", "b"], capture_output=True, text=True, env={"PATH": ""}
    )
    assert "No module named 'numpy': pip install numpy soundfile, and a runtime" in sentence_of(bare)
    broken = "import runpy, sys, numpy, soundfile, onnxruntime\ndef fail(*_, **__): raise {}\n{} = fail\n"
    broken += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    for error, function, sentence in (
        ("MemoryError", "soundfile.SoundFile.__init__", "MemoryError"),
        ("MemoryError", "onnxruntime.InferenceSession", "MemoryError"),
        (
            "OSError('\\n  first\\nsecond')",
            "onnxruntime.InferenceSession",
            "model.onnx cannot be opened (first): export",
        ),
    ):
        done = alone("-c", broken.format(error, function), page, *recordings[:2])
        assert sentence in sentence_of(done)
    endless = (
        "import runpy, sys, numpy\nnumpy.linalg.norm = lambda _: numpy.float32('nan')\n" + broken.splitlines()[-1]
    )
    assert "The score is not a finite number" in sentence_of(alone("-c", endless, page, *recordings[:2]))
    model = onnx.load(page.with_name("model.onnx"))
    onnx.helper.set_model_props(model, {"fingerprint": "unknown"})
    onnx.save(model, page.with_name("model.onnx"))
    assert "model.onnx was not written by `oskdft export`" in sentence_of(alone(page, *recordings[:2]))


def test_the_program_takes_any_omp_num_threads(exported, recordings, alone):
    for threads in ("", "1,2", "all"):
        done = alone(exported / "verify.py", recordings[0], recordings[0], OMP_NUM_THREADS=threads)
        assert done.returncode == 0 and done.stderr == ""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_the_program_takes_little_memory(exported, recordings, alone):
    """Peak of the whole process, and processor time of the imports.

    Nearly all of it is Python and its packages: this tiny model takes 101 MB, and the thin int8 student of
    the benchmark 93 to 98 with recordings of 3 s; the student of two layers takes 177, and longer recordings more.
    """
    code = """
import runpy, sys, time
sys.argv = sys.argv[1:]
start = time.process_time()
import numpy, onnxruntime, soundfile
print(time.process_time() - start)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    (peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(int(peak.split()[1]) / 1024)
"""
    done = alone("-c", code, exported / "verify.py", *recordings[:2])
    seconds, decision, megabytes = done.stdout.splitlines()
    assert "speaker" in decision and float(megabytes) < 125
    assert float(seconds) < 1.0  # 0.5 on an idle machine: see docs/deployment.md


def test_int8_is_near_and_reports_its_convolutions(saved_verifier, voices, recordings, tmp_path, capsys):
    import onnx

    arguments = ["export", str(saved_verifier), "--out", str(tmp_path / "int8"), "--int8", "--json"]
    assert main([*arguments, "--calibration", str(voices / "voice000")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precision"] == "int8" and report["cosine"] > 0.99
    int8, two_part, float32 = (report[f"{kind}_convolutions"] for kind in ("int8", "two_part", "float"))
    assert len(int8 + two_part + float32) == 4 and len(float32) == 1, "the convolution that reads the waveform"
    model = onnx.load(tmp_path / "int8" / "model.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    maker_of = {output: node for node in model.graph.node for output in node.output}
    assert not {node.name for node in model.graph.node if node.op_type == "Conv"} & set(two_part)
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        maker = maker_of.get(node.input[1])
        quantised = maker is not None and maker.op_type == "DequantizeLinear"
        assert quantised == (node.name in int8)
        if quantised:  # per output channel
            scales, numbers = weights[maker.input[1]], weights[maker.input[0]]
            assert numbers.data_type == onnx.TensorProto.INT8 and list(scales.dims) == [numbers.dims[0]]
    kinds = {node.op_type for node in model.graph.node}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= kinds
    assert {entry.key: entry.value for entry in model.metadata_props}["precision"] == "int8"
    expected, exported = (
        SpeakerVerifier.from_pretrained(folder, backend=backend)
        for folder, backend in ((saved_verifier, "torch"), (tmp_path / "int8", "onnxruntime"))
    )
    assert exported.thresholds == expected.thresholds
    for recording in recordings:
        float_result, int8_result = (verifier.verify(recordings[0], recording) for verifier in (expected, exported))
        assert int8_result.score == pytest.approx(float_result.score, abs=0.02)
        assert int8_result.same_speaker is float_result.same_speaker


def test_calibration_audio_of_no_use_is_refused_in_one_sentence(saved_verifier, tmp_path, capsys):
    def refusal(*arguments):
        assert main(["export", str(saved_verifier), "--out", str(tmp_path / "out"), *map(str, arguments)]) == 2
        sentence = capsys.readouterr().err
        assert sentence.count("\n") == 1 and not (tmp_path / "out").exists()
        return sentence

    assert "int8 was asked for without calibration: give a folder" in refusal("--int8")
    assert "for a float32 export: ask for int8" in refusal("--calibration", tmp_path)
    assert "split is 'train' without calibration" in refusal("--split", "train")
    (tmp_path / "empty").mkdir()
    assert "has no recordings to calibrate with" in refusal("--int8", "--calibration", tmp_path / "empty")
    assert "nowhere" in refusal("--int8", "--calibration", tmp_path / "nowhere.csv")
    (tmp_path / "silence").mkdir()
    soundfile.write(tmp_path / "silence" / "a.wav", np.full(16000, 1e-4), 16000)
    sentence = refusal("--int8", "--calibration", tmp_path / "silence")
    assert "Every calibration recording of" in sentence and "is silent or too short" in sentence


def test_a_damaged_graph_decides_nothing(exported, tmp_path, voices):
    folder = shutil.copytree(exported, tmp_path / "damaged")
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 64
    (folder / "model.onnx").write_bytes(bytes(graph))
    recordings = sorted(map(str, voices.rglob("*.flac")))[:2]
    with pytest.raises(ValueError, match="is not the graph that its thresholds.json was written for"):
        SpeakerVerifier.from_pretrained(str(folder), backend="onnxruntime")
    done = subprocess.run([sys.executable, str(folder / "verify.py"), *recordings], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "verify.py: model.onnx is damaged or was changed: export the verifier again.\n"
