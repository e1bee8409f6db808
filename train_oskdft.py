# /// script
# requires-python = ">=3.11"
# dependencies = ["modeling-oskdft[train,vad]"]
# ///
"""Distil and fine-tune a speech encoder into a speaker verifier, in one run.

    accelerate launch train_oskdft.py RECIPE.yaml [--field value ...]

The method, as `modeling_oskdft/training/run.py` runs it:

1. Load the teacher. The student starts as its front end and some of its layers, with an adapter beside each
   feed-forward block and a speaker head on top.
2. Set training speakers aside; their trials select the best checkpoint.
3. Train. Each batch passes the student once, on two paths through the same layers. Without adapters (kd path), the
   hidden states follow those of the frozen teacher; with adapters (ft path), the head classifies the speakers:
   loss = kd_weight(t) * kd_loss + ft_loss, with a kd_weight that fades.
4. Measure thresholds on the speakers set aside; read the test trials once.
5. Write the student, which is the ft path alone, with thresholds, results and a card.

The recipe names a teacher, its layers that the student keeps, both losses, the data and the schedules; see
examples/recipes. The run ends with the best checkpoint in `output_dir`, loadable by `AutoModel.from_pretrained`, and
`results.json` beside it. `--resume_from_checkpoint last` goes on after an interruption, with the same bits; `auto`
does so where there is a checkpoint, and begins where there is none. On one process, `oskdft train RECIPE.yaml` is the
same.
"""

import sys

from modeling_oskdft.commands.train import train
from modeling_oskdft.errors import one_sentence_errors


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Read the recipe, run it, print the place of the student."""
    return train(sys.argv[1:] if arguments is None else arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
