import json
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest

from modeling_oskdft.data.prepare_voxceleb import TRIAL_LISTS, VOXCELEB1, VOXCELEB2, prepare_voxceleb, speaker_roots
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import read_trials


def test_three_manifests_a_trial_list_and_every_difference(tmp_path, voxceleb):
    result = prepare_voxceleb(voxceleb / "1", voxceleb / "2", tmp_path / "out", workers=1)
    manifests = {
        name: load_manifest(tmp_path / "out" / f"{name}.parquet")
        for name in ("voxceleb1_dev", "voxceleb1_test", "voxceleb2_dev")
    }
    assert [(len(manifest), len(manifest.speakers)) for manifest in manifests.values()] == [(24, 6), (8, 2), (32, 8)]
    assert manifests["voxceleb1_dev"].column("utterance_id")[0] == "id10001/video-session0/00000"
    trials = read_trials(tmp_path / "out" / "voxceleb1_o_cleaned.txt")
    assert set(trials.utterances()) == set(manifests["voxceleb1_test"].column("utterance_id"))
    assert result.trials == {"voxceleb1_o_cleaned.txt": 28}
    differences = "\n".join(result.differences)
    assert "VoxCeleb1 dev has 6 speakers where 1,211 were published: 1,205 are missing." in differences
    assert "VoxCeleb2 dev has 32 utterances where 1,092,009 were published: 1,091,977 are missing." in differences
    assert "VoxCeleb1-O, cleaned has 28 trials where 37,611 were published" in differences
    assert "The list of VoxCeleb1-H, cleaned (list_test_hard2.txt) is not in" in differences
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["differences"] == result.differences and report["manifests"][0]["speakers"] == 6


def test_dev_and_test_in_one_folder_come_apart_by_their_numbers(tmp_path, voxceleb):
    shutil.move(voxceleb / "1/test/wav", voxceleb / "1/more")
    for speaker in list((voxceleb / "1/more").iterdir()):
        shutil.move(speaker, voxceleb / "1/dev/wav")
    result = prepare_voxceleb(voxceleb / "1/dev/wav", None, tmp_path / "out", voxceleb / "1", workers=1)
    assert [preparation.utterances for preparation in result.manifests] == [24, 8]


def test_a_part_in_two_folders_is_put_together_without_seconds(tmp_path, voxceleb):
    shutil.copytree(voxceleb / "1/dev/wav/id10001", voxceleb / "1/dev_b/wav/id10001")  # the same once more
    shutil.move(voxceleb / "1/dev/wav/id10002", voxceleb / "1/dev_b/wav/id10002")
    with pytest.warns(UserWarning, match="has another file before it"):
        result = prepare_voxceleb(voxceleb / "1", None, tmp_path / "out", workers=1)
    assert result.manifests[0].utterances == 24 and len(result.manifests[0].skipped) == 4
    manifest = load_manifest(tmp_path / "out" / "voxceleb1_dev.parquet")
    assert "id10002/video-session0/00000" in manifest.column("utterance_id")
    assert all((manifest.root / path).is_file() for path in manifest.column("path"))
    assert any("VoxCeleb1 dev: 4 files were skipped" in difference for difference in result.differences)


def test_strangers_test_parts_and_extra_files_are_named(tmp_path, voxceleb):
    shutil.copytree(voxceleb / "1/dev/wav/id10001", voxceleb / "1/dev/wav/id00099")
    shutil.copytree(voxceleb / "1/dev/wav/id10001", voxceleb / "1/dev/wav/notes")
    shutil.copytree(voxceleb / "2/dev/aac/id00012", voxceleb / "2/test/aac/id00017")
    session = voxceleb / "1/test/wav/id10270/video-session0"
    for number in range(2, 8):
        shutil.copy(session / "00000.wav", session / f"0000{number}.wav")
    result = prepare_voxceleb(voxceleb / "1", voxceleb / "2", tmp_path / "out", workers=1)
    differences = "\n".join(result.differences)
    assert "2 folders that are no speakers of VoxCeleb1 (id00099, notes): left out" in differences
    assert "is a test part of VoxCeleb2 and was left out" in differences
    assert [preparation.utterances for preparation in result.manifests] == [24, 14, 32]


def test_m4a_is_transcoded_and_the_second_run_does_nothing_twice(tmp_path, voxceleb, ffmpeg):
    for file in list((voxceleb / "2").rglob("*.wav")):
        subprocess.run([ffmpeg, "-v", "error", "-i", file, file.with_suffix(".m4a")], check=True)
        file.unlink()
    last = file.with_suffix(".m4a")
    last.write_bytes(last.read_bytes()[:300])
    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot be transcoded"):
            result = prepare_voxceleb(None, voxceleb / "2", tmp_path / "out", workers=2)
    manifest = load_manifest(tmp_path / "out" / "voxceleb2_dev.parquet")
    assert len(manifest) == 31 and result.manifests[0].utterances == 31
    assert manifest.audio(0).endswith("out/voxceleb2_dev_flac/id00012/video-session0/00000.flac")


def test_names_that_only_look_like_a_test_part_are_kept(tmp_path, voxceleb):
    shutil.move(voxceleb / "2/dev", voxceleb / "2/latest")
    assert prepare_voxceleb(None, voxceleb / "2", tmp_path / "out", workers=1).manifests[0].utterances == 32


def test_a_wrong_depth_makes_no_speaker_and_links_no_seconds(tmp_path, voxceleb):
    deep = voxceleb / "1/dev/wav/id10001/video-session0/extra"
    deep.mkdir()
    shutil.copy(deep.parent / "00000.wav", deep / "1.wav")
    (voxceleb / "1" / "self").symlink_to(voxceleb / "1")
    with pytest.warns(UserWarning, match="extra/1.wav': it does not lie at speaker/session/utterance"):
        result = prepare_voxceleb(voxceleb / "1", None, tmp_path / "out", workers=1)
    assert len(result.manifests[0].speakers) == 6 and result.manifests[0].utterances == 24


def test_a_web_page_under_a_list_s_name_costs_nothing_but_the_list(tmp_path, voxceleb):
    (voxceleb / "1" / "veri_test.txt").write_text("<html>404</html>")
    result = prepare_voxceleb(voxceleb / "1", None, tmp_path / "out", workers=1)
    assert any(
        "VoxCeleb1-O, original cannot be read and was left out" in difference for difference in result.differences
    )
    assert result.trials == {"voxceleb1_o_cleaned.txt": 28}


def test_the_report_is_written_when_there_is_too_much_to_skip(tmp_path, voxceleb):
    for file in (voxceleb / "1").rglob("*.wav"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="More than 3 files had to be skipped"):
        prepare_voxceleb(voxceleb / "1", None, tmp_path / "out", workers=1, max_damaged=3)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["manifests"][0]["skipped"]) == 4


def test_bad_folders_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="Neither voxceleb1 nor voxceleb2"):
        prepare_voxceleb(None, None, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        prepare_voxceleb(tmp_path / "no", None, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folders of speakers"):
        prepare_voxceleb(tmp_path, None, tmp_path / "out")
    assert speaker_roots(tmp_path) == []


def test_the_published_counts_add_up(shared):
    """Both O lists are here: their counts are counted. The parts add up to the published whole sets."""
    lists = {trial_list.published: trial_list.trials for trial_list in TRIAL_LISTS}
    for name in ("veri_test.txt", "veri_test2.txt"):
        trials = read_trials(shared / "data" / "voxceleb_trials" / name)
        assert len(trials.labels) == lists[name]
        speakers = {name.split("/")[0] for name in trials.utterances()}
        assert all(VOXCELEB1[1].has(speaker) and not VOXCELEB1[0].has(speaker) for speaker in speakers)
        assert len(speakers) == VOXCELEB1[1].speakers
    assert sum(part.utterances for part in VOXCELEB1) == 153_516 and sum(part.speakers for part in VOXCELEB1) == 1251
    assert sum(VOXCELEB1[0].has(f"id{n:05d}") for n in range(99_999)) == VOXCELEB1[0].speakers
    assert VOXCELEB2[0].has("id00012") and not VOXCELEB2[0].has("id10001")


def test_the_columns(tmp_path, voxceleb):
    prepare_voxceleb(voxceleb / "1", None, tmp_path / "out", workers=1)
    schema = pq.read_schema(tmp_path / "out" / "voxceleb1_test.parquet")
    assert schema.names == ["utterance_id", "speaker_id", "session_id", "path", "num_samples"]
