"""Show the whole line in a few minutes without a download: voices, a teacher, a student and a table.

Makes synthetic voices, trains a small HuBERT-shaped teacher for verification on some of them, compresses it with
OS-KDFT, evaluates both on other speakers, saves the student, loads it back and verifies two recordings.
"""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    HubertConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    set_seed,
)

from ..audio.loading import SAMPLING_RATE, load_audio
from ..audio.synthetic_voices import write_voices
from ..data.crops import CropDataset
from ..data.manifest import Manifest
from ..data.sources import load_manifest
from ..data.trials import Trials, make_trials
from ..evaluation.cost import count_parameters, encoder_seconds, file_bytes
from ..evaluation.report import TrialReport, report_scores, report_trials, speakers_of
from ..files import whole_file, write_json
from ..hub.model_card import CARD_NAME, Statements, record, render_record
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector
from ..provenance import machine, versions
from ..scoring.metrics import eer_in_percent
from ..student.initialization import init_student_from_teacher
from ..training.assembly import assemble_trainer
from ..training.objectives.building import ObjectiveArguments
from ..training.publishing import save_measurements
from ..training.training_arguments import OSKDFTTrainingArguments
from ..training.validation import TrialDataset
from ..verification.verifier import SpeakerVerifier

TRAIN_SPEAKERS, TEST_SPEAKERS, THRESHOLD_SPEAKERS = 60, 24, 12
SESSIONS, UTTERANCES = 4, 4
CROP_SECONDS = 2.0


@dataclass(frozen=True)
class MeasuredModel:
    """Size, time and error rates of a model: one column of the table."""

    parameters: int
    encoder_parameters: int
    megabytes: float
    encoder_milliseconds: float
    report: TrialReport


def run(
    folder: str | Path = "quickstart",
    seed: int = 0,
    teacher_epochs: float = 10,
    student_epochs: float = 10,
    train_speakers: int = TRAIN_SPEAKERS,
    test_speakers: int = TEST_SPEAKERS,
    threshold_speakers: int = THRESHOLD_SPEAKERS,
) -> dict[str, Any]:
    """Run the line, print each step, and write `results.json`.

    Args:
        folder: for `voices`, `teacher`, `teacher_encoder`, `student` and `results.json`. Complete voices of an
            earlier run are used again; everything else is replaced.
        seed: of everything that is drawn.
        teacher_epochs: length of the teacher's training.
        student_epochs: length of the student's training.
        train_speakers: speakers to learn from.
        test_speakers: speakers of the table.
        threshold_speakers: speakers of the thresholds.

    Returns:
        The content of `results.json`.
    """
    root = Path(folder)
    start = time.perf_counter()
    _say(
        f"1/5  voices: {train_speakers} speakers to learn from, {threshold_speakers} to set thresholds with, "
        f"{test_speakers} that nobody will have heard"
    )
    train, test, aside = _voices(root / "voices", (train_speakers, test_speakers, threshold_speakers), seed)
    trials = make_trials(test.by_speaker(), seed).across_sessions()

    _say("2/5  teacher: a 6-layer HuBERT-shaped encoder, trained to verify speakers")
    feature_extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    teacher = _teacher(train, feature_extractor, root / "teacher", seed, teacher_epochs)

    _say("3/5  student: its first 2 layers, distilled and fine-tuned at once")
    encoder = teacher.export_kd_path()
    encoder.save_pretrained(root / "teacher_encoder")  # what a recipe can name as its teacher
    feature_extractor.save_pretrained(root / "teacher_encoder")
    training = _student(encoder, train, aside, feature_extractor, root / "student", seed, student_epochs)

    _say("4/5  both on the unheard speakers; the student is loaded back from disk")
    systems = _compare(teacher, root, test, trials)
    baseline = energy_baseline(test, trials)

    _say("5/5  two recordings of one unheard speaker, and one of another")
    verdicts = _verify(root / "student", test)
    results = {
        "name": "quickstart",
        "seed": seed,
        "minutes": round((time.perf_counter() - start) / 60, 2),
        "systems": {name: vars(system) | {"report": system.report.as_dict()} for name, system in systems.items()},
        "energy_only": baseline.as_dict(),
        "verdicts": verdicts,
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, root / "results.json")
    _write_card(root / "student", results, training)
    print()
    print(table(results))
    return results


def _say(line: str) -> None:
    print(line, flush=True)


def _voices(root: Path, counts: tuple[int, int, int], seed: int) -> list[Manifest]:
    """Make voices and split them into disjoint groups of `counts` speakers."""
    folder = root / f"seed{seed}-{sum(counts)}x{SESSIONS}x{UTTERANCES}"
    write_voices(folder, sum(counts), SESSIONS, UTTERANCES, seed, progress=sys.stderr.isatty())
    everybody = load_manifest(folder)
    names, ends = everybody.speakers, np.cumsum(counts)
    return [everybody.where("speaker_id", names[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def teacher_config() -> HubertConfig:
    """Build the configuration of a small HuBERT: its strides and norms, a thinner front end, six narrow layers."""
    return HubertConfig(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=(32, 32, 48, 64, 64, 96, 128),
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        do_stable_layer_norm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
    )


def _arguments(folder: Path, seed: int, epochs: float, **fields: Any) -> OSKDFTTrainingArguments:
    return OSKDFTTrainingArguments(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        min_learning_rate=1e-5,
        adapter_lr_multiplier=1.0,
        backbone_warmup_epochs=1.0,
        backbone_schedule="cosine",
        eval_strategy="no",
        save_strategy="no",
        logging_steps=20,
        report_to="none",
        use_cpu=True,
        **fields,
    )


def _teacher(
    train: Manifest,
    feature_extractor: SequenceFeatureExtractor,
    folder: Path,
    seed: int,
    epochs: float,
) -> OSKDFTForXVector:
    """Train an encoder without adapters, and a head, from random weights, by the speaker loss alone."""
    set_seed(seed)
    config = OSKDFTConfig(teacher_config(), adapter_size=0, head_type="statistics_pooling")
    teacher = OSKDFTForXVector(config)
    arguments = _arguments(folder, seed, epochs, learning_rate=2e-3)
    _fit(teacher, train, feature_extractor, arguments, ObjectiveArguments(kd_weight=0.0))
    return teacher.eval()


def _student(
    teacher: PreTrainedModel,
    train: Manifest,
    aside: Manifest,
    feature_extractor: SequenceFeatureExtractor,
    folder: Path,
    seed: int,
    epochs: float,
) -> dict[str, Any]:
    """Train the student in one step, by fading distillation and the speaker loss; returns facts for its card."""
    set_seed(seed)
    config = OSKDFTConfig.from_teacher(teacher.config, [0, 1], head_type="statistics_pooling", adapter_size=32)
    student = init_student_from_teacher(teacher, config)
    arguments = _arguments(folder, seed, epochs, learning_rate=2e-3)
    objectives = ObjectiveArguments(kd_objective="layerwise_heads")
    trials = make_trials(aside.by_speaker(), seed).across_sessions()
    start = time.perf_counter()
    steps = _fit(student, train, feature_extractor, arguments, objectives, teacher, TrialDataset(aside, trials))
    return {
        "recipe": asdict(objectives) | {"num_train_epochs": epochs, "crop_seconds": CROP_SECONDS},
        "data": {"name": "synthetic voices", **train.describe()},
        "steps": steps,
        "seconds": time.perf_counter() - start,
    }


def _fit(
    model: OSKDFTForXVector,
    train: Manifest,
    feature_extractor: SequenceFeatureExtractor,
    arguments: OSKDFTTrainingArguments,
    objectives: ObjectiveArguments,
    teacher: PreTrainedModel | None = None,
    validation: TrialDataset | None = None,
) -> int:
    """Train, save, measure thresholds and calibration where there are validation trials; returns the steps."""
    crops = CropDataset(train, CROP_SECONDS, arguments.seed)
    trainer = assemble_trainer(model, arguments, crops, feature_extractor, objectives, teacher, validation)
    trainer.train()
    if trainer.stopper.received:
        _say("     stopped: the next quickstart uses these voices again, and trains anew")
        raise SystemExit(128 + trainer.stopper.signal)  # 130 after Ctrl-C, 143 after SIGTERM
    trainer.save_model()
    if validation is not None:
        save_measurements(arguments.output_dir, *trainer.scorer.measurements(trainer.published))
    return trainer.state.global_step


def _compare(teacher: OSKDFTForXVector, root: Path, test: Manifest, trials: Trials) -> dict[str, MeasuredModel]:
    """Measure the teacher, and the student as it is loaded from disk."""
    student = AutoModel.from_pretrained(root / "student")
    feature_extractor = AutoFeatureExtractor.from_pretrained(root / "student")
    models = {"teacher": teacher, "student": student}
    seconds = encoder_seconds({name: model.oskdft for name, model in models.items()})
    return {
        name: _measure(model, root / name, 1000 * seconds[name], feature_extractor, test, trials)
        for name, model in models.items()
    }


def _measure(
    verifier: OSKDFTForXVector,
    folder: Path,
    milliseconds: float,
    feature_extractor: SequenceFeatureExtractor,
    test: Manifest,
    trials: Trials,
) -> MeasuredModel:
    report = report_trials(verifier, feature_extractor, test, trials, progress=sys.stderr.isatty())
    parameters = count_parameters(verifier), count_parameters(verifier.oskdft)
    return MeasuredModel(*parameters, file_bytes(folder) / 1e6, milliseconds, report)


def energy_baseline(test: Manifest, trials: Trials) -> TrialReport:
    """Score trials by loudness and duration alone: mean and deviation of the frame level in decibels, and seconds.

    An EER far from one half would show that the synthetic voices can be told apart without their voice.
    """
    rows = []
    for row in range(len(test)):
        waveform = load_audio(test.audio(row))
        level = 10 * np.log10(np.square(waveform[: len(waveform) // 160 * 160]).reshape(-1, 160).mean(1) + 1e-10)
        rows.append((level.mean(), level.std(), len(waveform) / SAMPLING_RATE))
    features = np.asarray(rows)
    features = (features - features.mean(0)) / features.std(0)
    features_of = dict(zip(test.column("utterance_id"), features, strict=True))
    pairs = zip(trials.enrolments, trials.tests, strict=True)
    scores = [-float(np.linalg.norm(features_of[first] - features_of[second])) for first, second in pairs]
    return report_scores(scores, trials, speakers_of(test))


def _verify(student: Path, test: Manifest) -> list[dict[str, Any]]:
    """Verify two recordings of one speaker, of different sessions, and two of different speakers."""
    verifier = SpeakerVerifier.from_pretrained(student)
    row_of = {name: row for row, name in enumerate(test.column("utterance_id"))}
    first, second = test.speakers[:2]
    mine = [name for name in row_of if f"{first}/" in name]
    other = [name for name in row_of if f"{second}/" in name]
    verdicts = []
    for enrolment, recording in ((mine[0], mine[-1]), (mine[0], other[0])):
        result = verifier.verify(test.audio(row_of[enrolment]), test.audio(row_of[recording]))
        verdict = "same speaker" if result.same_speaker else "different speakers"
        verdicts.append({"enrolment": enrolment, "test": recording, "score": result.score, "verdict": verdict})
        _say(
            f"     {enrolment}  |  {recording}:  score {result.score:.2f}, threshold {result.threshold:.2f}: {verdict}"
        )
    return verdicts


def _write_card(student: Path, results: dict[str, Any], training: dict[str, Any]) -> None:
    """Write `results.json` beside the student, and its card, as a training by a recipe does."""
    keys = ("parameters", "encoder_parameters", "encoder_milliseconds")
    report = results["systems"]["student"]["report"]
    facts = {
        **training,
        "encoders": {name: {key: system[key] for key in keys} for name, system in results["systems"].items()},
        "test": {"name": "synthetic voices, across sessions", **report},
        "fingerprint": OSKDFTForXVector.from_pretrained(student).fingerprint(),
        **{key: results[key] for key in ("seed", "machine", "versions")},
    }
    write_json(facts, student / "results.json")
    notes = "It was trained on synthetic voices, to show that the whole line works: it is no use on people."
    statements = Statements("apache-2.0", "made by the same run", "synthetic", notes)
    stored = record(student, "quickstart/student", statements)
    write_json(stored, student.parent / "card.json")
    with whole_file(student / CARD_NAME) as file:
        file.write_text(render_record(stored), encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """Render the table of the README, in Markdown."""
    teacher, student = results["systems"]["teacher"], results["systems"]["student"]
    lines = [
        "|  | teacher | student | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    for label, name, form, scale in (
        ("parameters", "parameters", "{:,.0f}", 1),
        ("of them encoder", "encoder_parameters", "{:,.0f}", 1),
        ("file size, MB", "megabytes", "{:.2f}", 1),
        ("encoder time for 3 s, one thread, ms", "encoder_milliseconds", "{:.1f}", 1),
    ):
        before, after = teacher[name] * scale, student[name] * scale
        lines.append(f"| {label} | {form.format(before)} | {form.format(after)} | {after / before - 1:+.0%} |")
    lines.append(_error_row(teacher["report"], student["report"]))
    energy, trials = f"{100 * results['energy_only']['eer']:.1f}", teacher["report"]
    lines += [
        f"| EER of level and duration alone, % | {energy} | {energy} | chance: 50 |",
        "",
        f"EER on {trials['trials']:,} trials of {trials['speakers']} speakers held out of training, across sessions; "
        "95 % intervals by bootstrap over speakers. The student starts where the teacher ended, so it has had both "
        "trainings.",
        f"{results['minutes']} minutes on {results['machine']['cores']} cores, seed {results['seed']}.",
    ]
    return "\n".join(lines)


def _error_row(teacher: dict[str, Any], student: dict[str, Any]) -> str:
    cells = f"{eer_in_percent(teacher)} | {eer_in_percent(student)}"
    return f"| EER, % | {cells} | {100 * (student['eer'] - teacher['eer']):+.1f} points |"
