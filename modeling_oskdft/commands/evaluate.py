"""Measure EER and minDCF of a saved or exported verifier on a trial list, on every process of a launch."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MOST_WORKERS
from .options import add_backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.manifest import Manifest
    from ..data.trials import Trials
    from ..scoring.calibration import Calibration
    from ..scoring.normalization import Cohort

SCORINGS = ("full", "segments", "combined")  # the keys of scoring.cosine.SCORINGS; that file needs NumPy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder or repository of a verifier")
    parser.add_argument("--data", required=True, nargs="+", help="folders, manifests or datasets of the recordings")
    parser.add_argument("--trials", required=True, help="trial list: 'label enrol test' lines")
    parser.add_argument("--split", help="rows of the data whose split is this one")
    parser.add_argument("--data_root", help="replaces the root that a manifest was made with")
    parser.add_argument(
        "--scoring", choices=SCORINGS, default="full", help="whole utterances, 5 segments of 3 s, or both"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="processes that read ahead (default: 0)")
    parser.add_argument("--batch_seconds", type=float, default=60.0, help="audio in a batch (default: 60)")
    parser.add_argument("--p_target", type=float, default=0.01, help="prior of minDCF (default: 0.01)")
    parser.add_argument("--scores", metavar="FILE", help="write 'label enrol test score' lines, separated by tabs")
    parser.add_argument(
        "--embeddings", metavar="DIR", help="folder of `oskdft embed-corpus`: nothing is embedded anew"
    )
    parser.add_argument("--cohort", action="store_true", help="normalise the scores with the cohort of the model")
    parser.add_argument(
        "--write_eval_results",
        "--write-eval-results",
        metavar="TASK",
        help="write the EER into the model's .eval_results/, for the table of a benchmark: org/dataset:task",
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    page = parser.add_argument_group("report", "one HTML page for those who decide, and its numbers as JSON")
    page.add_argument("--report", metavar="DIR", help="folder for report.html and report.json")
    page.add_argument("--teacher", metavar="MODEL", help="verifier to compare time and size with")
    page.add_argument("--prior", type=float, default=0.5, help="share of attempts of the right speaker (default: 0.5)")
    page.add_argument("--c_miss", type=float, default=1.0, help="cost of a rejected speaker (default: 1)")
    page.add_argument("--c_fa", type=float, default=1.0, help="cost of an accepted stranger (default: 1)")
    page.add_argument("--attempts_a_day", type=int, default=1000, help="attempts a day (default: 1000)")
    page.add_argument("--core_hour", type=float, default=0.05, help="cost of a core for an hour (default: 0.05)")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.manifest import joined
    from ..data.sources import load_manifest
    from ..data.trials import check_labels, read_trials, write_scores
    from ..evaluation.report import report_scores, speakers_of
    from ..files import check_writable
    from ..hub.eval_results import check_folder, parse_task, write_eval_results
    from ..training.processes import ended_process_group, is_main_process

    if options.data_root is not None and len(options.data) > 1:
        raise ValueError("data_root was given for several data: it can replace the root of one manifest only.")
    if not 0 < options.p_target < 1:
        raise ValueError(f"p_target is {options.p_target}: a probability between 0 and 1 is needed; 0.01 is usual.")
    if not 0 <= options.num_workers <= MOST_WORKERS:
        raise ValueError(f"num_workers is {options.num_workers}: a number from 0 to {MOST_WORKERS} is needed.")
    if options.embeddings is not None and options.scoring != "full":
        raise ValueError(f"scoring is '{options.scoring}': stored embeddings are of full recordings; use full.")
    if options.scores is not None:
        check_writable(options.scores)
    if options.write_eval_results is not None:
        parse_task(options.write_eval_results)
        check_folder(options.model)
    if options.report is not None:
        check_writable(Path(options.report, "report.html"))
        check_report(options)
    trials = read_trials(options.trials)
    manifest = joined([load_manifest(data, options.split, options.data_root) for data in options.data])
    speakers = speakers_of(manifest)
    check_labels(trials, speakers, options.trials)
    with ended_process_group():
        scores = _scores(options, manifest, trials)
        if not is_main_process():
            return 0
        if options.scores is not None:
            write_scores(trials, scores, options.scores)
        report = report_scores(scores, trials, speakers, options.p_target)
        if options.write_eval_results is not None:
            how = {"full": "full recordings", "segments": "5 segments of 3 s", "combined": "recordings and segments"}
            scored = f"{how[options.scoring]}{', normalised scores' if options.cohort else ''}"
            write_eval_results(options.model, options.write_eval_results, report, scored)
        if options.report is not None:
            page = write_report(options, scores, trials, manifest)
    if options.json:
        print(json.dumps(report.as_dict()))
        return 0
    print(f"EER     {100 * report.eer:.2f} %  (95 %: {100 * report.eer_low:.2f} to {100 * report.eer_high:.2f})")
    print(
        f"minDCF  {report.min_dcf:.4f}  (95 %: {report.min_dcf_low:.4f} to {report.min_dcf_high:.4f}), "
        f"p_target {options.p_target:g}"
    )
    print(f"{report.trials:,} trials of {report.speakers} speakers; threshold at the EER {report.threshold:.4f}")
    if options.report is not None:
        print(f"Written to {page}")
    return 0


def _scores(options: argparse.Namespace, manifest: "Manifest", trials: "Trials") -> "NDArray[np.floating]":
    """Score all trials: by PyTorch on every process, or by onnxruntime on this process."""
    from ..embedding.runtimes import ExportedEmbedder, TorchEmbedder, open_embedder
    from ..evaluation.report import embedder_scores, embedding_scores, trial_scores
    from ..training.processes import device_of_this_process

    embedder = open_embedder(options.model, options.backend)
    cohort = _cohort(options, embedder.fingerprint())
    if options.embeddings is not None:
        from ..embedding.corpus_shards import read_corpus

        kept = read_corpus(options.embeddings, embedder.fingerprint(), trials.utterances())
        return embedding_scores(trials, kept, cohort)
    if isinstance(embedder, ExportedEmbedder):
        return embedder_scores(embedder.embed, manifest, trials, options.scoring, progress=True, cohort=cohort)
    assert isinstance(embedder, TorchEmbedder)
    return trial_scores(
        embedder.model.to(device_of_this_process()),
        embedder.feature_extractor,
        manifest,
        trials,
        options.scoring,
        progress=True,
        num_workers=options.num_workers,
        batch_seconds=options.batch_seconds,
        cohort=cohort,
    )


def _cohort(options: argparse.Namespace, fingerprint: str) -> "Cohort | None":
    """Open the cohort of the model where it was asked for."""
    from ..embedding.locations import find
    from ..scoring.normalization import COHORT_NAME, Cohort

    if not options.cohort:
        return None
    path = find(options.model, COHORT_NAME)
    if path is None:
        raise ValueError(f"'{options.model}' has no {COHORT_NAME}: train with `cohort: true`, or leave --cohort out.")
    cohort = Cohort.load(path)
    if cohort.fingerprint != fingerprint:
        raise ValueError(f"The cohort of '{options.model}' is of other weights: make it anew.")
    return cohort


def check_report(options: argparse.Namespace) -> None:
    """Refuse options of a report before anything is scored.

    Raises:
        ValueError: for a number outside of its range, for scores of segments, of which the thresholds are not, and for
            a calibration of other scores.
    """
    from ..scoring.likelihood_ratios import bayes_threshold

    bayes_threshold(options.prior, options.c_miss, options.c_fa)
    if not 0 <= options.core_hour < float("inf"):
        raise ValueError(f"core_hour is {options.core_hour}: a finite cost of at least 0 is needed.")
    if options.attempts_a_day < 1:
        raise ValueError(f"attempts_a_day is {options.attempts_a_day}: a whole number from 1 on is needed.")
    if options.scoring != "full":
        raise ValueError(f"scoring is '{options.scoring}': a report is of the decisions on full recordings; use full.")
    calibration = calibration_of(options)
    if calibration is not None and (calibration.cohort is not None) != options.cohort:
        raise ValueError(
            f"The calibration of '{options.model}' is of {'normalised scores' if calibration.cohort else 'cosines'}: "
            f"{'give' if calibration.cohort else 'leave out'} --cohort."
        )


def calibration_of(options: argparse.Namespace) -> "Calibration | None":
    """Read the calibration of the model; None where it has none."""
    from ..embedding.locations import find
    from ..scoring.calibration import CALIBRATION_NAME, Calibration

    path = find(options.model, CALIBRATION_NAME)
    return None if path is None else Calibration.load(path)


def write_report(
    options: argparse.Namespace, scores: "NDArray[np.floating]", trials: "Trials", manifest: "Manifest"
) -> Path:
    """Write the page of a decision maker and its numbers; returns the path of the page."""
    from ..embedding.locations import find
    from ..embedding.runtimes import open_embedder
    from ..evaluation.cost import peak_memory_of, size_of
    from ..evaluation.decision_report import Attempts, decision_report, hear_utterances, time_and_size
    from ..evaluation.page import VALUES_NAME, write_page
    from ..files import write_json
    from ..provenance import machine, versions
    from ..scoring.thresholds import THRESHOLDS_NAME, Thresholds

    names = {"student" if options.teacher else "model": options.model}
    names |= {} if options.teacher is None else {"teacher": options.teacher}
    embedders = {name: open_embedder(place, options.backend) for name, place in names.items()}
    fingerprint = next(iter(embedders.values())).fingerprint()
    thresholds_file = None if options.cohort else find(options.model, THRESHOLDS_NAME)  # they are of cosines
    thresholds = None if thresholds_file is None else Thresholds.load(thresholds_file)
    calibration = calibration_of(options)
    report = decision_report(
        scores,
        trials,
        manifest,
        hear_utterances(manifest, trials, progress=True),
        thresholds if thresholds is not None and thresholds.fingerprint == fingerprint else None,
        calibration if calibration is not None and calibration.fingerprint == fingerprint else None,
        Attempts(options.prior, options.c_miss, options.c_fa, options.attempts_a_day, options.core_hour),
    )
    report |= {"machine": machine(), "versions": versions()}
    time = time_and_size(embedders)
    for name, embedder in embedders.items():
        time["models"][name] |= size_of(embedder) | {"memory": peak_memory_of(names[name])}
    write_json({**report, "time": time}, Path(options.report, VALUES_NAME))
    return write_page(options.report, f"Speaker verification with {Path(options.model).name}", report, time, manifest)
