import warnings

import pytest
from torch.utils.data import DataLoader, Dataset

from modeling_oskdft.data.damaged import DamagedFiles, DamagedRows

REFUSAL = "More than {most} files are damaged ({reason}): check the data."


def test_every_file_is_counted_and_warned_about_once():
    damaged = DamagedFiles(2, "Skipped", REFUSAL)
    with pytest.warns(UserWarning, match=r"^Skipped 'a.wav': it is empty\.$"):
        damaged.skip("a.wav", "it is empty.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        damaged.skip("a.wav", "it is empty.")
    with pytest.warns(UserWarning, match=r"^Skipped 'b.wav' is truncated\.$"):
        damaged.skip("b.wav", ValueError("'b.wav' is truncated."))
    assert damaged.reasons == {"a.wav": "it is empty.", "b.wav": "'b.wav' is truncated."}


def test_one_more_than_the_limit_is_an_error_that_names_it():
    damaged = DamagedFiles(0, "Skipped", REFUSAL)
    error = OSError("'a.wav' is gone.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a file that ends the work was not skipped
        with pytest.raises(ValueError, match=r"^More than 0 files are damaged \('a.wav' is gone\): check") as raised:
            damaged.skip("a.wav", error)
    assert raised.value.__cause__ is error and list(damaged.reasons) == ["a.wav"]


def test_names_that_no_terminal_can_show_are_written_out():
    damaged = DamagedFiles(5, "Skipped", REFUSAL)
    with pytest.warns(UserWarning, match=r"'bad\\xff.wav': its name is not UTF-8"):
        damaged.skip("bad\udcff.wav", "its name is not UTF-8.")
    with pytest.warns(UserWarning, match=r"^Skipped 'two\\nlines.wav' is empty\.$"):
        damaged.skip("two\nlines.wav", "'two\\nlines.wav' is empty.")
    with pytest.warns(UserWarning, match=r"'a\{0\}.wav': has \{most\} braces"):
        damaged.skip("a{0}.wav", "has {most} braces.")


class AllDamaged(Dataset):
    def __init__(self, most):
        self.damaged = DamagedRows(most, "Skipped", REFUSAL, rows=20)

    def __len__(self):
        return 20

    def __getitem__(self, row):
        self.damaged.skip(row, f"{row}.wav", ValueError("It is damaged."))
        return row


def test_workers_count_together_and_each_row_once():
    dataset = AllDamaged(20)
    for _ in range(2):
        assert len(list(DataLoader(dataset, 1, num_workers=2))) == 20
    assert int(dataset.damaged.marks.sum()) == 20
    with pytest.raises(ValueError, match=r"More than 11 files are damaged \('\d+.wav': It is damaged\)"):
        list(DataLoader(AllDamaged(11), 1, num_workers=2))  # neither worker meets more than 10
