import json

import pytest

from modeling_oskdft.embedding.graphs import digest_of_graph
from modeling_oskdft.export.folder import PAGES, WRITTEN, check_place, copy_programs, fill_with_measurements


def test_everything_but_the_graph(saved_verifier, tmp_path):
    fingerprint = json.loads((saved_verifier / "thresholds.json").read_text())["fingerprint"]
    (tmp_path / "model.xml").write_text("graph")
    fill_with_measurements(str(saved_verifier), None, {"fingerprint": fingerprint}, tmp_path, "model.xml")
    copy_programs(tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert {page.rpartition("/")[2] for page in PAGES} <= names <= WRITTEN
    assert json.loads((tmp_path / "thresholds.json").read_text())["graph"] == digest_of_graph(tmp_path / "model.xml")


def test_thresholds_of_other_weights_stay_behind(saved_verifier, tmp_path):
    (tmp_path / "model.xml").write_text("graph")
    with pytest.warns(UserWarning, match="of other weights"):
        fill_with_measurements(str(saved_verifier), None, {"fingerprint": "f" * 64}, tmp_path, "model.xml")
    assert not (tmp_path / "thresholds.json").exists()


def test_a_place_that_holds_something_else(tmp_path):
    check_place(tmp_path / "new")
    check_place(tmp_path)
    (tmp_path / "model.onnx").write_text("not ours")
    with pytest.raises(ValueError, match="is no export of this package"):
        check_place(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="holds mine"):
        check_place(tmp_path)
