"""Load what a recipe names: the student's shape, training and test data, augmentation."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedConfig
from transformers.trainer_utils import get_last_checkpoint

from ..audio.augmentation import WaveformAugmentation
from ..data.crops import SPEAKERS, CropDataset, classes_of
from ..data.manifest import Manifest
from ..data.sources import load_manifest
from ..data.splits import refuse_common_speakers, split_by_speaker
from ..data.texts import TextDataset, texts_of
from ..data.trials import check_labels, read_trials
from ..evaluation.report import speakers_of
from ..model.configuration_oskdft import OSKDFTConfig
from ..student.initialization import evenly_spaced_layers
from .joint_model import SpecMask
from .recipe import Recipe


def student_config(recipe: Recipe, teacher: PreTrainedConfig, classes: Sequence[str] = ()) -> OSKDFTConfig:
    """Build the student's configuration from that of its origin and the fields of a recipe.

    Args:
        recipe: the recipe.
        teacher: configuration of the encoder that the student is cut from.
        classes: names of the classes of a classifier.
    """
    layers = recipe.student.layers or [0, 1]
    if recipe.student.evenly_spaced_layers is not None:
        if recipe.student.layers:
            raise ValueError("The recipe gives layers and evenly_spaced_layers: give one of them.")
        depth = teacher.num_hidden_layers
        layers = evenly_spaced_layers(depth, recipe.student.evenly_spaced_layers or depth)
    fields = recipe.student.shape_fields() | recipe.student_config_fields()
    if classes:
        fields |= {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    return OSKDFTConfig.from_teacher(teacher, layers, **fields)


def load_train(recipe: Recipe) -> Manifest:
    """Load the training data, speakers of the selection included."""
    data = recipe.data
    return load_manifest(data.train_data, data.train_split, data.data_root, data.max_damaged_files, data.layout)


def load_test(recipe: Recipe, train: Manifest) -> Manifest:
    """Load the recordings of the test trials.

    Args:
        recipe: the recipe, with `test_trials`.
        train: the training data.

    Raises:
        ValueError: when a recording is missing, a label is wrong, or a speaker is in the training data as well.
    """
    data = recipe.data
    test, source = _test_data(recipe), data.test_data or data.train_data
    trials = read_trials(data.test_trials or "")
    utterances = set(trials.utterances())
    test = test.where("utterance_id", [name for name in test.column("utterance_id") if name in utterances])
    missing = sorted(utterances - set(test.column("utterance_id")))
    if missing:
        raise ValueError(
            f"'{data.test_trials}' names {len(missing)} recordings that '{source}' lacks or that cannot be read, "
            f"'{missing[0]}' first: restore them, or name the data that belong to the list."
        )
    check_labels(trials, speakers_of(test), data.test_trials or "")
    refuse_common_speakers(train, test)
    return test


def _test_data(recipe: Recipe) -> Manifest:
    """Load `test_data`; where the recipe names none, the training data."""
    data = recipe.data
    source, root = (data.test_data, data.test_root) if data.test_data else (data.train_data, data.data_root)
    layout = "auto" if data.test_data else data.layout
    return load_manifest(source, data.test_split, root, data.max_damaged_files, layout)


def load_labelled_test(recipe: Recipe, train: Manifest) -> Manifest | None:
    """Load the recordings that test a classifier or a recogniser.

    Returns:
        The recordings; None where the recipe names no `test_data` and no `test_split`.

    Raises:
        ValueError: when a speaker is in the training data as well, and as `classes_of` or `texts_of` does.
    """
    data = recipe.data
    if not (data.test_data or data.test_split):
        return None
    test = _test_data(recipe)
    refuse_common_speakers(train, test)
    if data.text_column:
        texts_of(test, data.text_column)
    else:
        classes_of(test, data.label_column or "")  # raises for a column that is not there
    return test


def training_crops(
    recipe: Recipe, train: Manifest, label_column: str = SPEAKERS, classes: Sequence[str] = ()
) -> CropDataset:
    """Build the training crops, or whole recordings with texts, with the augmentation of the recipe.

    Args:
        recipe: the recipe.
        train: the training data without the speakers of the selection.
        label_column: column of the labels.
        classes: its values, or the vocabulary of its texts; empty: those of the training data.
    """
    data, seed = recipe.data, recipe.training.seed
    labelled: Sequence[str] | None = list(classes) or None
    if data.labelled_fraction < 1:
        labelled = split_by_speaker(train, data.labelled_fraction, seed)[1].speakers
    speeds = data.speed_perturbation or ()
    if data.text_column:
        parts = (augmentation_of(recipe), data.max_damaged_files, data.text_column, classes)
        return TextDataset(train, data.crop_seconds, seed, *parts)
    return CropDataset(
        train,
        data.crop_seconds,
        seed,
        augmentation_of(recipe),
        data.max_damaged_files,
        speeds,
        labelled,
        label_column,
    )


def augmentation_of(recipe: Recipe) -> WaveformAugmentation | None:
    """Build the augmentation of the student's input; None when the recipe has none."""
    data = recipe.data
    roots = (data.noise_root, data.rir_root)
    extras = (data.clipping_probability, data.envelope_probability, data.gain_probability, data.codec_probability)
    if not any((*roots, *extras)):
        return None
    return WaveformAugmentation(*roots, data.augment_probability, *extras)


def spec_mask_of(recipe: Recipe) -> SpecMask | None:
    """Build the mask of the head's input; None when the recipe has none."""
    data = recipe.data
    if not data.spec_mask_probability:
        return None
    return SpecMask(data.spec_mask_probability, data.spec_mask_features, data.spec_mask_frames)


def checkpoint_to_resume(output_dir: str, wanted: str | None) -> str | None:
    """Find the checkpoint that `resume_from_checkpoint` means: last, auto, the folder of one, or None.

    Raises:
        ValueError: when a new run is started in a folder with checkpoints.
        FileNotFoundError: when there is no such checkpoint.
    """
    last = get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
    if wanted is None and last is not None:
        raise ValueError(
            f"'{output_dir}' already holds '{Path(last).name}': go on with --resume_from_checkpoint last, or give "
            "another output_dir."
        )
    if wanted == "last" and last is None:
        raise FileNotFoundError(
            f"There is no checkpoint in '{output_dir}' to go on from: check output_dir, or begin with "
            "--resume_from_checkpoint auto, which goes on where there is one."
        )
    if wanted not in ("last", "auto", None) and not Path(wanted).is_dir():
        raise FileNotFoundError(f"There is no checkpoint at '{wanted}': give its folder, last, or auto.")
    return last if wanted in ("last", "auto") else wanted
