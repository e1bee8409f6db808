"""Compute the equal error rate of a verifier, as a metric of the evaluate library.

evaluate downloads this file alone from the Hub, so it shares no code with the other metric.
"""

# No comment on a line with an import: evaluate reads these lines, and takes a comment for an address.
import datasets
import evaluate

from modeling_oskdft.scoring.metrics import equal_error_rate

DESCRIPTION = (
    "The rate at which a verifier's false accepts and false rejects are equally frequent, by straight lines between "
    "the points of the ROC curve, and the threshold that gives it."
)
INPUTS = """
Args:
    predictions: (trials,) scores, larger for more alike.
    references: (trials,) labels, 1 for a target trial (the same speaker) and 0 for a non-target trial.

Returns:
    eer: a fraction, 0 to 1.
    threshold: the decision is "the same speaker" from this score on.
"""


class EER(evaluate.Metric):
    """Call `modeling_oskdft.scoring.metrics.equal_error_rate` on scores and labels that evaluate collected."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            # No `format`: evaluate's NumPy format would round the scores to 32 bits. Labels are floats as well: as
            # integers, a wrong label such as 0.7 would silently become 0.
            features=datasets.Features(dict.fromkeys(("predictions", "references"), datasets.Value("float64"))),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        rate = equal_error_rate(predictions, references)
        return {"eer": rate.value, "threshold": rate.threshold}
