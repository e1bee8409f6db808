"""Registers the model with transformers' auto classes, when it is imported."""

from typing import Any, NoReturn

from transformers import AutoConfig, AutoModel, AutoModelForAudioXVector

from .configuration_oskdft import OSKDFTConfig
from .modeling_oskdft import OSKDFTForXVector, OSKDFTModel, OSKDFTPreTrainedModel


class _EncoderAlone(OSKDFTPreTrainedModel):
    """What `AutoModel` finds for a folder that holds an `OSKDFTModel`: an error instead of a random head."""

    def __init__(self, config: OSKDFTConfig) -> None:
        self._refuse("The configuration")

    @classmethod
    def from_pretrained(cls, name_or_path: object, *args: Any, **kwargs: Any) -> NoReturn:
        cls._refuse(f"'{name_or_path}'")

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise ValueError(
            f"{what} holds an OSKDFTModel without a speaker head: open it with OSKDFTModel.from_pretrained, "
            "or give AutoModel a saved OSKDFTForXVector."
        )


# Of several classes for one configuration, transformers takes the one that the folder's `architectures` names.
_EncoderAlone.__name__ = OSKDFTModel.__name__
AutoConfig.register(OSKDFTConfig.model_type, OSKDFTConfig)
AutoModel.register(OSKDFTConfig, (OSKDFTForXVector, _EncoderAlone))
AutoModelForAudioXVector.register(OSKDFTConfig, OSKDFTForXVector)
