"""OS-KDFT: a large speech encoder distilled and fine-tuned into a small speaker verifier, in one run.

Importing the package registers the model with transformers' auto classes; everything else is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from transformers import AutoConfig, AutoModel, AutoModelForAudioXVector

from ._version import __version__
from .configuration_oskdft import OSKDFTConfig
from .modeling_oskdft import OSKDFTForXVector, OSKDFTModel, OSKDFTPreTrainedModel

if TYPE_CHECKING:
    from .conversion import ConvertedCheckpoint, convert_original_state_dict
    from .evaluation.metrics import EqualErrorRate, equal_error_rate, min_detection_cost
    from .export import Export, export_onnx
    from .training.arguments import OSKDFTTrainingArguments
    from .training.initialization import init_student_from_teacher
    from .training.trainer import OSKDFTTrainer
    from .verification import SpeakerVerifier, VerificationResult

_LAZY = {
    "ConvertedCheckpoint": "conversion",
    "convert_original_state_dict": "conversion",
    "EqualErrorRate": "evaluation.metrics",
    "equal_error_rate": "evaluation.metrics",
    "min_detection_cost": "evaluation.metrics",
    "Export": "export",
    "export_onnx": "export",
    "OSKDFTTrainingArguments": "training.arguments",
    "init_student_from_teacher": "training.initialization",
    "OSKDFTTrainer": "training.trainer",
    "SpeakerVerifier": "verification",
    "VerificationResult": "verification",
}

__all__ = [
    "ConvertedCheckpoint",
    "EqualErrorRate",
    "Export",
    "OSKDFTConfig",
    "OSKDFTForXVector",
    "OSKDFTModel",
    "OSKDFTPreTrainedModel",
    "OSKDFTTrainer",
    "OSKDFTTrainingArguments",
    "SpeakerVerifier",
    "VerificationResult",
    "__version__",
    "convert_original_state_dict",
    "equal_error_rate",
    "export_onnx",
    "init_student_from_teacher",
    "min_detection_cost",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


class _EncoderAlone(OSKDFTPreTrainedModel):
    """What `AutoModel` finds for a folder that holds an `OSKDFTModel`: an error instead of a random head."""

    @classmethod
    def from_pretrained(cls, name_or_path: object, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(
            f"'{name_or_path}' holds an OSKDFTModel without a speaker head: open it with OSKDFTModel.from_pretrained, "
            "or give AutoModel a saved OSKDFTForXVector."
        )


# Of several classes for one configuration, transformers takes the one that the folder's `architectures` names.
_EncoderAlone.__name__ = OSKDFTModel.__name__
AutoConfig.register("oskdft", OSKDFTConfig)
AutoModel.register(OSKDFTConfig, (OSKDFTForXVector, _EncoderAlone))
AutoModelForAudioXVector.register(OSKDFTConfig, OSKDFTForXVector)
