"""Ask whether more trials would decide what the study leaves undecided: all pairs instead of the list.

The list of the small real speech has every same-speaker pair and as many different-speaker pairs, drawn from those of
one corpus, gender and age group. Here all of these are scored, within sessions and across them, for systems whose runs
the study has left, and the paired intervals of both sets of trials stand side by side.

    python -m examples.one_step_or_two.study --systems 11_oskdft 30_embedding
    python -m examples.one_step_or_two.all_pairs --systems 30_embedding --beside 11_oskdft

It needs the folder of real speech beside the project, and writes docs/results/one_step_or_two_all_pairs.json and .md.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

from examples.one_step_or_two.page import REFERENCE, difference, points, rate
from examples.one_step_or_two.study import ROOT, parse, study_of
from examples.one_step_or_two.systems import Study
from modeling_oskdft.data.manifest import Manifest
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import Trials, read_trials
from modeling_oskdft.evaluation.report import speakers_of, trial_scores
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.scoring.metrics import bootstrap_rates, equal_error_rate

RESULTS = ROOT / "docs" / "results" / "one_step_or_two_all_pairs"
GROUP = ("corpus", "gender", "age_group")  # speakers of a different-speaker pair agree in these


def main(arguments: Sequence[str] | None = None) -> None:
    """Score all pairs, and write the results and the page."""
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", required=True, help="systems whose runs are there")
    parser.add_argument("--beside", default=REFERENCE, help=f"system of the differences (default: {REFERENCE})")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args(arguments)
    study = study_of(*parse([]))
    manifest = load_manifest(study.test_data, study.test_split)
    every, listed = all_pairs(manifest), read_trials(study.trials)
    systems = [options.beside, *options.systems]
    runs = [(system, seed) for system in systems for seed in options.seeds]
    scores = [scores_of(study, system, seed, manifest, every) for system, seed in runs]
    rows_of = {frozenset(pair): row for row, pair in enumerate(zip(every.enrolments, every.tests, strict=True))}
    rows = [rows_of[frozenset(pair)] for pair in zip(listed.enrolments, listed.tests, strict=True)]
    results: dict[str, Any] = {
        "name": "one_step_or_two_all_pairs",
        "seeds": options.seeds,
        "labels": {system: study.label(system) for system in systems},
        "list": compare(systems, options.seeds, listed, [each[rows] for each in scores], manifest),
        "all pairs": compare(systems, options.seeds, every, scores, manifest),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, RESULTS.with_suffix(".json"))
    with whole_file(RESULTS.with_suffix(".md")) as file:
        file.write_text(page(results), encoding="utf-8")


def all_pairs(manifest: Manifest) -> Trials:
    """Pair the recordings: all of one speaker, and those of two speakers who agree in `GROUP`."""
    names, speakers = manifest.column("utterance_id"), manifest.column("speaker_id")
    groups = list(zip(*(manifest.column(name) for name in GROUP), strict=True))
    pairs = [
        (first, second)
        for first in range(len(names))
        for second in range(first + 1, len(names))
        if speakers[first] == speakers[second] or groups[first] == groups[second]
    ]
    labels = np.asarray([int(speakers[first] == speakers[second]) for first, second in pairs])
    return Trials(labels, [names[first] for first, _ in pairs], [names[second] for _, second in pairs])


def scores_of(study: Study, system: str, seed: int, manifest: Manifest, trials: Trials) -> np.ndarray:
    """Score the trials by a run of the study.

    Raises:
        SystemExit: when the run is not there.
    """
    run = study.run_of(system, seed)
    if not (run / "results.json").is_file():
        sys.exit(f"There is no run of {system}, seed {seed}, in '{run}': run the study with --systems {system} first.")
    verifier = AutoModel.from_pretrained(run).eval()
    return trial_scores(verifier, AutoFeatureExtractor.from_pretrained(run), manifest, trials)


def compare(
    systems: Sequence[str], seeds: Sequence[int], trials: Trials, scores: Sequence[np.ndarray], manifest: Manifest
) -> dict[str, Any]:
    """Compute the EER of each system, and its paired difference from the first."""
    eers = [equal_error_rate(each, trials.labels).value for each in scores]
    draws, _ = bootstrap_rates(scores, trials.labels, trials.speakers(speakers_of(manifest)))
    columns = {system: range(at * len(seeds), (at + 1) * len(seeds)) for at, system in enumerate(systems)}
    return {
        "trials": len(trials.labels),
        "targets": int(trials.labels.sum()),
        "systems": {
            system: {
                "eer": rate(eers, draws, list(columns[system])),
                "difference": difference(eers, draws, list(zip(columns[system], columns[systems[0]], strict=True))),
            }
            for system in systems
        },
    }


def page(results: Mapping[str, Any]) -> str:
    """Write the results as a page."""
    listed, every = results["list"], results["all pairs"]
    first, *others = results["labels"]
    lines = [
        "| system | EER of the list, % | less the first's | EER of all pairs, % | less the first's |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    widths: dict[str, list[float]] = {"list": [], "all pairs": []}
    for system, label in results["labels"].items():
        cells = []
        for name in widths:
            facts = results[name]["systems"][system]
            eer, gap = facts["eer"], facts["difference"]
            widths[name].append(gap["high"] - gap["low"])
            interval = f"({100 * eer['low']:.1f}–{100 * eer['high']:.1f})"
            cells += [f"{100 * eer['mean']:.1f} {interval}", points(gap) if system != first else "–"]
        lines.append(f"| {system.split('_')[0]} {label} | {' | '.join(cells)} |")
    narrow, wide = (100 * float(np.mean(widths[name][1:])) / 2 for name in ("all pairs", "list"))
    return f"""# All pairs instead of a list

<!-- Written by examples/one_step_or_two/all_pairs.py from its JSON: change that, not this. -->

Would more trials decide what [the study](one_step_or_two.md) leaves undecided? The list has {listed["trials"]:,}
trials ({listed["targets"]:,} of one speaker). All pairs of the same recordings are {every["trials"]:,}
({every["targets"]:,} of one speaker), within sessions and across them; two different speakers agree in corpus, gender
and age group, as in the list.

    python -m examples.one_step_or_two.all_pairs --systems {" ".join(others)} --beside {first}

{chr(10).join(lines)}

The mean half-width of a paired interval is {wide:.2f} points with the list and {narrow:.2f} with all pairs. Seeds
{", ".join(map(str, results["seeds"]))}; 95 % intervals by bootstrap over speakers.
{measured_on(results)}
"""


if __name__ == "__main__":
    main()
