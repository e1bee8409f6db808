"""OS-KDFT: a large speech encoder distilled and fine-tuned into a small speaker verifier, in one run.

Importing the package registers the model with transformers' auto classes; everything else is imported when first used.
The `oskdft` command registers it when it needs it: `oskdft --help` waits for neither torch nor transformers.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ._version import __version__
from .errors import moved_names

if TYPE_CHECKING:
    from .export.onnx_graph import Export, export_onnx
    from .model.configuration_oskdft import OSKDFTConfig
    from .model.modeling_oskdft import OSKDFTForXVector, OSKDFTModel, OSKDFTPreTrainedModel
    from .model.modeling_tasks_oskdft import OSKDFTForCTC, OSKDFTForSequenceClassification
    from .scoring.metrics import EqualErrorRate, equal_error_rate, min_detection_cost
    from .student.conversion import ConvertedCheckpoint, convert_original_state_dict
    from .student.initialization import init_student_from_teacher
    from .student.shared_trunk import SharedTrunk
    from .training.trainer import OSKDFTTrainer
    from .training.training_arguments import OSKDFTTrainingArguments
    from .verification.verifier import SpeakerVerifier, VerificationResult

_LAZY = {
    "OSKDFTConfig": "model.configuration_oskdft",
    "OSKDFTForCTC": "model.modeling_tasks_oskdft",
    "OSKDFTForSequenceClassification": "model.modeling_tasks_oskdft",
    "OSKDFTForXVector": "model.modeling_oskdft",
    "OSKDFTModel": "model.modeling_oskdft",
    "OSKDFTPreTrainedModel": "model.modeling_oskdft",
    "ConvertedCheckpoint": "student.conversion",
    "convert_original_state_dict": "student.conversion",
    "EqualErrorRate": "scoring.metrics",
    "equal_error_rate": "scoring.metrics",
    "min_detection_cost": "scoring.metrics",
    "Export": "export.onnx_graph",
    "export_onnx": "export.onnx_graph",
    "OSKDFTTrainingArguments": "training.training_arguments",
    "init_student_from_teacher": "student.initialization",
    "OSKDFTTrainer": "training.trainer",
    "SharedTrunk": "student.shared_trunk",
    "SpeakerVerifier": "verification.verifier",
    "VerificationResult": "verification.verifier",
}

__all__ = [
    "ConvertedCheckpoint",
    "EqualErrorRate",
    "Export",
    "OSKDFTConfig",
    "OSKDFTForCTC",
    "OSKDFTForSequenceClassification",
    "OSKDFTForXVector",
    "OSKDFTModel",
    "OSKDFTPreTrainedModel",
    "OSKDFTTrainer",
    "OSKDFTTrainingArguments",
    "SharedTrunk",
    "SpeakerVerifier",
    "VerificationResult",
    "__version__",
    "convert_original_state_dict",
    "equal_error_rate",
    "export_onnx",
    "init_student_from_teacher",
    "min_detection_cost",
]


# A module that programs import by its name of version 0.1, see docs/api.md.
_runtimes = ModuleType(f"{__name__}.runtimes", "Forward to `embedding.runtimes`, where these classes are now.")
_runtimes.__spec__ = ModuleSpec(_runtimes.__name__, None)
vars(_runtimes)["__getattr__"] = moved_names(_runtimes.__name__, f"{__name__}.embedding.runtimes")
sys.modules[_runtimes.__name__] = _runtimes


def __getattr__(name: str) -> object:
    if name == "runtimes":
        return _runtimes
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _is_the_command() -> bool:
    """Whether this process is `oskdft`, or `python -m modeling_oskdft.commands`."""
    if sys.argv[:1] == ["-m"]:
        return f"{__name__}.commands" in sys.orig_argv
    return bool(sys.argv) and Path(sys.argv[0]).name in ("oskdft", "oskdft.exe")


if not _is_the_command():
    from . import model as model
