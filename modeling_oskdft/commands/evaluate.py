"""Measure EER and minDCF of a saved or exported verifier on a trial list, on every process of a launch."""

import argparse
import json
from typing import TYPE_CHECKING

from ..errors import MOST_WORKERS
from .options import add_backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.manifest import Manifest
    from ..data.trials import Trials

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
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..data.manifest import joined
    from ..data.sources import load_manifest
    from ..data.trials import check_labels, read_trials, write_scores
    from ..evaluation.report import report_scores, speakers_of
    from ..files import check_writable
    from ..training.processes import ended_process_group, is_main_process

    if options.data_root is not None and len(options.data) > 1:
        raise ValueError("data_root was given for several data: it can replace the root of one manifest only.")
    if not 0 < options.p_target < 1:
        raise ValueError(f"p_target is {options.p_target}: a probability between 0 and 1 is needed; 0.01 is usual.")
    if not 0 <= options.num_workers <= MOST_WORKERS:
        raise ValueError(f"num_workers is {options.num_workers}: a number from 0 to {MOST_WORKERS} is needed.")
    if options.scores is not None:
        check_writable(options.scores)
    trials = read_trials(options.trials)
    manifest = joined([load_manifest(data, options.split, options.data_root) for data in options.data])
    speakers = speakers_of(manifest)
    check_labels(trials, speakers, options.trials)
    with ended_process_group():
        scores = _scores(options, manifest, trials)
        if not is_main_process():
            return 0
        report = report_scores(scores, trials, speakers, options.p_target)
    if options.scores is not None:
        write_scores(trials, scores, options.scores)
    if options.json:
        print(json.dumps(report.as_dict()))
        return 0
    print(f"EER     {100 * report.eer:.2f} %  (95 %: {100 * report.eer_low:.2f} to {100 * report.eer_high:.2f})")
    print(
        f"minDCF  {report.min_dcf:.4f}  (95 %: {report.min_dcf_low:.4f} to {report.min_dcf_high:.4f}), "
        f"p_target {options.p_target:g}"
    )
    print(f"{report.trials:,} trials of {report.speakers} speakers; threshold at the EER {report.threshold:.4f}")
    return 0


def _scores(options: argparse.Namespace, manifest: "Manifest", trials: "Trials") -> "NDArray[np.floating]":
    """Score all trials: by PyTorch on every process, or by onnxruntime on this process."""
    from ..embedding.runtimes import OnnxEmbedder, TorchEmbedder, open_embedder
    from ..evaluation.report import embedder_scores, trial_scores
    from ..training.processes import device_of_this_process

    embedder = open_embedder(options.model, options.backend)
    if isinstance(embedder, OnnxEmbedder):
        return embedder_scores(embedder.embed, manifest, trials, options.scoring, progress=True)
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
    )
