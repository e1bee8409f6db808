import pytest

from modeling_oskdft import OSKDFTTrainingArguments
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.training.optimization import clock_of_run
from modeling_oskdft.training.summary import first_lines, last_lines, say
from modeling_oskdft.training.validation import TrialDataset


@pytest.fixture
def lines(manifest):
    def lines_of(**fields):
        args = OSKDFTTrainingArguments(output_dir="out put", use_cpu=True, report_to="none", **fields)
        aside = manifest.where("speaker_id", manifest.speakers[:3])
        trials = TrialDataset(aside, make_trials(aside.by_speaker()))
        return first_lines(args, clock_of_run(args, len(manifest)), manifest, aside, trials, "out put/checkpoint-3")

    return lines_of


def test_a_run_says_its_data_its_length_and_its_place(lines):
    text = "\n".join(lines(num_train_epochs=20, per_device_train_batch_size=4, logging_steps=1))
    assert "training on 40 utterances of 10 speakers" in text
    assert "3 other speakers choose the checkpoint, by 36 trials" in text
    assert "200 steps of 4 crops, 20 epochs, on 1 process(es), cpu" in text
    assert "everything is written to 'out put'" in text and "going on from 'out put/checkpoint-3'" in text


def test_settings_that_hardly_train_are_warned_of(lines):
    text = "\n".join(lines(num_train_epochs=2, per_device_train_batch_size=4, logging_steps=50))
    assert "warning: 3 speakers choose the checkpoint" in text
    assert "warning: the warm-up of the shared layers, 10 epochs, is not shorter than the run, 2" in text
    assert "warning: logging_steps is 50 in a run of 20 steps: nothing is logged." in text


def test_a_run_ends_with_its_results_and_the_next_command(capsys):
    results = {"selection_eer": 0.125, "selected_step": 5, "steps": 10}
    say(last_lines(results, None, "run", False))
    error = capsys.readouterr().err
    assert "oskdft: best checkpoint: step 5 of 10, EER 12.50 % on the speakers set aside" in error
    assert "next:" not in error  # nothing decides without thresholds
