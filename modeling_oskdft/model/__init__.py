"""Register the configuration and the models with transformers' auto classes on import."""

from typing import Any, NoReturn

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass

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


# What an auto class says of a folder that holds another model than its own.
_OTHERS = {
    "OSKDFTModel": "{source} holds an OSKDFTModel without a speaker head: open it with OSKDFTModel.from_pretrained, "
    "or give AutoModel a saved OSKDFTForXVector.",
    "OSKDFTForXVector": "{source} holds a verifier, which knows neither classes nor letters: start from it with "
    "OSKDFTForSequenceClassification.from_pretrained(…, num_labels=N) or OSKDFTForCTC.from_pretrained, and train it.",
    "OSKDFTForSequenceClassification": "{source} holds a classifier: open it with AutoModelForAudioClassification.",
    "OSKDFTForCTC": "{source} holds a recogniser of letters: open it with AutoModelForCTC.",
}


def _register(door: type[_BaseAutoModelClass], *models: type[OSKDFTPreTrainedModel]) -> None:
    """Let an auto class open the folders of some models, and refuse those of all others.

    The first model stands for a configuration that names none.
    """
    own = {model.__name__ for model in models}
    door.register(OSKDFTConfig, (*models, *(_refusing(*other) for other in _OTHERS.items() if other[0] not in own)))


AutoConfig.register(OSKDFTConfig.model_type, OSKDFTConfig)
_register(AutoModel, OSKDFTForXVector, OSKDFTForSequenceClassification, OSKDFTForCTC)
_register(AutoModelForAudioXVector, OSKDFTForXVector)
_register(AutoModelForAudioClassification, OSKDFTForSequenceClassification)
_register(AutoModelForCTC, OSKDFTForCTC)
