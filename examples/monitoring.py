"""Measure how often `oskdft monitor` gives a false alarm, and what it notices: from the stored scores of the study.

Thresholds are measured on the trials of some speakers. Decisions are drawn from the trials of the others, as of people
who use a service, without a change and with one. Each draw is judged beside the trials of the thresholds, and beside
first decisions of the service. No score is computed anew and nothing is trained.

    python -m examples.monitoring
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeling_oskdft.errors import one_sentence_errors
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.thresholds import measure_thresholds
from modeling_oskdft.verification.monitoring import (
    HOLDS,
    LOOK_AT_IT,
    RECALIBRATE,
    TRAIN_ANEW,
    Scored,
    judge,
)

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SYSTEM = "60_oskdft_ten_times"
DRAWS, DECISIONS, SHARES, FIRST = 400, (200, 1000), (0.05, 0.5), 1000
TRIALS = "the trials of the thresholds"
BESIDE = (TRIALS, f"the first {FIRST:,} decisions")
VERDICTS = (HOLDS, LOOK_AT_IT, RECALIBRATE, TRAIN_ANEW)
Scores = NDArray[np.float64]
Change = Callable[[Scores, Scores, np.random.Generator], Scores]  # scores, 1 for targets, draws
CHANGES: dict[str, Change] = {
    "nothing": lambda scores, targets, random: scores,
    "all scores 0.05 lower": lambda scores, targets, random: scores - 0.05,
    "all scores 0.1 higher": lambda scores, targets, random: scores + 0.1,
    "same-speaker scores 0.1 lower, as with a new microphone": lambda scores, targets, random: scores - 0.1 * targets,
    "both kinds half as far apart, as in loud noise": lambda scores, targets, random: scores - 0.25 * targets,
    "noise of 0.1 on each score": lambda scores, targets, random: scores + random.normal(0, 0.1, len(scores)),
}


def measure() -> list[dict[str, Any]]:
    """Draw and judge decisions.

    Returns:
        For each change, whose decisions they are, their number and share of targets: the share of each verdict.
    """
    trials = json.loads((RESULTS / "one_step_or_two" / "trials.json").read_text(encoding="utf-8"))
    stored = json.loads((RESULTS / "one_step_or_two" / f"{SYSTEM}-0.json").read_text(encoding="utf-8"))
    scores, labels = np.asarray(stored["scores"]), np.asarray(trials["labels"])
    speakers = np.asarray(trials["speakers"])
    rows = []
    for change in CHANGES:
        for beside in BESIDE:
            for number in DECISIONS:
                for share in SHARES:
                    drawn = [
                        _verdict(scores, labels, speakers, beside, CHANGES[change], number, share, seed)
                        for seed in range(DRAWS)
                    ]
                    shares = {verdict: drawn.count(verdict) / DRAWS for verdict in VERDICTS}
                    rows.append({"change": change, "beside": beside, "decisions": number, "targets": share, **shares})
        print(f"{change} …", file=sys.stderr)
    return rows


def _verdict(
    scores: Scores,
    labels: NDArray[np.int64],
    speakers: NDArray[np.str_],
    beside: str,
    change: Change,
    number: int,
    share: float,
    seed: int,
) -> str:
    """Measure thresholds on half of the speakers, and judge decisions about the other half."""
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(speakers))
    known = np.isin(speakers, names[: len(names) // 2]).all(1)
    users = np.isin(speakers, names[len(names) // 2 :]).all(1)
    thresholds = measure_thresholds(scores[known], labels[known], len(names) // 2, "half of the speakers", "0" * 64)
    limit = thresholds.values["eer"]
    assert limit is not None

    def decisions(count: int, changed: Change) -> list[Scored]:
        targets = (random.random(count) < share).astype(float)
        kinds = [random.choice(scores[users & (labels == kind)], count) for kind in (0, 1)]
        drawn = changed(np.where(targets == 1, kinds[1], kinds[0]), targets, random)
        return [Scored(float(score), limit, False) for score in drawn]

    reference = thresholds if beside == TRIALS else decisions(FIRST, CHANGES["nothing"])
    return judge(decisions(number, change), reference).verdict


def page(results: dict[str, Any]) -> str:
    """Write the page as Markdown.

    Args:
        results: as `main` stores them.
    """
    head = ["what has changed", "beside", "decisions", "targets", *VERDICTS]
    lines = [
        f"| {row['change']} | {row['beside']} | {row['decisions']:,} | {row['targets']:.0%} | "
        + " | ".join(f"{row[verdict]:.1%}" for verdict in VERDICTS)
        + " |"
        for row in results["rows"]
    ]
    return "\n".join(
        [
            "# Watching a service",
            "",
            "<!-- Written by examples/monitoring.py from the stored result: change that, not this. -->",
            "",
            "How often `oskdft monitor` gives which verdict, by `python -m examples.monitoring`: "
            f"{results['draws']} draws each. Thresholds stand on half of the {results['speakers']} speakers of "
            "[the study](one_step_or_two.md), decisions are about the other half: people whom nobody has heard, "
            "as in use. The rows without a change are false alarms.",
            "",
            "| " + " | ".join(head) + " |",
            "| " + " | ".join(["---", "---", "---:", "---:", *["---:"] * len(VERDICTS)]) + " |",
            *lines,
            "",
            results["note"],
            "",
            f"System {results['system']}, seed 0. {measured_on(results, ('numpy',))}",
            "",
        ]
    )


@one_sentence_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, store and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the page of the stored result anew")
    options = parser.parse_args(arguments)
    place = RESULTS / "monitoring.json"
    if not options.render:
        speakers = json.loads((RESULTS / "one_step_or_two" / "trials.json").read_text(encoding="utf-8"))["speakers"]
        results = {"system": SYSTEM, "draws": DRAWS, "speakers": len(set(map(str, np.unique(speakers))))}
        known = json.loads(place.read_text(encoding="utf-8"))["note"] if place.is_file() else ""
        write_json(results | {"rows": measure(), "note": known, "machine": machine(), "versions": versions()}, place)
    with whole_file(place.with_suffix(".md")) as file:
        file.write_text(page(json.loads(place.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
