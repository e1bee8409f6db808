"""Register the configuration and the models with transformers' auto classes on import."""

from typing import Any, NoReturn

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
)

from .configuration_oskdft import OSKDFTConfig
from .modeling_oskdft import OSKDFTForXVector, OSKDFTPreTrainedModel
from .modeling_tasks_oskdft import OSKDFTForCTC, OSKDFTForSequenceClassification


def _refusing(name: str, sentence: str) -> type[OSKDFTPreTrainedModel]:
    """Define the class that an auto class takes for folders of another model: an error, never a random head.

    Of several classes for one configuration, transformers takes the one that `architectures` in `config.json` names.

    Args:
        name: name of the model whose folders are refused.
        sentence: the error; `{source}` stands for the folder.
    """

    def refuse(source: str) -> NoReturn:
        raise ValueError(sentence.format(source=source))

    class Refusing(OSKDFTPreTrainedModel):
        """Refuse to be built or opened."""

        def __init__(self, config: OSKDFTConfig) -> None:
            refuse("The configuration")

        @classmethod
        def from_pretrained(cls, name_or_path: object, *args: Any, **kwargs: Any) -> NoReturn:
            refuse(f"'{name_or_path}'")

    Refusing.__name__ = name
    return Refusing


_WITHOUT_HEAD = (
    "{source} holds an OSKDFTModel without a speaker head: open it with OSKDFTModel.from_pretrained, or give "
    "AutoModel a saved OSKDFTForXVector."
)
_NO_CLASSIFIER = (
    "{source} holds a verifier, which knows no classes: start a classifier from it with "
    "OSKDFTForSequenceClassification.from_pretrained(…, num_labels=N), and train it."
)
_NO_LETTERS = (
    "{source} holds a verifier, which knows no letters: start a recogniser from it with OSKDFTForCTC.from_pretrained, "
    "and train it."
)
ENCODER, VERIFIER = "OSKDFTModel", "OSKDFTForXVector"

AutoConfig.register(OSKDFTConfig.model_type, OSKDFTConfig)
# `AutoModel` opens what the folder holds; the first class stands for a configuration that names none.
TASKS = (OSKDFTForSequenceClassification, OSKDFTForCTC)
AutoModel.register(OSKDFTConfig, (OSKDFTForXVector, *TASKS, _refusing(ENCODER, _WITHOUT_HEAD)))
AutoModelForAudioXVector.register(OSKDFTConfig, OSKDFTForXVector)
AutoModelForAudioClassification.register(
    OSKDFTConfig, (OSKDFTForSequenceClassification, _refusing(VERIFIER, _NO_CLASSIFIER))
)
AutoModelForCTC.register(OSKDFTConfig, (OSKDFTForCTC, _refusing(VERIFIER, _NO_LETTERS)))
