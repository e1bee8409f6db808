"""The facts beside a graph; tests/export/test_other_formats.py runs the graphs."""

import json

import pytest

from modeling_oskdft.embedding.other_runtimes import _facts_beside


def test_facts_are_texts(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"fingerprint": "b" * 64, "shortest_input": 400}))
    assert _facts_beside(tmp_path / "model.xml") == {"fingerprint": "b" * 64, "shortest_input": "400"}


def test_a_graph_of_another_program(tmp_path):
    with pytest.raises(ValueError, match="model.json is not beside it"):
        _facts_beside(tmp_path / "model.xml")
