"""Compute the minimum detection cost of a verifier, as a metric of the evaluate library.

evaluate downloads this file alone from the Hub, so it shares no code with the other metric.
"""

# No comment on a line with an import: evaluate reads these lines, and takes a comment for an address.
import datasets
import evaluate

from modeling_oskdft.scoring.metrics import min_detection_cost

DESCRIPTION = (
    "The smallest cost of a verifier's misses and false accepts over all thresholds, divided by that of the better of "
    "the two blind decisions, as in NIST's speaker recognition evaluations."
)
CITATION = """\
@inproceedings{sadjadi17_interspeech,
  title = {The 2016 {NIST} Speaker Recognition Evaluation},
  author = {Sadjadi, Seyed Omid and Kheyrkhah, Timothee and Tong, Audrey and Greenberg, Craig and Reynolds, Douglas
            and Singer, Elliot and Mason, Lisa and Hernandez-Cordero, Jaime},
  booktitle = {Proc. Interspeech 2017},
  pages = {1353--1357},
  year = {2017}
}
"""
INPUTS = """
Args:
    predictions: (trials,) scores, larger for more alike.
    references: (trials,) labels, 1 for a target trial (the same speaker) and 0 for a non-target trial.
    p_target: prior probability of a target trial, between 0 and 1.
    c_miss: cost of a target trial that is turned away.
    c_fa: cost of a non-target trial that is accepted.

Returns:
    min_dcf: 0 to 1.
"""


class MinDCF(evaluate.Metric):
    """Call `modeling_oskdft.scoring.metrics.min_detection_cost` on scores and labels that evaluate collected."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            # No `format`: evaluate's NumPy format would round the scores to 32 bits. Labels are floats as well: as
            # integers, a wrong label such as 0.7 would silently become 0.
            features=datasets.Features(dict.fromkeys(("predictions", "references"), datasets.Value("float64"))),
        )

    def _compute(
        self,
        predictions: list[float],
        references: list[float],
        p_target: float = 0.01,
        c_miss: float = 1.0,
        c_fa: float = 1.0,
    ) -> dict[str, float]:
        return {"min_dcf": min_detection_cost(predictions, references, p_target, c_miss, c_fa)}
