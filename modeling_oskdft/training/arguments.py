"""Name the fields of a recipe about the student and about the data."""

import inspect
import re
import types
import typing
from collections.abc import Collection
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from typing import Any, ClassVar

from ..audio.folders import LAYOUTS
from ..errors import check_choice
from ..model.configuration_oskdft import SHAPE_FIELDS, OSKDFTConfig
from ..scoring.cosine import SCORINGS
from ..student.initialization import STARTS
from .ranges import AT_LEAST_0, AT_LEAST_1, OPEN_SHARE, SHARE, Range, check_choices, check_ranges

TEACHER_HEARS = ("clean", "augmented")
Annotation = type | types.GenericAlias | types.UnionType


def _with_lists(annotation: Annotation) -> Annotation:
    """Replace tuples by lists, because the argument parser of transformers takes no tuples."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return types.GenericAlias(list, inner[:1])
    if isinstance(annotation, types.UnionType) and typing.get_origin(inner[0]) is tuple:
        return _with_lists(inner[0]) | None
    return annotation


def help_of_fields(docstring: str) -> dict[str, str]:
    """Read the description of each argument out of the `Args:` block of a docstring.

    Args:
        docstring: entries are `name: text` or `name, name: text`, continued on deeper lines.

    Returns:
        The text of each name, in one line.
    """
    block = re.search(r"^( *)Args:\n(.*?)(?:\n\n|\Z)", inspect.cleandoc(docstring), re.DOTALL | re.MULTILINE)
    entries = re.split(r"\n    (?=\S)", "\n" + block[2]) if block else []
    texts: dict[str, str] = {}
    for entry in entries[1:]:
        names, _, text = " ".join(entry.split()).partition(": ")
        texts |= dict.fromkeys((name.split(" ")[0] for name in names.split(", ")), text)
    return texts


def _student_fields() -> list[tuple[str, Any, Any]]:
    """List the fields of `OSKDFTConfig` as dataclass fields, without those that follow from the teacher."""
    result: list[tuple[str, Any, Any]] = []
    from_teacher = ("encoder_config", "teacher_name_or_path", "teacher_layers")
    texts = help_of_fields(OSKDFTConfig.__doc__ or "")
    for name, parameter in inspect.signature(OSKDFTConfig.__init__).parameters.items():
        if name in ("self", "kwargs", *from_teacher):
            continue
        # argparse formats help by %.
        default, metadata = parameter.default, {"help": texts[name].rstrip(".").replace("%", "%%")}
        value: Any = field(default=default, metadata=metadata)
        if isinstance(default, tuple):
            value = field(default_factory=partial(list, default), metadata=metadata)
        result.append((name, _with_lists(parameter.annotation), value))
    return result


@dataclass
class TeacherArguments:
    """The teacher, and which of its layers the student keeps."""

    teacher: str = field(default="", metadata={"help": "folder or repository of the teacher's encoder"})
    student_from: str | None = field(
        default=None,
        metadata={"help": "HuBERT, wav2vec 2.0, WavLM or student that this one is cut from (default: the teacher)"},
    )
    layers: list[int] | None = field(
        default=None, metadata={"help": "layers of it that the student keeps, from 0 (default: 0 1)"}
    )
    evenly_spaced_layers: int | None = field(
        default=None,
        metadata={"help": "number of layers, evenly spaced from the first to the last, instead of layers; 0: all"},
    )
    embedding_teachers: list[str] | None = field(
        default=None,
        metadata={"help": "folders or repositories of verifiers whose embeddings the student learns"},
    )
    front_end_width: list[float] | None = field(
        default=None,
        metadata={"help": "channels of the widest convolution, or of each; below 1 a share (default: the teacher's)"},
    )
    front_end_stride: list[int] | None = field(
        default=None, metadata={"help": "stride of each convolution (default: the teacher's)"}
    )
    hidden_size: float | None = field(
        default=None, metadata={"help": "width of the layers; below 1 a share (default: the teacher's)"}
    )
    intermediate_size: float | None = field(
        default=None,
        metadata={"help": "width of the feed-forward blocks; below 1 a share (default: in the teacher's proportion)"},
    )
    num_attention_heads: int | None = field(
        default=None,
        metadata={"help": "number of heads (default: heads of the teacher's width that fill hidden_size)"},
    )
    student_start: str = field(
        default="importance", metadata={"help": "how the student's weights start, one of: " + ", ".join(STARTS)}
    )

    def __post_init__(self) -> None:
        check_choice("student_start", self.student_start, STARTS)

    def shape_fields(self) -> dict[str, Any]:
        """What `OSKDFTConfig.from_teacher` takes beside the configuration's own fields."""
        return {name: getattr(self, name) for name in SHAPE_FIELDS}


StudentArguments = make_dataclass("StudentArguments", _student_fields(), bases=(TeacherArguments,))
StudentArguments.__doc__ = "The student: its teacher and the fields of OSKDFTConfig."


@dataclass
class DataArguments:
    """Fields of the data: training, selection, test, and augmentation."""

    train_data: str = field(default="", metadata={"help": "folder, manifest, or dataset with an audio column"})
    layout: str = field(
        default="auto", metadata={"help": "meaning of the folders above a file: auto, speaker/session, speaker"}
    )
    train_split: str | None = field(default=None, metadata={"help": "rows whose split is this one"})
    label_column: str | None = field(
        default=None,
        metadata={"help": "column whose values are the classes of a classifier (default: a verifier of speakers)"},
    )
    text_column: str | None = field(
        default=None,
        metadata={"help": "column of what is said, for a recogniser of whole recordings of up to crop_seconds"},
    )
    validation_fraction: float = field(
        default=0.1,
        metadata={"help": "share of the train speakers that is set aside; their trials select the best checkpoint"},
    )
    test_data: str | None = field(default=None, metadata={"help": "data of test_trials (default: train_data)"})
    test_split: str | None = field(default=None, metadata={"help": "rows of test_data whose split is this one"})
    test_trials: str | None = field(default=None, metadata={"help": "trial list, read once, after training"})
    test_scoring: str = field(default="full", metadata={"help": "one of: " + ", ".join(SCORINGS)})
    validation_trials: int = field(
        default=20000,
        metadata={
            "help": "most same-speaker pairs that select the checkpoint, beside as many different-speaker pairs"
        },
    )
    cohort_utterances: int = field(
        default=0,
        metadata={
            "help": "utterances of each train speaker whose mean embedding joins the cohort of s-norm; 0: no cohort"
        },
    )
    data_root: str | None = field(default=None, metadata={"help": "replaces the root that train_data was made with"})
    test_root: str | None = field(default=None, metadata={"help": "replaces the root that test_data was made with"})
    labelled_fraction: float = field(
        default=1.0,
        metadata={"help": "share of the train speakers with labels; the others are for distillation alone"},
    )
    teacher_hears: str = field(
        default="clean",
        metadata={"help": "crops of the teacher, where the student's are augmented: " + " or ".join(TEACHER_HEARS)},
    )
    crop_seconds: float = field(default=2.0, metadata={"help": "length of a training crop (the paper's code: 2)"})
    noise_root: str | None = field(default=None, metadata={"help": "folder laid out like MUSAN"})
    rir_root: str | None = field(default=None, metadata={"help": "folder of room impulse responses"})
    augment_probability: float = field(default=0.6, metadata={"help": "share of the crops that is augmented"})
    clipping_probability: float = field(
        default=0.0, metadata={"help": "share of the augmented crops that is clipped at 0.5 to 0.9 of the peaks"}
    )
    envelope_probability: float = field(
        default=0.0, metadata={"help": "share of the augmented crops with a slow change of volume"}
    )
    gain_probability: float = field(
        default=0.0, metadata={"help": "share of the augmented crops with another gain, -20 to 6 dB"}
    )
    codec_probability: float = field(
        default=0.0, metadata={"help": "share of the augmented crops through telephone, mu-law, mp3 or ogg"}
    )
    speed_perturbation: list[float] | None = field(
        default=None, metadata={"help": "further speeds, e.g. 0.9 1.1; each makes a new class of every speaker"}
    )
    spec_mask_probability: float = field(
        default=0.0, metadata={"help": "share of the crops that is masked before the head"}
    )
    spec_mask_features: int = field(default=100, metadata={"help": "widest band of features of the mask"})
    spec_mask_frames: int = field(default=10, metadata={"help": "longest span of frames of the mask"})
    max_damaged_files: int = field(
        default=100, metadata={"help": "unreadable files that are tolerated; one more stops the run"}
    )

    RANGES: ClassVar[dict[str, Range]] = {
        **dict.fromkeys(("augment_probability", "clipping_probability", "envelope_probability"), SHARE),
        **dict.fromkeys(("gain_probability", "codec_probability", "spec_mask_probability"), SHARE),
        **dict.fromkeys(("spec_mask_features", "spec_mask_frames", "max_damaged_files"), AT_LEAST_0),
        "cohort_utterances": AT_LEAST_0,
        "validation_fraction": OPEN_SHARE,
        "validation_trials": AT_LEAST_1,
        "labelled_fraction": Range(0, 1, low_open=True),
        "crop_seconds": Range(0, 600, low_open=True),
    }
    CHOICES: ClassVar[dict[str, Collection[str]]] = {
        "layout": LAYOUTS,
        "test_scoring": SCORINGS,
        "teacher_hears": TEACHER_HEARS,
    }

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_choices(self, self.CHOICES)
