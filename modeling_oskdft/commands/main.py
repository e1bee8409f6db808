"""`oskdft COMMAND …`: thin, one function a command.

Exit codes: 0 fine, and "same"; 1 "different"; 2 an error of the input, said in one sentence on stderr (`--debug` shows
where it arose); 3 no decision; 70 a fault of this package.
"""

from ..errors import DIFFERENT, MOST_WORKERS, NO_DECISION, end_at_once_on_interrupt, one_sentence_errors

end_at_once_on_interrupt()  # before anything that takes time to import

import argparse
import json
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.manifest import Manifest
    from ..data.prepare_folder import Preparation
    from ..data.trials import Trials
    from ..verification.verifier import SpeakerVerifier, VerificationResult

SCORINGS = ("full", "segments", "combined")  # as in evaluation.scoring, which wants NumPy
FAST = ("verify", "embed")  # they import torch when they need it: an exported verifier needs none


def _prepare_heavy_imports() -> None:
    """Register the model with transformers, and keep its progress bars off what is no terminal."""
    import_module(f"{__package__}.registration")
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()


def quickstart(options: argparse.Namespace) -> int:
    """Voices, a teacher, its student and a table, without a download."""
    from .quickstart import run

    run(options.out, options.seed)
    return 0


def train(options: argparse.Namespace) -> int:
    """Run a recipe on this process alone; `accelerate launch train_oskdft.py` for several."""
    from train_oskdft import main as train_main

    return train_main(options.words)  # reads --debug itself


def evaluate(options: argparse.Namespace) -> int:
    """EER and minDCF of a saved or exported verifier on a trial list, on every process of a launch."""
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
    """The scores of all trials, by PyTorch on every process, or by onnxruntime on this one."""
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


def verify(options: argparse.Namespace) -> int:
    """Whether two recordings are of one speaker: 0 the same, 1 different, 3 no decision."""
    from ..verification.verifier import SpeakerVerifier

    if options.pairs is None and len(options.recordings) < 2:
        raise ValueError("Two recordings are needed, or a list of pairs: `oskdft verify A B`, or --pairs LIST.")
    if options.pairs is not None and options.recordings:
        raise ValueError("Recordings were given beside --pairs: give one or the other.")
    verifier = SpeakerVerifier.from_pretrained(options.model, options.revision, backend=options.backend)
    if options.pairs is not None:
        return _verify_pairs(verifier, options)
    *enrolments, test = options.recordings
    first = enrolments if len(enrolments) > 1 else enrolments[0]
    result = verifier.verify(first, test, options.operating_point, options.channel)
    for sentence in result.warnings:
        print(f"oskdft: warning: {sentence}", file=sys.stderr)
    print(json.dumps(result.as_dict()) if options.json else _answer(result))
    return {True: 0, False: DIFFERENT, None: NO_DECISION}[result.same_speaker]


def _answer(result: "VerificationResult") -> str:
    answer = {True: "same speaker", False: "different speakers", None: "no decision"}[result.same_speaker]
    against = "" if result.threshold is None else f", threshold {result.threshold:.4f}"
    return f"{answer} (score {result.score:.4f}{against})"


def _verify_pairs(verifier: "SpeakerVerifier", options: argparse.Namespace) -> int:
    """A line a pair; 0 when each has an answer, 3 when one has none."""
    from ..data.trials import read_pairs
    from ..errors import printable

    undecided = False
    said: set[str] = set()
    for first, second in read_pairs(options.pairs):
        result = verifier.verify(first, second, options.operating_point, options.channel)
        undecided |= result.same_speaker is None
        for sentence in result.warnings:
            if sentence not in said:
                print(f"oskdft: warning: {sentence}", file=sys.stderr)
        said |= set(result.warnings)
        names = (printable(first), printable(second))
        if options.json:
            print(json.dumps({"first": names[0], "second": names[1], **result.as_dict()}))
        else:
            print("\t".join((*names, _answer(result))))
    return NO_DECISION if undecided else 0


def embed(options: argparse.Namespace) -> int:
    """The voices in recordings, folders, manifests or lists as vectors of unit length."""
    import numpy as np
    from tqdm.auto import tqdm

    from ..data.listing import recordings_of
    from ..embedding.embedding_files import check_embedding_file, embedding_line, write_embeddings
    from ..verification.verifier import SpeakerVerifier

    if options.out is None and not options.json:
        raise ValueError("No place was named for the embeddings: give --out FILE.npz, or --json.")
    if options.out is not None:
        check_embedding_file(options.out)
    verifier = SpeakerVerifier.from_pretrained(options.model, options.revision, backend=options.backend)
    recordings = recordings_of(options.recordings)
    names, embeddings, skipped = [], [], 0
    for path in tqdm(recordings, desc="embeddings", unit="rec", disable=None if len(recordings) > 1 else True):
        try:
            embedding = verifier.embed(path, options.channel)
        except (ValueError, OSError) as error:
            if not options.skip_damaged:
                raise
            skipped += 1
            print(f"oskdft: skipped: {error}", file=sys.stderr)
            continue
        names.append(path)
        embeddings.append(embedding)
        if options.json:
            print(embedding_line(path, embedding))
    if not embeddings:
        raise ValueError(f"None of {skipped} recordings can be read: look at the sentences above.")
    if options.out is not None:
        write_embeddings(options.out, names, np.stack(embeddings))
        if not options.json:
            left_out = f", {skipped} skipped" if skipped else ""
            print(f"{len(names):,} embeddings of {verifier.embedding_size} numbers{left_out}: {options.out}")
    return 0


def split(options: argparse.Namespace) -> int:
    """Hold out speakers: two manifests without a speaker in common, and a trial list of those held out."""
    from ..data.sources import load_manifest
    from ..data.splits import write_split

    manifest = load_manifest(options.data, None, options.data_root, layout=options.layout)
    train, test, trials = write_split(manifest, options.test, options.seed, options.out, options.most)
    print(f"{len(train):,} utterances of {len(train.speakers):,} speakers: {options.out}/train.parquet")
    print(f"{len(test):,} utterances of {len(test.speakers):,} speakers held out: {options.out}/test.parquet")
    print(
        f"{len(trials.labels):,} trials of them, {int(trials.labels.sum()):,} of one speaker: {options.out}/trials.txt"
    )
    return 0


def make_trials(options: argparse.Namespace) -> int:
    """A balanced trial list of the speakers of some data."""
    from ..data import trials as lists
    from ..data.sources import load_manifest
    from ..files import check_writable

    check_writable(options.out)
    manifest = load_manifest(options.data, options.split, options.data_root, layout=options.layout)
    trials = lists.make_trials(manifest.by_speaker(), options.seed, options.most)
    if options.across_sessions:
        trials = trials.across_sessions()
    lists.write_trials(trials, options.out)
    print(
        f"{len(trials.labels):,} trials of {len(manifest.speakers):,} speakers, {int(trials.labels.sum()):,} of one "
        f"speaker: {options.out}"
    )
    return 0


def prepare_voxceleb(options: argparse.Namespace) -> int:
    """VoxCeleb1 and 2 on disk to manifests and trial lists, counted against what was published."""
    from ..data.prepare_voxceleb import prepare_voxceleb as prepare

    result = prepare(
        options.voxceleb1,
        options.voxceleb2,
        options.out,
        options.trials,
        options.workers,
        options.max_damaged,
        progress=True,
    )
    if options.json:
        print(json.dumps(result.as_dict()))
        return 0
    for one in result.manifests:
        _say(one)
    for name, count in result.trials.items():
        print(f"{count:,} trials: {options.out}/{name}")
    for difference in result.differences:
        print(f"note: {difference}")
    return 0


def prepare_folder(options: argparse.Namespace) -> int:
    """A tree speaker/session/utterance to a Parquet manifest."""
    from ..data.prepare_folder import prepare_folder as prepare

    result = prepare(
        options.folder, options.out, options.workers, options.max_damaged, progress=True, layout=options.layout
    )
    if options.json:
        print(json.dumps(result.as_dict()))
        return 0
    _say(result)
    return 0


def push_dataset(options: argparse.Namespace) -> int:
    """A manifest as sharded Parquet with FLAC in it: to the Hub, or with --local to a folder only."""
    from ..data.prepare_folder import bounded_workers
    from ..data.shard_writing import write_shards
    from ..data.sources import load_manifest
    from ..hub.upload import push_dataset as push

    manifest = load_manifest(options.data, options.split, options.data_root)
    workers = bounded_workers(options.workers)
    if options.local:
        files = write_shards(manifest, options.out, workers=workers, progress=True)
        print(f"{len(manifest):,} utterances in {len(files)} shards: {options.out}/data")
        return 0
    if options.repository is None:
        raise ValueError("No repository was named: give org/name, or --local to write the shards only.")
    print(push(manifest, options.repository, options.out, not options.public, workers=workers, progress=True))
    return 0


def card(options: argparse.Namespace) -> int:
    """The model card of a saved verifier, from what was measured; --json prints what it is rendered from instead."""
    from pathlib import Path

    from ..hub.model_card import Statements, record, write_card

    if not Path(options.model).is_dir():
        raise FileNotFoundError(f"There is no folder '{options.model}': give one that holds a saved verifier.")
    said = Statements(options.license, options.teacher_license, options.data_license, options.notes)
    if options.json:
        print(json.dumps(record(options.model, options.name, said), indent=1))
        return 0
    print(write_card(options.model, options.name, said, options.overwrite))
    return 0


def push(options: argparse.Namespace) -> int:
    """A saved verifier, or the folder of a Space, to the Hub: what belongs there, and nothing else."""
    from pathlib import Path

    from ..hub.upload import left_behind, push_model, push_space

    private = True if options.private else None  # else as the account has it
    is_a_space = Path(options.folder, "app.py").is_file()
    send = push_space if is_a_space else push_model
    print(send(options.folder, options.repository, private, options.revision))
    if stays := left_behind(options.folder, is_a_space):
        print(f"oskdft: not sent: {', '.join(stays)}", file=sys.stderr)
    return 0


def augment(options: argparse.Namespace) -> int:
    """What augmentation does to a recording: a WAV for each kind, and a sheet of spectrograms."""
    from ..audio.augmentation_examples import write_examples

    files = write_examples(options.file, options.out, options.noise_root, options.rir_root, options.seed)
    print(f"{len(files) - 1} recordings to listen to, and '{files[-1]}' to look at.")
    return 0


def _say(preparation: "Preparation") -> None:
    print(
        f"{preparation.utterances:,} utterances of {len(preparation.speakers):,} speakers, {preparation.hours:,.1f} "
        f"hours, {len(preparation.skipped)} files skipped: {preparation.manifest}"
    )


def convert(options: argparse.Namespace) -> int:
    """A checkpoint of the authors' code as a folder that `from_pretrained` opens."""
    from pathlib import Path

    from transformers import Wav2Vec2FeatureExtractor

    from ..files import read_json, whole_folder
    from ..student.conversion import convert_original_state_dict, read_original_checkpoint

    if not Path(options.config).is_file():
        raise FileNotFoundError(
            f"There is no description at '{options.config}': give the config.json of the checkpoint."
        )
    config = read_json(options.config)
    converted = convert_original_state_dict(read_original_checkpoint(options.checkpoint), config)
    model = converted.build()
    # The authors do not normalise waveforms.
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    with whole_folder(options.out) as folder:
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    print(f"The {'verifier' if converted.head else 'encoder, which had no head,'} is in '{options.out}'.")
    return 0


def export(options: argparse.Namespace) -> int:
    """A verifier out of Python: one ONNX graph, its thresholds, and a page that decides with onnxruntime alone."""
    from ..export.onnx_graph import export_onnx

    written = export_onnx(
        options.model,
        options.out,
        options.opset,
        options.revision,
        options.int8,
        options.calibration,
        options.split,
    )
    if options.json:
        print(json.dumps(written.as_dict()))
        return 0
    print(
        f"'{written.folder}': {written.precision}, {written.bytes / 1e6:.2f} MB, opset {written.opset}; lowest "
        f"cosine to PyTorch {written.cosine:.6f}, on {'the calibration audio' if options.int8 else 'noise'}."
    )
    if options.int8:
        print(
            f"Convolutions: {len(written.int8_convolutions)} in int8, {len(written.two_part_convolutions)} in int8 in "
            f"two parts, {len(written.float_convolutions)} in float32."
        )
    return 0


def benchmark(options: argparse.Namespace) -> int:
    """A benchmark: a table of ratios measured in one run."""
    from ..benchmark.__main__ import main as benchmark_main

    return benchmark_main([options.name, *(["--json"] if options.json else [])])


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = argparse.ArgumentParser(
        prog="oskdft", description="From a large speech encoder to a small speaker verifier."
    )
    top.add_argument("--debug", action="store_true", help="show where an error arose")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").strip().splitlines()[0]
        one = commands.add_parser(function.__name__.replace("_", "-"), help=text, description=text)
        one.set_defaults(function=function)
        return one

    one = command(quickstart)
    one.add_argument(
        "--out", default="quickstart", help="folder for voices, teacher and student (default: quickstart)"
    )
    one.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    one = command(train)
    one.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="RECIPE.yaml [--field value ...]", help="see --help of it"
    )
    one = command(verify)
    one.add_argument(
        "recordings", nargs="*", help="two recordings; of more, the last is compared with the mean of the others"
    )
    one.add_argument("--pairs", metavar="LIST", help="'first second' lines, tabs or quotes where names have spaces")
    one.add_argument("--operating_point", default="eer", help="eer (default), far_1_percent or far_0.1_percent")
    _add_model_options(one)
    one = command(embed)
    one.add_argument("recordings", nargs="+", help="recordings, folders, manifests, or lists (.txt) of recordings")
    one.add_argument("--out", help="FILE.npz, .parquet, .csv or .jsonl with paths and embeddings")
    one.add_argument("--skip-damaged", action="store_true", help="name what cannot be read, and write the rest")
    _add_model_options(one)
    one = command(prepare_voxceleb)
    one.add_argument("--voxceleb1", help="folder that VoxCeleb1 was unpacked to")
    one.add_argument("--voxceleb2", help="folder that VoxCeleb2 was unpacked to (m4a needs ffmpeg)")
    one.add_argument("--trials", help="folder of the trial lists (default: that of VoxCeleb1)")
    one.add_argument("--out", required=True, help="folder for manifests, trial lists, report.json and FLAC")
    _add_preparation_options(one)
    one = command(prepare_folder)
    one.add_argument("folder", help="speaker/session/utterance.wav (flac, ogg, mp3, m4a, …) at any depth")
    one.add_argument("--out", required=True, help="manifest to write: NAME.parquet")
    _add_layout(one)
    _add_preparation_options(one)
    one = command(split)
    _add_data_options(one)
    one.add_argument(
        "--test", type=float, default=0.1, help="speakers to hold out: a number, or a share below 1 (0.1)"
    )
    one.add_argument("--out", required=True, help="folder for train.parquet, test.parquet and trials.txt")
    one = command(make_trials)
    _add_data_options(one)
    one.add_argument("--split", help="rows of the data whose split is this one")
    one.add_argument("--across_sessions", action="store_true", help="leave out trials within one session")
    one.add_argument("--out", required=True, help="trial list to write: 'label enrol test' lines")
    one = command(push_dataset)
    one.add_argument("data", help="manifest, folder or dataset of the recordings")
    one.add_argument("repository", nargs="?", help="org/name of a dataset on the Hub")
    one.add_argument(
        "--out", required=True, help="folder for the shards; they stay there, and are kept when it is run again"
    )
    one.add_argument("--local", action="store_true", help="write the shards and send nothing")
    one.add_argument("--public", action="store_true", help="a new repository is public (default: private)")
    one.add_argument("--split", help="rows of the data whose split is this one")
    one.add_argument("--data_root", help="replaces the root that a manifest was made with")
    one.add_argument("--workers", type=int, help="processes (default: one a core)")
    one = command(card)
    one.add_argument("model", help="folder of a saved verifier; its results.json is read where it is there")
    one.add_argument("--name", help="org/name on the Hub, for the code that readers copy (default: the folder's name)")
    one.add_argument("--license", default="", help="identifier of the model's licence, e.g. cc-by-sa-4.0")
    one.add_argument("--teacher_license", default="", help="the teacher's licence, in words")
    one.add_argument("--data_license", default="", help="the training data's licence, in words")
    one.add_argument("--notes", default="", help="a paragraph of your own")
    one.add_argument("--overwrite", action="store_true", help="replace a README.md that was written by hand")
    one.add_argument("--json", action="store_true", help="print the facts and write nothing")
    one = command(push)
    one.add_argument("folder", help="folder of a saved verifier, or of a Space (with app.py)")
    one.add_argument("repository", help="org/name on the Hub")
    one.add_argument("--private", action="store_true", help="a new repository is private")
    one.add_argument("--revision", help="branch to send to (default: main)")
    one = command(augment)
    one.add_argument("file", help="a recording")
    one.add_argument("--out", required=True, help="folder to write to")
    one.add_argument("--noise_root", help="folder laid out like MUSAN")
    one.add_argument("--rir_root", help="folder of room impulse responses")
    one.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    one = command(evaluate)
    one.add_argument("model", help="folder or repository of a verifier")
    one.add_argument("--data", required=True, nargs="+", help="folders, manifests or datasets of the recordings")
    one.add_argument("--trials", required=True, help="trial list: 'label enrol test' lines")
    one.add_argument("--split", help="rows of the data whose split is this one")
    one.add_argument("--data_root", help="replaces the root that a manifest was made with")
    one.add_argument(
        "--scoring", choices=SCORINGS, default="full", help="whole utterances, 5 segments of 3 s, or both"
    )
    one.add_argument("--num_workers", type=int, default=0, help="processes that read ahead (default: 0)")
    one.add_argument("--batch_seconds", type=float, default=60.0, help="audio in a batch (default: 60)")
    one.add_argument("--p_target", type=float, default=0.01, help="prior of minDCF (default: 0.01)")
    one.add_argument("--scores", metavar="FILE", help="write 'label enrol test score' lines, separated by tabs")
    _add_backend(one)
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one = command(convert)
    one.add_argument("checkpoint", help=".safetensors or .pt file of the authors' code")
    one.add_argument("config", help="its config.json: family, encoder_config, adapter")
    one.add_argument("--out", required=True, help="folder to write")
    one = command(export)
    one.add_argument("model", help="folder or repository of a verifier")
    one.add_argument("--out", required=True, help="folder to write: new, empty, or an export that is replaced")
    one.add_argument("--format", choices=("onnx",), default="onnx", help="of the graph (default: onnx)")
    one.add_argument("--int8", action="store_true", help="quantise; wants --calibration")
    one.add_argument("--calibration", help="folder or manifest of speech, a few dozen recordings, for int8")
    one.add_argument("--split", help="rows of that manifest whose split is this one")
    one.add_argument("--opset", type=int, default=20, help="of ONNX: 18 to 23 (default: 20)")
    one.add_argument("--revision", help="branch, tag or commit of the repository")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one = command(benchmark)
    one.add_argument("name", help="a benchmark's name, or all")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    return top


def _add_model_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--model", required=True, help="folder or repository of a verifier")
    _add_backend(one)
    one.add_argument("--channel", type=int, help="of recordings with several, from 0 (default: they are mixed)")
    one.add_argument("--revision", help="branch, tag or commit of the repository")
    one.add_argument("--json", action="store_true", help="print JSON")


def _add_backend(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--backend",
        choices=("auto", "torch", "onnxruntime"),
        default="auto",
        help="default: auto, what the folder holds",
    )


def _add_data_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("data", help="manifest, folder or dataset of the recordings")
    one.add_argument("--data_root", help="replaces the root that a manifest was made with")
    _add_layout(one)
    one.add_argument("--most", type=int, default=20000, help="trials of a kind, at most (default: 20000)")
    one.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")


def _add_layout(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--layout",
        choices=("auto", "speaker/session", "speaker"),
        default="auto",
        help="which folders above a file are its speaker and session (default: auto, by their depth)",
    )


def _add_preparation_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--workers", type=int, help="processes (default: one a core; more for a network disk)")
    one.add_argument("--max_damaged", type=int, default=100, help="files to skip until it stops (default: 100)")
    one.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: list[str] | None = None) -> int:
    """The `oskdft` command."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it can be said what was stopped
    except ValueError:
        pass  # not the main thread
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"]:  # the recipe's own parser knows its options, and its script its errors
        return _can_train([]) or train(argparse.Namespace(words=words[1:]))
    return _run(words)


@one_sentence_errors
def _can_train(words: list[str] | None = None) -> int:
    """Whether what training needs is installed."""
    _prepare_heavy_imports()
    import_module("train_oskdft")
    return 0


@one_sentence_errors
def _run(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    if options.command not in FAST:
        _prepare_heavy_imports()
    return int(options.function(options))
