"""Renew a student on the speakers of a corpus that it was trained without, and judge it on old and new trials.

The student is that of examples/adapt_to_site.py, trained without speechocean762. "Now" is the training part of that
corpus; "before" are the validation speakers of the other corpora. It runs what `oskdft renew` runs.

    python examples/adapt_to_site.py
    python -m examples.renewal

It needs the folder of real speech beside the project, writes docs/results/renewal.json and the page rendered from it,
and takes about ten minutes on two CPU cores.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from modeling_oskdft import SpeakerVerifier
from modeling_oskdft.data.sources import load_manifest
from modeling_oskdft.data.trials import make_trials
from modeling_oskdft.errors import one_sentence_errors
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import measured_on
from modeling_oskdft.renewal.judging import NEW
from modeling_oskdft.renewal.renewing import ADAPTED, MOST_TRIALS, RECALIBRATED, Renewal, renew
from modeling_oskdft.scoring.metrics import eer_in_percent
from modeling_oskdft.training.validation import TrialDataset

from .adapt_to_site import RUNS, SITE, SPEECH

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"
EPOCHS = 8
STAGES = {"before": "in use", RECALIBRATED: "calibrated anew", ADAPTED: "with a LoRA, merged"}


def run() -> Renewal:
    """Renew the student of examples/adapt_to_site.py.

    Raises:
        FileNotFoundError: without the speech or the student.
    """
    if not SPEECH.is_dir():
        raise FileNotFoundError("The folder of real speech is not beside the project: nothing was run.")
    verifier = SpeakerVerifier.from_pretrained(str(RUNS / "student"))
    now = load_manifest(SPEECH / "manifest.csv", split="train").where("corpus", [SITE])
    validation = load_manifest(SPEECH / "manifest.csv", split="validation")
    before = validation.where("corpus", sorted(set(validation.column("corpus")) - {SITE}))
    old = TrialDataset(before, make_trials(before.by_speaker(), 0, MOST_TRIALS))
    return renew(verifier, now, old, epochs=EPOCHS)


def page(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    speakers, change = results["speakers"], results[ADAPTED]["change_of_eer"]
    lines = [
        "# A renewal",
        "",
        f"By `python -m examples.renewal`, seed {results['seed']}. The student was trained without {SITE}. Of "
        f"{sum(speakers.values())} speakers of that corpus {speakers['training']} trained, {speakers['calibrating']} "
        f"chose the epoch ({results[ADAPTED]['epoch']} of {EPOCHS}) and calibrated, and {speakers['judging']} judged: "
        "these are the new trials. The old ones are of the validation speakers of the other corpora. EER in %, with "
        "95 % intervals by bootstrap over speakers.",
        "",
        "| trials | verifier | EER, % | Cllr |",
        "| --- | --- | ---: | ---: |",
    ]
    for name in results["before"]:
        for stage, words in STAGES.items():
            rates = results[stage][name]
            lines.append(
                f"| {name}, {rates['speakers']} speakers | {words} | {eer_in_percent(rates)} | {rates['cllr']:.3f} |"
            )
    gain = 100 * (results[ADAPTED][NEW]["eer"] - results["before"][NEW]["eer"])
    lines += [
        "",
        f"Decision: {results['decision']}. On the new trials the EER changes by {gain:.1f} points (95 %: "
        f"{100 * change[0]:.1f} to {100 * change[1]:.1f}).",
        "",
        *results["reasons"][:1],
        "",
        measured_on(results, ("torch", "transformers")),
        "",
    ]
    return "\n".join(lines)


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Renew, and write the results and their page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    renewal = run()
    results = {"name": "renewal", "decision": renewal.decision, "reasons": list(renewal.reasons), **renewal.facts}
    write_json(results, DOCS / "renewal.json")
    with whole_file(DOCS / "renewal.md") as file:
        file.write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
