import pytest
from huggingface_hub import constants

from modeling_oskdft.commands.main import main
from modeling_oskdft.embedding.locations import check_name


def test_a_repository_is_asked_for_once(tmp_path, monkeypatch):
    requests = []

    class Hub:
        def model_info(self, name, timeout, token):
            requests.append((name, timeout, token))
            raise ConnectionError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeling_oskdft.embedding.locations.HfApi", Hub)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    with pytest.raises(FileNotFoundError, match="the Hub cannot be asked for such a repository"):
        check_name("org/model")
    assert requests == [("org/model", 10.0, None)]


@pytest.mark.parametrize("command", [["verify", "a.wav", "b.wav", "--model"], ["embed", "a.wav", "--json", "--model"]])
def test_a_mistyped_path_is_one_sentence(command, capsys):
    assert main([*command, "./nothere"]) == 2
    sentence = capsys.readouterr().err
    assert "There is no folder at './nothere' (it is not there)" in sentence and sentence.count("\n") == 1
