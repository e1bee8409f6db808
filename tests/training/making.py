"""Tiny runs of the Trainer, for the tests of its parts."""

import torch
from transformers import TrainerCallback

from modeling_oskdft import OSKDFTConfig, OSKDFTTrainingArguments, init_student_from_teacher
from modeling_oskdft.audio.synthetic_voices import write_voices
from modeling_oskdft.data.crops import CropDataset
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.splits import split_by_speaker
from modeling_oskdft.data.trials import make_trials, write_trials
from modeling_oskdft.training.assembly import assemble_trainer
from modeling_oskdft.training.objectives.building import ObjectiveArguments
from modeling_oskdft.training.validation import TrialDataset
from tests.tiny import tiny_teacher

# Options of a tiny run of the training script, without teacher and data.
TASK_WORDS = [
    *("--kd_objective", "layerwise_heads", "--head_type", "statistics_pooling", "--adapter_size", "8"),
    *("--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--crop_seconds", "0.5", "--use_cpu", "true"),
    *("--validation_fraction", "0.3", "--logging_steps", "1", "--dataloader_num_workers", "0"),
    *("--report_to", "none"),
]


def hiss(waveform, generator):
    """An augmentation that draws: resuming must draw the same."""
    return waveform + 0.01 * generator.normal(size=len(waveform)).astype("float32")


def make_trainer(
    folder,
    manifest,
    feature_extractor,
    objectives=None,
    validate=True,
    callbacks=None,
    augmentation=hiss,
    speeds=(),
    spec_mask=None,
    labelled_speakers=None,
    verifiers=(),
    teacher=None,
    **arguments,
):
    torch.manual_seed(0)
    origin = tiny_teacher("hubert", True, "group", hidden_dropout=0.1, attention_dropout=0.1)
    encoder, teacher_extractor = teacher or (origin, None)
    config = OSKDFTConfig.from_teacher(origin.config, [0, 1], adapter_size=8, head_type="statistics_pooling")
    train, validation = split_by_speaker(manifest, 0.3, 0)
    training = OSKDFTTrainingArguments(
        output_dir=str(folder),
        **{
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "report_to": "none",
            "use_cpu": True,
            "dataloader_num_workers": 0,
            "eval_strategy": "epoch" if validate else "no",
            "save_strategy": "epoch" if validate else "no",
        }
        | arguments,
    )
    described = ObjectiveArguments(**({"kd_objective": "layerwise_heads"} | (objectives or {})))
    labelled = None if labelled_speakers is None else train.speakers[:labelled_speakers]
    return assemble_trainer(
        init_student_from_teacher(origin, config),
        training,
        CropDataset(train, 0.5, training.seed, augmentation, speeds=speeds, labelled=labelled),
        feature_extractor,
        described,
        encoder if described.distil_states else None,
        TrialDataset(validation, make_trials(validation.by_speaker())) if validate else None,
        spec_mask,
        callbacks=callbacks,
        verifiers=verifiers,
        teacher_extractor=teacher_extractor,
    )


def parameters(trainer):
    return {name: value.clone() for name, value in trainer.joint.state_dict().items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def write_teacher_and_trials(folder, feature_extractor, speakers):
    """What the training script reads beside its training voices: teacher, others and trials.txt in `folder`.

    Returns the folder of the other speakers, whose trials these are.
    """
    tiny_teacher("hubert", True, "group").save_pretrained(folder / "teacher")
    feature_extractor.save_pretrained(folder / "teacher")
    others = write_voices(folder / "others", speakers, 2, 2, seed=8)
    for speaker in sorted(others.iterdir()):
        speaker.rename(speaker.with_name("other" + speaker.name))
    write_trials(make_trials(load_manifest(others).by_speaker()), folder / "trials.txt")
    return others
