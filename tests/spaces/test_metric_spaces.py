"""The three metric Spaces compute what `modeling_oskdft.scoring` computes, loaded by `evaluate.load`."""

import importlib.util
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import metadata_load

from modeling_oskdft.benchmark.browser import served
from modeling_oskdft.data.trials import read_scores
from modeling_oskdft.hub.upload import files_of_space
from modeling_oskdft.scoring.likelihood_ratios import cllr, min_cllr
from modeling_oskdft.scoring.metrics import equal_error_rate, min_detection_cost
from tests.forked import run_python

ROOT = Path(__file__).resolve().parents[2]
SPACES = ROOT / "spaces"
INF = float("inf")
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # the colours that the Hub takes
# Code after this can connect to this machine alone.
ALONE = """
import socket
connect = socket.socket.connect
def connect_here(self, address):
    assert not isinstance(address, tuple) or address[0] == "127.0.0.1", address
    return connect(self, address)
socket.socket.connect = connect_here
"""
NAMES = ("eer", "min_dcf", "cllr")
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function that loads a metric by its folder's name; evaluate's caches are temporary."""
    evaluate = pytest.importorskip("evaluate", reason="evaluate is missing: pip install 'modeling-oskdft[metrics]'")
    caches = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", caches / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", caches / "metrics")
        patch.setattr(sys, "path", [*sys.path])
        yield lambda name, **options: evaluate.load(str(SPACES / name), **options)
    for name in [name for name in sys.modules if name.startswith("evaluate_modules")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def measure(load):
    """A function that computes one of the metrics, with the arguments of the package's functions."""
    metrics = {name: load(name, keep_in_memory=True) for name in NAMES}
    return lambda name, scores, labels, **costs: metrics[name].compute(predictions=scores, references=labels, **costs)


def of_the_package(name, scores, labels, **costs):
    if name == "min_dcf":
        return {"min_dcf": min_detection_cost(scores, labels, **costs)}
    if name == "cllr":
        return {"cllr": cllr(scores, labels), "min_cllr": min_cllr(scores, labels)}
    rate = equal_error_rate(scores, labels)
    return {"eer": rate.value, "threshold": rate.threshold}


def random_trials(generator, size):
    """Half of the sets are full of ties."""
    scores, labels = generator.normal(size=size), generator.integers(0, 2, size)
    labels[:2] = 0, 1
    return (scores.round() if generator.random() < 0.5 else scores), labels


@each
def test_random_trials_get_the_number_of_the_package(measure, name):
    generator = np.random.default_rng(7)
    for _ in range(100):
        scores, labels = random_trials(generator, generator.integers(2, 60))
        costs = {}
        if name == "min_dcf":
            p_target, c_miss, c_fa = generator.uniform(0.001, 0.999), *generator.uniform(0.1, 10, size=2)
            costs = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
        assert measure(name, scores, labels, **costs) == of_the_package(name, scores, labels, **costs)


@each
@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.5] * 4, [1, 0, 0, 1]),
        ([INF, 0.0, -INF, 0.0], [1, 0, 0, 1]),
        ([-INF, INF, 0.3], [1, 0, 1]),
        ([INF, INF, -INF, -INF], [0, 1, 1, 0]),
        ([0.0, -0.0, 1.0], [1, 0, 1]),
        ([1.0, np.nextafter(1.0, 2.0)], [1, 0]),  # one number in 32 bits
        ([1e308, -1e308], [0, 1]),
        ([3, 2, 1], [True, False, True]),
        (np.float32([0.3, 0.1, 0.2]), np.uint8([1, 0, 1])),
        (torch.tensor([0.3, 0.1, 0.2]), torch.tensor([0, 1, 1])),
    ],
)
def test_odd_trials_get_the_number_of_the_package(measure, name, scores, labels):
    np.testing.assert_equal(measure(name, scores, labels), of_the_package(name, scores, labels))


def test_numbers_by_hand(measure):
    trials = [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]
    assert measure("eer", *trials)["eer"] == pytest.approx(0.5)
    assert measure("min_dcf", *trials) == pytest.approx({"min_dcf": 0.5})
    assert measure("cllr", [0.0, 0.0], [1, 0]) == pytest.approx({"cllr": 1.0, "min_cllr": 1.0})
    assert measure("min_dcf", [1, 2, 3], [1, 1, 0], p_target=0.5, c_miss=3) == pytest.approx({"min_dcf": 1.0})


@each
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [1, 1], "All 2 trials are of one class"),
        ([], [], "All 0 trials are of one class"),
        ([1, np.nan], [0, 1], "The scores have a NaN: every trial needs a number"),
        ([1, None], [0, 1], "The scores have a NaN"),
        ([1, 2], [0, 2], r"The labels have 2\.0: use 1"),
        ([1, 2], [0.7, 1], r"The labels have 0\.7: use 1"),
        ([1, 2], [-1, 1], "The labels have -1"),
        # evaluate's own sentence: it cannot hold columns of two lengths.
        ([1, 2, 3], [0, 1], r"Mismatch in the number of predictions \(3\) and references \(2\)"),
    ],
)
def test_bad_trials_get_one_sentence_and_leave_nothing_behind(measure, name, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        measure(name, scores, labels)
    assert measure(name, [3, 2, 1], [1, 0, 1]) == of_the_package(name, [3, 2, 1], [1, 0, 1])


def test_a_bad_prior_is_named(measure):
    with pytest.raises(ValueError, match="p_target is 1.5"):
        measure("min_dcf", [1, 0], [1, 0], p_target=1.5)


@each
@pytest.mark.parametrize("keep_in_memory", [False, True], ids=["on disk", "in memory"])
def test_trials_that_come_in_parts_are_those_that_come_at_once(load, name, keep_in_memory):
    scores, labels = random_trials(np.random.default_rng(3), 500)
    expected = of_the_package(name, scores, labels)
    metric = load(name, keep_in_memory=keep_in_memory)
    assert metric.compute(predictions=scores, references=labels) == expected
    for start in range(0, 500, 64):
        batch = slice(start, start + 64)
        metric.add_batch(predictions=torch.tensor(scores[batch]), references=torch.tensor(labels[batch]))
    assert metric.compute() == expected
    for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
        metric.add(prediction=score, reference=label)
    assert metric.compute() == expected


def test_evaluate_combines_them_by_their_names(load):
    evaluate = pytest.importorskip("evaluate")
    scores, labels = random_trials(np.random.default_rng(4), 50)
    combined = evaluate.combine([load("eer"), load("min_dcf")]).compute(predictions=scores, references=labels)
    assert combined == of_the_package("eer", scores, labels) | of_the_package("min_dcf", scores, labels)


def run(code, home, folder=ROOT, **environment):
    """The output of a new process, with every cache below `home` and no network."""
    pytest.importorskip("evaluate", reason="evaluate is missing: pip install 'modeling-oskdft[metrics]'")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    added = {"HF_HUB_OFFLINE": "1", "HF_HOME": home / "hf", "HOME": home, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    added = {name: str(value) for name, value in (added | environment).items()}
    process = run_python("-c", ALONE + code, environment=kept | added, folder=folder, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


@each
def test_the_example_of_the_page_prints_the_output_of_the_page(tmp_path, name):
    text = (SPACES / name / "README.md").read_text()
    (code,), (output,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "text"))
    assert run(code, tmp_path) == output
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_they_load_from_a_hub(tmp_path):
    """A Hub of this machine that has the files where the real one has them."""
    for name in NAMES:
        (tmp_path / "hub/spaces/org" / name / "resolve").mkdir(parents=True)
        (tmp_path / "hub/spaces/org" / name / "resolve/main").symlink_to(SPACES / name)
    code = "import evaluate\nfor name in ('org/eer', 'org/min_dcf', 'org/cllr'):\n    metric = evaluate.load(name)\n"
    code += "    print(metric.compute(predictions=[0.9, 0.1], references=[1, 0]))\n"
    with served(tmp_path / "hub") as address:
        place = {"HF_ENDPOINT": address.rstrip("/"), "NO_PROXY": "localhost"}
        # evaluate counts downloads at an address that is not the Hub's.
        output = run(code, tmp_path, tmp_path, HF_UPDATE_DOWNLOAD_COUNTS="0", **place)
    assert output.startswith("{'eer': 0.0, 'threshold': 0.9}\n{'min_dcf': 0.0}\n{'cllr': 0.")


@each
def test_the_front_matter_is_that_of_a_metric_space(name):
    front = metadata_load(SPACES / name / "README.md")
    assert front["sdk"] == "gradio" and front["sdk_version"] == "6.31.0" and front["license"] == "apache-2.0"
    assert front["tags"] == ["evaluate", "metric", "speaker-verification"]
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert front["title"] and front["emoji"] and len(front["short_description"]) <= 60
    assert (SPACES / name / front["app_file"]).is_file()


@pytest.mark.parametrize("name", [*NAMES, "speaker-verification"])
def test_the_space_installs_what_the_package_beside_it_needs(name):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    listed = (SPACES / name / "requirements.txt").read_text().splitlines()
    assert set(wanted) <= set(listed) and not [line for line in listed if line.startswith("modeling")]


@pytest.fixture(params=NAMES)
def app(request, load, tmp_path, monkeypatch):
    """The module of a Space's page, made of the files that are pushed and of no others; `name` is the Space's."""
    pytest.importorskip("gradio", reason="gradio is missing: pip install 'modeling-oskdft[space]'")
    for file in files_of_space(SPACES / request.param):
        shutil.copy(SPACES / request.param / file, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("metric_page", request.param):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location(f"app_of_{request.param}", tmp_path / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.name, module.trials = request.param, getattr(module, "TRIALS", sys.modules["metric_page"].TRIALS)
    return module


@each
def test_a_push_sends_the_page_and_the_metric(name):
    assert {"app.py", "metric_page.py", f"{name}.py", "requirements.txt"} <= set(files_of_space(SPACES / name))
    page = SPACES / name / "metric_page.py"
    assert page.read_bytes() == (SPACES / "eer" / "metric_page.py").read_bytes()


def test_the_page_builds_and_measures_what_is_pasted_or_uploaded(app, tmp_path):
    page = app.build()
    assert list(page.get_api_info()["named_endpoints"]) == ["/measure"]
    # No number is shown before it was measured: the page measures the trials that it begins with.
    assert [event.targets[0][1] for event in page.fns.values()] == ["click", "load"]
    (pasted,) = (block for block in page.blocks.values() if getattr(block, "label", "") == "Trials")
    assert pasted.value.split() == app.trials.split()
    scores, labels = read_scores(app.trials)
    expected = of_the_package(app.name, scores, labels)
    expected = expected["min_dcf"] if app.name == "min_dcf" else tuple(expected.values())
    assert len(scores) == 8 and app.measure(app.trials) == expected
    file = tmp_path / "trials.csv"
    file.write_bytes(b"\xef\xbb\xbf" + app.trials.replace(" ", ",").replace("\n", "\r\n").encode())
    assert app.measure("not read", str(file)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.9 1\n\nscore label", "Line 3 is 'score label': give a score and then 1 or 0"),
        ("0.9", "Line 1 is '0.9'"),
        ("0.9 1 0.8 0", "Line 1 is"),
        ("0.9 2", "Line 1 is '0.9 2'"),
        ("nan 1\n0.8 0", "The scores have a NaN"),
        ("0.9 1\n0.8 1", "All 2 trials are of one class"),
        ("", "All 0 trials are of one class"),
    ],
)
def test_the_page_says_what_is_wrong_in_one_sentence(app, text, message):
    with pytest.raises(Exception, match=message) as raised:
        app.measure(text)
    assert type(raised.value).__name__ == "Error"
    if app.name == "min_dcf":
        with pytest.raises(Exception, match="three positive numbers"):
            app.measure(app.trials, None, None)
        with pytest.raises(Exception, match="p_target is 2"):
            app.measure(app.trials, None, 2)
