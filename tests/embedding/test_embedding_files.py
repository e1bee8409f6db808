import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from modeling_oskdft.embedding.embedding_files import check_embedding_file, write_embeddings

NAMES = ["a.wav", "b c.wav", "a.wav"]
VALUES = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["npz", "parquet", "csv", "jsonl"])
def test_the_suffix_is_the_format_and_the_numbers_come_back(tmp_path, suffix):
    file = tmp_path / f"e.{suffix}"
    check_embedding_file(file)
    write_embeddings(file, NAMES, VALUES)
    if suffix == "npz":
        names, values = (np.load(file)[key] for key in ("paths", "embeddings"))
    elif suffix == "parquet":
        table = pq.read_table(file)
        names, values = table.column("path").to_pylist(), np.array(table.column("embedding").to_pylist(), np.float32)
    elif suffix == "csv":
        rows = [line.split(",") for line in file.read_text().splitlines()]
        assert rows[0] == ["path", "e0", "e1", "e2", "e3"]
        names, values = [row[0] for row in rows[1:]], np.array([row[1:] for row in rows[1:]], np.float32)
    else:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        names, values = [line["path"] for line in lines], np.array([line["embedding"] for line in lines], np.float32)
    assert list(names) == NAMES
    np.testing.assert_array_equal(values, VALUES)


def test_other_formats_and_places_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="e.txt': give a name that ends in .npz, .parquet, .csv, .jsonl"):
        check_embedding_file(tmp_path / "e.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder, which is not replaced"):
        check_embedding_file(tmp_path / "folder.csv")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.csv"]
