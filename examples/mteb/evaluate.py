"""Evaluate a verifier with MTEB on a task of your own recordings, in the format of MTEB's audio pairs.

    pip install mteb
    python -m examples.mteb.evaluate quickstart/student --data FOLDER

The task is `AbsTaskPairClassification` on pairs of recordings, 1 where both have one speaker; MTEB computes accuracy,
F1 and average precision. MTEB's own tasks take the encoder as it is:

    mteb.evaluate(SpeakerEncoder("quickstart/student"), mteb.get_tasks(modalities=["audio"]))
"""

import argparse
import json
import sys
import tempfile
from typing import Any, cast

from datasets import Dataset

import mteb
from modeling_oskdft.audio.loading import SAMPLING_RATE, load_audio
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import Trials, make_trials
from modeling_oskdft.errors import one_sentence_errors
from mteb.abstasks import AbsTaskPairClassification
from mteb.abstasks.task_metadata import TaskMetadata

from .encoder import SpeakerEncoder

MOST = 500  # pairs of each kind


class SpeakerPairs(AbsTaskPairClassification):
    """Tell pairs of recordings of one speaker from pairs of two, on recordings of one's own.

    Args:
        manifest: the recordings.
        trials: the pairs.
    """

    metadata = TaskMetadata(
        name="SpeakerPairs",
        description="Do two recordings have one speaker?",
        reference="https://arxiv.org/abs/2305.17394",
        dataset={"path": "local/speaker-pairs", "revision": "local"},
        type="AudioPairClassification",
        category="a2a",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="max_ap",
        domains=["Spoken"],
        modalities=["audio"],
    )
    input1_column_name, input2_column_name, label_column_name = "audio1", "audio2", "label"

    def __init__(self, manifest: Manifest, trials: Trials) -> None:
        super().__init__()
        self.manifest, self.trials = manifest, trials

    def load_data(self, num_proc: int | None = None, **arguments: object) -> None:
        """Read the recordings, each once; the arguments are MTEB's and have no effect."""
        needed = self.manifest.where("utterance_id", self.trials.utterances())
        names = needed.column("utterance_id")
        heard = {
            name: {"array": load_audio(needed.audio(row)), "sampling_rate": SAMPLING_RATE}
            for row, name in enumerate(names)
        }
        columns = {
            "audio1": [heard[name] for name in self.trials.enrolments],
            "audio2": [heard[name] for name in self.trials.tests],
            "label": self.trials.labels.tolist(),
        }
        self.dataset = {"test": Dataset.from_dict(columns).with_format("numpy")}
        self.data_loaded = True


def evaluate(model: str, manifest: Manifest, trials: Trials) -> dict[str, Any]:
    """Evaluate a verifier on pairs.

    Args:
        model: folder or repository.
        manifest: the recordings.
        trials: the pairs.

    Returns:
        MTEB's scores by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = mteb.ResultCache(folder)
        found = mteb.evaluate(
            cast(Any, SpeakerEncoder(model)), SpeakerPairs(manifest, trials), cache=cache, overwrite_strategy="always"
        )
    (result,) = found.task_results
    return dict(result.scores["test"][0])


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Evaluate the verifier that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or repository of the verifier")
    parser.add_argument("--data", required=True, help="recordings: a folder or manifest")
    options = parser.parse_args(arguments)
    manifest = load_manifest(options.data)
    print(json.dumps(evaluate(options.model, manifest, make_trials(manifest.by_speaker(), most=MOST)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
