"""How a student starts: chosen layers and everything below them, copied from the teacher."""

from torch import nn
from transformers import PreTrainedModel

from ..configuration_oskdft import OSKDFTConfig
from ..modeling_oskdft import OSKDFTForXVector


def evenly_spaced_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """`student_layers` teacher layers from the first to the last, counted from 0; the first alone for one.

    Raises `ValueError` when the teacher has fewer.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"{student_layers} layers were asked of a teacher of {teacher_layers}: ask for 1 to that many."
        )
    if student_layers == 1:
        return [0]
    return [round(index * (teacher_layers - 1) / (student_layers - 1)) for index in range(student_layers)]


def thirds(teacher_layers: int) -> list[int]:
    """The hidden states at a third, two thirds and the end of a teacher: 4, 8 and 12 of the base models' 12."""
    return sorted({max(1, round(teacher_layers * part / 3)) for part in (1, 2, 3)})


def init_student_from_teacher(teacher: PreTrainedModel, config: OSKDFTConfig) -> OSKDFTForXVector:
    """A student whose kd path is the teacher cut to `config.teacher_layers`, bit for bit.

    Convolutions, projection, positional convolution, the encoder's LayerNorm, the chosen layers and, where SpecAugment
    is on, the mask embedding are copied (the authors' code leaves the positional convolution and the LayerNorm
    random). Of WavLM, the relative-position embedding of teacher layer 0 goes into student layer 0, whichever layers
    were chosen. Adapters and head start as the config says. Raises `ValueError` for a teacher of another family or
    shape.
    """
    student = OSKDFTForXVector(config)
    encoder = student.oskdft
    if teacher.config.model_type != config.encoder_config.model_type:
        raise ValueError(
            f"The teacher is a {teacher.config.model_type} and the student a {config.encoder_config.model_type}: "
            "build the student's config with OSKDFTConfig.from_teacher."
        )
    layers = config.teacher_layers
    if layers is None or len(layers) != len(encoder.encoder.layers):
        raise ValueError(
            f"teacher_layers is {layers} for {len(encoder.encoder.layers)} student layers: name one teacher layer for "
            "each, as OSKDFTConfig.from_teacher does."
        )
    depth = teacher.config.num_hidden_layers
    if any(not 0 <= layer < depth for layer in layers):
        raise ValueError(f"teacher_layers is {layers}: the teacher has layers 0 to {depth - 1}.")
    _copy(teacher.feature_extractor, encoder.feature_extractor)
    _copy(teacher.feature_projection, encoder.feature_projection)
    _copy(teacher.encoder.pos_conv_embed, encoder.encoder.pos_conv_embed)
    _copy(teacher.encoder.layer_norm, encoder.encoder.layer_norm)
    for layer, chosen in zip(encoder.encoder.layers, layers, strict=True):
        _copy(teacher.encoder.layers[chosen], layer)
    first = encoder.encoder.layers[0].attention
    if hasattr(first, "rel_attn_embed"):
        _copy(teacher.encoder.layers[0].attention.rel_attn_embed, first.rel_attn_embed)
    if hasattr(encoder, "masked_spec_embed") and hasattr(teacher, "masked_spec_embed"):
        encoder.masked_spec_embed.data.copy_(teacher.masked_spec_embed.data)
    return student


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Copy what both have. Adapters stay; WavLM's position embedding exists in first layers only."""
    try:
        missing, unexpected = target.load_state_dict(source.state_dict(), strict=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"The student's shape is not the teacher's ({detail}): use OSKDFTConfig.from_teacher."
        ) from None
    stray = [name for name in (*missing, *unexpected) if "adapter." not in name and "rel_attn_embed" not in name]
    if stray:
        raise ValueError(f"Student and teacher differ in {', '.join(stray)}: use OSKDFTConfig.from_teacher.")
