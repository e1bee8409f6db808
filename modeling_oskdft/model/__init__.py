"""Register the configuration and the verifier with transformers' auto classes on import."""

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


def _encoder_alone() -> type[OSKDFTPreTrainedModel]:
    """Define the class that `AutoModel` takes for the folder of an `OSKDFTModel`: an error, never a random head.

    Of several classes for one configuration, transformers takes the one that `architectures` in `config.json` names.
    So this class has the name of the encoder, and lives in a function, where it hides no other.
    """

    class OSKDFTModel(OSKDFTPreTrainedModel):
        """Refuse to be built or opened."""

        def __init__(self, config: OSKDFTConfig) -> None:
            self._refuse("The configuration")

        @classmethod
        def from_pretrained(cls, name_or_path: object, *args: Any, **kwargs: Any) -> NoReturn:
            cls._refuse(f"'{name_or_path}'")

        @staticmethod
        def _refuse(source: str) -> NoReturn:
            raise ValueError(
                f"{source} holds an OSKDFTModel without a speaker head: open it with OSKDFTModel.from_pretrained, "
                "or give AutoModel a saved OSKDFTForXVector."
            )

    return OSKDFTModel


AutoConfig.register(OSKDFTConfig.model_type, OSKDFTConfig)
# `AutoModel` opens what the folder holds; the first class stands for a configuration that names none.
AutoModel.register(OSKDFTConfig, (OSKDFTForXVector, OSKDFTForSequenceClassification, OSKDFTForCTC, _encoder_alone()))
AutoModelForAudioXVector.register(OSKDFTConfig, OSKDFTForXVector)
AutoModelForAudioClassification.register(OSKDFTConfig, OSKDFTForSequenceClassification)
AutoModelForCTC.register(OSKDFTConfig, OSKDFTForCTC)
