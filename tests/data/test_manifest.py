import shutil

import pytest

from modeling_oskdft.data.sources import load_manifest


def test_parquet_round_trip_and_a_moved_root(tmp_path, voices):
    manifest = load_manifest(voices)
    manifest.save(tmp_path / "deep" / "m.parquet")
    assert not list(tmp_path.rglob("*.partial"))
    again = load_manifest(tmp_path / "deep" / "m.parquet")
    assert again.table.equals(manifest.table.cast(again.table.schema)) and again.audio(0) == manifest.audio(0)
    shutil.copytree(voices, tmp_path / "moved")
    moved = load_manifest(tmp_path / "deep" / "m.parquet", data_root=tmp_path / "moved")
    assert str(moved.audio(5)).startswith(str(tmp_path / "moved"))
    with pytest.raises(FileNotFoundError, match="as data_root"):
        load_manifest(tmp_path / "deep" / "m.parquet", data_root=tmp_path / "nowhere")
