import copy
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from modeling_oskdft.verification.voice import Fact, Voice
from modeling_oskdft.verification.voices import VoiceStore, new_key
from tests.light import LIGHT

FACT = Fact("a" * 64, 4, "2026-11-26T10:00:00+00:00", 3.0, "signed form 12")


def voice(name, seed=0, recordings=2, size=4):
    rows = np.random.default_rng(seed).normal(size=(recordings, size)).astype(np.float32)
    return Voice(name, rows / np.linalg.norm(rows, axis=1, keepdims=True), (FACT,) * recordings)


@pytest.fixture(params=["plain", "encrypted"])
def key(request):
    return new_key() if request.param == "encrypted" else None


def test_a_round_trip(tmp_path, key):
    store = VoiceStore(tmp_path / "voices", key)
    assert len(store) == 0 and store.index().names == []
    for number, name in enumerate(["Ada", "李小龙", "👩‍👩‍👧 Zoë"]):
        store.add(voice(name, number, recordings=number + 1))
    again = VoiceStore(tmp_path / "voices", key)
    assert list(again.voices()) == ["Ada", "李小龙", "👩‍👩‍👧 Zoë"] and "Ada" in again and "Bob" not in again
    np.testing.assert_array_equal(again.get("Ada").embeddings, voice("Ada").embeddings[:1])
    assert again.get("李小龙").facts == (FACT, FACT) and again.get("Ada").speech == 3.0
    np.testing.assert_allclose(np.linalg.norm(again.index().vectors, axis=1), 1, atol=1e-6)
    assert os.stat(tmp_path / "voices").st_mode & 0o077 == 0, "others may not read it"


def test_changes_are_seen_by_other_stores(tmp_path, key):
    one, other = VoiceStore(tmp_path / "voices", key), VoiceStore(tmp_path / "voices", key)
    one.add(voice("Ada"))
    assert other.get("Ada").name == "Ada"
    other.rename("Ada", "Ada L.")
    assert list(one.voices()) == ["Ada L."]
    one.extend(voice("Ada L.", 5, recordings=1))
    assert len(other.get("Ada L.").facts) == 3
    other.forget("Ada L.")
    assert len(one) == 0


def test_a_forgotten_voice_leaves_no_byte(tmp_path):
    store = VoiceStore(tmp_path / "voices")
    store.add(voice("Ada", 1))
    store.add(voice("Bob", 2))
    wanted = [voice("Ada", 1).embeddings.tobytes(), voice("Ada", 1).embeddings[1].tobytes(), b"Ada"]
    assert all(part in (tmp_path / "voices").read_bytes() for part in wanted)
    (tmp_path / "left").write_bytes(b"")
    store.forget("Ada")
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert not any(part in content for part in wanted), file
    np.testing.assert_array_equal(store.get("Bob").embeddings, voice("Bob", 2).embeddings)


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    store = VoiceStore(tmp_path / "voices")
    store.add(voice("Ada", 1))
    seen = []
    with store._changing() as voices:
        voices["Bob"] = voice("Bob", 2)
    from modeling_oskdft.files import whole_file

    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "voices") as partial:
        left = partial.with_name(partial.name.replace(str(os.getpid()), "999999"))
        left.write_bytes(voice("Ada", 1).embeddings.tobytes())
        seen.append(left)
        raise KeyboardInterrupt
    assert seen[0].exists()
    store.forget("Ada")
    assert not seen[0].exists()


PROGRAM = """
import os, random, signal, sys, time
import numpy as np
from modeling_oskdft.verification.voice import Fact, Voice
from modeling_oskdft.verification.voices import VoiceStore

def write(path, name, operations):
    store = VoiceStore(path, patience=300)
    fact, row = Fact("a" * 64, 4, "", 1.0), np.full((1, 4), 0.5, np.float32)
    for number in range(operations):
        if number % 3 == 0:
            store.add(Voice(f"{name} {number}", row, (fact,)))
        elif number % 3 == 1:
            store.rename(f"{name} {number - 1}", f"{name} renamed {number}")
        elif number % 2:
            store.forget(f"{name} renamed {number - 1}")

def forked(*arguments):
    child = os.fork()
    if not child:
        write(*arguments)
        os._exit(0)
    return child
"""


def run(program, *arguments):
    """Run a program that forks writers; they begin without importing anything."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT + PROGRAM + program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("place", [None, "voices"])
def test_threads_of_one_process_lose_nothing(tmp_path, place):
    store, start = VoiceStore(None if place is None else tmp_path / place), threading.Barrier(8)

    def write(writer):
        start.wait()
        for number in range(12):
            store.add(voice(f"w{writer} {number}"))
            assert f"w{writer} {number}" in store.index().names

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert len(store) == len(store.index().names) == 96


def test_a_copy_of_a_store_in_memory_has_voices_of_its_own():
    store = VoiceStore()
    store.add(voice("Ada"))
    copied = copy.deepcopy(store)
    copied.add(voice("Bo"))
    assert list(store.voices()) == ["Ada"] and list(copied.voices()) == ["Ada", "Bo"]


def test_eight_writers_lose_nothing(tmp_path):
    program = """
children = [forked(sys.argv[1], f"w{number}", 200) for number in range(8)]
print([os.waitpid(child, 0)[1] for child in children])
"""
    assert run(program, tmp_path / "voices") == f"{[0] * 8}\n"
    expected = {
        f"w{writer} {f'renamed {number + 1}' if number < 198 or number % 3 == 0 else number}"
        for writer in range(8)
        for number in range(0, 200, 3)
        if (number + 2) % 2 == 0 or number + 2 >= 200
    }
    assert set(VoiceStore(tmp_path / "voices").voices()) == expected


def test_a_hundred_killed_writers_leave_the_old_store_or_the_new(tmp_path):
    program = """
known = set()
for number in range(100):
    child = forked(sys.argv[1], f"run{number}", 100000)
    time.sleep(random.Random(number).uniform(0.001, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    names = set(VoiceStore(sys.argv[1]).voices())
    assert known <= names, "voices of an earlier run are lost"
    known = {name for name in names if name.startswith("run")}
print(len(known))
"""
    assert int(run(program, tmp_path / "voices")) > 10, "the writers wrote"


def test_a_change_waits_for_another_process_only_so_long(tmp_path):
    store, impatient = VoiceStore(tmp_path / "voices"), VoiceStore(tmp_path / "voices", patience=0.05)
    store.add(voice("Ada"))
    with store._changing():
        with pytest.raises(TimeoutError, match="is being changed by another process for more than 0.05 s: try again"):
            impatient.add(voice("Bob"))
    impatient.add(voice("Bob"))
    assert list(store.voices()) == ["Ada", "Bob"]


def test_an_error_within_a_change_changes_nothing(tmp_path, key):
    store = VoiceStore(tmp_path / "voices", key)
    store.add(voice("Ada"))
    before = (tmp_path / "voices").read_bytes()
    for wrong, said in (
        (lambda: store.add(voice("Ada")), "'Ada' is enrolled already: add recordings with update"),
        (lambda: store.rename("Ada", "a/b"), "has slashes, line breaks or hidden letters"),
        (lambda: store.rename("Bob", "Eve"), "'Bob' is not enrolled: there are 'Ada'"),
        (lambda: store.forget("Bob"), "'Bob' is not enrolled"),
        (lambda: store.extend(voice("Bob")), "'Bob' is not enrolled"),
        (lambda: store.get("Bob"), "'Bob' is not enrolled"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong()
    assert (tmp_path / "voices").read_bytes() == before


def test_equal_names_in_two_forms_of_unicode_are_one(tmp_path):
    store = VoiceStore(tmp_path / "voices")
    store.add(voice("Zoe\u0308"))
    assert "Zo\u00eb" in store and store.get("Zoe\u0308").name == "Zo\u00eb"
    with pytest.raises(ValueError, match="is enrolled already"):
        store.add(voice("Zo\u00eb"))


def test_keys(tmp_path):
    path, key = tmp_path / "voices", new_key()
    VoiceStore(path, key).add(voice("Ada"))
    content = path.read_bytes()
    assert b"Ada" not in content and voice("Ada").embeddings.tobytes() not in content
    with pytest.raises(ValueError, match="The key does not open"):
        VoiceStore(path, new_key()).voices()
    with pytest.raises(ValueError, match="is encrypted: give its key"):
        VoiceStore(path).voices()
    for wrong in ("abc", "", "é", b"\xff"):
        with pytest.raises(ValueError, match="The key is not 32 bytes in base64"):
            VoiceStore(path, wrong)
    for place in (20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match="The key does not open"):
            VoiceStore(path, key).voices()
    VoiceStore(tmp_path / "plain").add(voice("Ada"))
    with pytest.raises(ValueError, match="is not encrypted: open it without a key"):
        VoiceStore(tmp_path / "plain", key).voices()


def test_a_damaged_file_is_a_sentence_and_stays(tmp_path):
    path = tmp_path / "voices"
    VoiceStore(path).add(voice("Ada"))
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\0" * 100, b"[]", content[:8] + b"x" + content[9:]):
        path.write_bytes(damaged)
        for use in (lambda: VoiceStore(path).voices(), lambda: VoiceStore(path).add(voice("Bob"))):
            with pytest.raises(ValueError, match="is no store of voices that can be read"):
                use()
        assert path.read_bytes() == damaged


def test_voices_of_another_model_are_refused():
    store = VoiceStore()
    store.add(voice("Ada"))
    store.check("a" * 64)
    with pytest.raises(ValueError, match="were embedded by another model: open that one, or embed their recordings"):
        store.check("b" * 64)


def test_a_link_and_its_file_have_one_lock(tmp_path):
    store = VoiceStore(tmp_path / "voices")
    store.add(voice("Ada"))
    (tmp_path / "link").symlink_to(tmp_path / "voices")
    linked = VoiceStore(tmp_path / "link", patience=0.05)
    with store._changing(), pytest.raises(TimeoutError):
        linked.add(voice("Bob"))
    linked.add(voice("Bob"))
    assert list(store.voices()) == ["Ada", "Bob"] and (tmp_path / "link").is_symlink()


def test_one_store_has_voices_of_one_model_and_finite_ones():
    store = VoiceStore()
    store.add(voice("Ada"))
    other = replace(voice("Bob"), facts=(replace(FACT, fingerprint="b" * 64),) * 2)
    for wrong, said in ((other, "were embedded by another model"), (voice("Bob", size=5), "by another model")):
        if wrong.embeddings.shape[1] == 5:
            wrong = replace(wrong, facts=(replace(FACT, size=5),) * 2)
        with pytest.raises(ValueError, match=said):
            store.add(wrong)
        with pytest.raises(ValueError, match=said):
            store.extend(replace(wrong, name="Ada"))
    with pytest.raises(ValueError, match="The embeddings of 'Bob' are not finite"):
        store.add(replace(voice("Bob"), embeddings=np.full((2, 4), np.nan, np.float32)))
    assert list(store.voices()) == ["Ada"]


def test_the_text_of_a_store(tmp_path):
    assert repr(VoiceStore()) == "VoiceStore(in memory, 0 voices)"
    assert repr(VoiceStore(tmp_path / "v")) == f"VoiceStore('{tmp_path / 'v'}', 0 voices)"
