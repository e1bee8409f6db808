import json

from transformers import AutoModel

from modeling_oskdft.commands.demonstration import run, table
from modeling_oskdft.hub.upload import check_model
from modeling_oskdft.scoring.thresholds import Thresholds


def test_the_whole_line_on_a_few_voices(tmp_path, capsys):
    results = run(
        tmp_path, teacher_epochs=1, student_epochs=1, train_speakers=6, test_speakers=4, threshold_speakers=3
    )
    assert json.loads((tmp_path / "results.json").read_text()) == results
    teacher, student = results["systems"]["teacher"], results["systems"]["student"]
    assert student["parameters"] < teacher["parameters"] and student["megabytes"] < teacher["megabytes"]
    assert 0.25 < results["energy_only"]["eer"] < 0.6
    assert student["report"]["speakers"] == 4, "speakers held out of training"
    verdicts = results["verdicts"]
    thresholds = Thresholds.load(tmp_path / "student/thresholds.json")
    assert thresholds.speakers == 3, "nor the test's speakers"
    for verdict in verdicts:
        same = verdict["score"] >= thresholds.values["eer"]
        assert verdict["verdict"] == ("same speaker" if same else "different speakers")
    assert verdicts[0]["score"] > verdicts[1]["score"], "one epoch is enough to tell these two apart"
    assert student["report"]["eer"] < 0.4
    printed = capsys.readouterr().out
    assert (
        table(results) in printed and "| EER, % |" in printed and "| EER of level and duration alone, % |" in printed
    )
    opened = AutoModel.from_pretrained(tmp_path / "student")
    assert opened.config.encoder_config.num_hidden_layers == 2
    check_model(tmp_path / "student")
    card = (tmp_path / "student/README.md").read_text()
    assert "it is no use on people" in card and "Not measured:" not in card
