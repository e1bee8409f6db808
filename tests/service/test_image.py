"""The image of the Dockerfile, as far as it can be tried without docker: its packages are enough, without torch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import modeling_oskdft.service
from tests.bare import bare_site
from tests.service.serving import FORM, ask, form, served

SERVICE = Path(modeling_oskdft.service.__file__).parent
ROOT = Path(__file__).resolve().parents[2]


def packages():
    """What the Dockerfile installs: with what these need, and alone."""
    steps = (SERVICE / "Dockerfile").read_text()
    whole, alone = re.findall(r"pip install --no-cache-dir (?:--no-deps )?--constraint \S+ ([^&\n]+)", steps)
    return tuple(whole.split()), tuple(alone.split())


def test_the_packages_of_the_image_are_enough(tmp_path, exported, recordings, monkeypatch):
    whole, alone = packages()
    assert alone == ("silero-vad",)
    site = bare_site(tmp_path / "site", whole)
    import silero_vad  # the file alone is used; importing it imports torch

    (site / "silero_vad").symlink_to(Path(silero_vad.__file__).parent)
    assert not (site / "torch").exists() and not (site / "transformers").exists()
    # The name says that this is the command, whose packages are imported when they are needed.
    start = "import sys; sys.argv[0] = 'oskdft'; from modeling_oskdft.commands import main; sys.exit(main.main())"
    command = [sys.executable, "-S", "-P", "-c", start]
    with served(exported, "--voices", tmp_path / "voices", command=command, path=f"{site}{os.pathsep}{ROOT}") as (
        _,
        port,
    ):
        body = form(audio1=recordings[0], audio2=recordings[1])
        status, answer = ask(port, "POST", "/v1/voice/verify", body, FORM)
        assert status == 200 and -1 <= json.loads(answer)["score"] <= 1
        assert not any("Silero" in note or "level" in note for note in json.loads(answer)["warnings"])
        assert json.loads(ask(port, "GET", "/v1/models")[1])["data"][0]["backend"] == "onnxruntime"


def test_the_image_runs_without_rights_and_listens_with_a_token(exported):
    steps = (SERVICE / "Dockerfile").read_text()
    assert steps.index("USER oskdft") < steps.index("ENTRYPOINT") and '"0.0.0.0"' in steps
    environment = {name: value for name, value in os.environ.items() if name != "OSKDFT_SERVICE_TOKEN"}
    command = [sys.executable, "-m", "modeling_oskdft.commands", "serve", str(exported), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and "there is no token" in done.stderr


def test_the_dashboard_asks_for_metrics_that_exist(client_of, recordings):
    client = client_of()
    client.post("/v1/voice/verify", files={"audio1": recordings[0].read_bytes(), "audio2": recordings[1].read_bytes()})
    client.post("/v1/voice/verify")
    known = set(re.findall(r"^(\w+)[{ ]", client.get("/metrics").text, flags=re.MULTILINE))
    dashboard = json.loads((SERVICE / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"oskdft_\w+", target["expr"])
    }
    known |= {"oskdft_llr_bucket"}  # the model of this test has no calibration
    assert len(asked) >= 9 and asked <= known
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) and dashboard["uid"]
