"""What every runtime of exports has in common, by one that adds numbers up."""

import numpy as np
import pytest

from modeling_oskdft.embedding.exported import ExportedEmbedder
from modeling_oskdft.embedding.locations import GRAPHS
from modeling_oskdft.embedding.runtimes import exported_runtimes


class Sums(ExportedEmbedder):
    """A runtime whose embedding is the sum and the number of the samples; its graph's name says what is wrong."""

    backend, file = "sums", "model.sums"

    def load(self, path):
        if path == "damaged":
            raise RuntimeError("no graph\nmore")
        facts = {"fingerprint": "a" * 64, "shortest_input": "4", "longest_input": "8"}
        return {"fingerprint": "c"} if path == "of others" else facts, 2

    def run(self, values, mask):
        return np.stack([(values * mask).sum(1), mask.sum(1)], axis=1).astype(np.float32)


def test_padding_is_masked_and_lengths_are_bounded():
    embedder = Sums("model.sums")
    rows = embedder.embed([np.ones(4, np.float32), np.ones(7, np.float32)])
    assert rows.tolist() == [[4, 4], [7, 7]]
    with pytest.raises(ValueError, match="one frame needs 4"):
        embedder.embed([np.ones(3, np.float32)])
    with pytest.raises(ValueError, match="at most"):
        embedder.embed([np.ones(9, np.float32)])
    with pytest.raises(ValueError, match="runs on the CPU"):
        embedder.to("cuda")


def test_facts_of_another_program():
    with pytest.raises(ValueError, match="was not written by `oskdft export`"):
        Sums("of others")
    with pytest.raises(ValueError, match=r"'damaged' is no exported verifier \(no graph\): export it again"):
        Sums("damaged")


def test_each_runtime_has_a_graph_of_its_own():
    runtimes = exported_runtimes()
    assert {runtime.file for runtime in runtimes} == set(GRAPHS)
    assert len({runtime.backend for runtime in runtimes}) == len(GRAPHS)
