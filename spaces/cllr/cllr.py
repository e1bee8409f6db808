"""Compute Cllr of log-likelihood ratios, as a metric of the evaluate library.

evaluate downloads this file alone from the Hub, so it shares no code with the other metrics.
"""

# No comment on a line with an import: evaluate reads these lines, and takes a comment for an address.
import datasets
import evaluate

from modeling_oskdft.scoring.likelihood_ratios import cllr, min_cllr

DESCRIPTION = (
    "The cost of log-likelihood ratios in bits: 0 for perfect ones, 1 for ones that say nothing, more for ones that "
    "mislead; and the least cost that any rising function of them would have, which calibration cannot improve."
)
CITATION = """\
@article{brummer06_csl,
  title = {Application-independent evaluation of speaker detection},
  author = {Br{\\"u}mmer, Niko and du Preez, Johan},
  journal = {Computer Speech and Language},
  volume = {20},
  pages = {230--275},
  year = {2006}
}
"""
INPUTS = """
Args:
    predictions: (trials,) log-likelihood ratios, natural logarithms.
    references: (trials,) labels, 1 for a target trial (the same speaker) and 0 for a non-target trial.

Returns:
    cllr: 0 or more.
    min_cllr: 0 to 1.
"""


class Cllr(evaluate.Metric):
    """Call `modeling_oskdft.scoring.likelihood_ratios.cllr` and `min_cllr` on what evaluate collected."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            # No `format`: evaluate's NumPy format would round the ratios to 32 bits. Labels are floats as well: as
            # integers, a wrong label such as 0.7 would silently become 0.
            features=datasets.Features(dict.fromkeys(("predictions", "references"), datasets.Value("float64"))),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        return {"cllr": cllr(predictions, references), "min_cllr": min_cllr(predictions, references)}
