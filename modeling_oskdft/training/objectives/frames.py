"""Match the frames of a student and of its teacher."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...model.modeling_oskdft import receptive_field


class FrameGrid(NamedTuple):
    """Places of an encoder's frames in a recording, in samples at 16 kHz.

    Args:
        hop: distance of two frames.
        shortest: samples that give the first frame.
        middle: middle of the first frame.
    """

    hop: int
    shortest: int
    middle: float

    def frames(self, samples: int) -> int:
        """Count the frames of a recording."""
        return max((samples - self.shortest) // self.hop + 1, 0)


# Encoders that read log-mel frames of 25 ms every 10 ms, two of which make a frame. w2v-BERT stacks them; Whisper pads
# the spectrogram, so that its first frame lies around sample 0. `data.crops.features_of` leaves no half pair.
MEL_GRIDS = {"wav2vec2-bert": FrameGrid(320, 560, 280.0), "whisper": FrameGrid(320, 320, 0.0)}


def frame_grid(config: PreTrainedConfig, time_reduction: int = 1) -> FrameGrid:
    """Compute the frames of an encoder from its convolutions, or look them up in `MEL_GRIDS`.

    Args:
        config: configuration of the encoder.
        time_reduction: stride of a student's further convolution.

    Raises:
        ValueError: for an encoder whose frames are not known.
    """
    if config.model_type in MEL_GRIDS:
        return MEL_GRIDS[config.model_type]
    if not (getattr(config, "conv_kernel", None) and getattr(config, "conv_stride", None)):
        raise ValueError(
            f"The teacher is a {config.model_type}, whose frames are not known: use a model with conv_kernel and "
            f"conv_stride in its configuration, as wav2vec 2.0, or one of {', '.join(MEL_GRIDS)}."
        )
    shortest = receptive_field(config, time_reduction)
    return FrameGrid(math.prod(config.conv_stride) * time_reduction, shortest, shortest / 2)


class FrameMatch(NamedTuple):
    """Position of a student's frames over its teacher's: the one place that decides which frames are compared.

    A student behind a time reduction of 2, over the samples of a recording (ratio 2, surplus 1, shift 0.5, lead 0):

        teacher   |0 0 0 0|
                      |1 1 1 1|
                          |2 2 2 2|
                              |3 3 3 3|
        student   |0 0 0 0 0 0|
                          |1 1 1 1 1 1|

    A student of 20 ms frames under Whisper, whose first frame lies around the first sample (ratio 1, surplus 0.25,
    shift 0.625, lead 1): frame 0 of the student is compared with frame 1 of the teacher, and with frame 0 as well.

        teacher 0 0|
               |1 1 1 1|
                   |2 2 2 2|
        student   |0 0 0 0|
                      |1 1 1 1|

    Args:
        ratio: teacher frames in the place of one student frame.
        surplus: difference of the shortest inputs, in teacher frames. None: `ratio` - 1, as after a convolution of
            time reduction.
        shift: from the middle of the teacher's first frame to that of the student's, in teacher frames. None: half of
            the surplus, as between encoders without padding.
    """

    ratio: int = 1
    surplus: float | None = None
    shift: float | None = None

    @property
    def input_surplus(self) -> float:
        """Return the surplus as a number."""
        return self.ratio - 1 if self.surplus is None else self.surplus

    @property
    def lead(self) -> int:
        """Return the number of teacher frames before the first one of the student's first frame."""
        shift = self.input_surplus / 2 if self.shift is None else self.shift
        return round(shift - (self.ratio - 1) / 2)

    def teacher_mask(self, frame_mask: Tensor | None, frames: int) -> Tensor | None:
        """Turn the mask of a student's frames into that of the teacher frames in their places.

        Args:
            frame_mask: (batch, student frames), True where audio is real; None where nothing is padded.
            frames: number of teacher frames.

        Returns:
            (batch, frames), or None.
        """
        if frame_mask is None:
            return None
        spread = frame_mask.repeat_interleave(self.ratio, dim=1)
        positions = torch.arange(frames, device=spread.device) - self.lead
        inside = (positions >= 0) & (positions < spread.shape[1])
        return spread[:, positions.clamp(0, spread.shape[1] - 1)] & inside

    @property
    def equal(self) -> bool:
        """Whether both sides have the same frames."""
        return self.ratio == 1 and self.input_surplus == 0 and self.lead == 0


def frame_match(student: PreTrainedConfig, teacher: PreTrainedConfig, time_reduction: int = 1) -> FrameMatch:
    """Compute the match of two encoders.

    Raises:
        ValueError: when a student's frame is no whole number of the teacher's frames, or these are not known.
    """
    ours, theirs = frame_grid(student, time_reduction), frame_grid(teacher)
    if ours.hop % theirs.hop:
        raise ValueError(
            f"The student makes a frame every {ours.hop} samples and the teacher every {theirs.hop}: choose "
            f"front_end_stride and time_reduction so that their product is a multiple of {theirs.hop}."
        )
    surplus, shift = ours.shortest - theirs.shortest, ours.middle - theirs.middle
    return FrameMatch(ours.hop // theirs.hop, surplus / theirs.hop, shift / theirs.hop)


class FrameUpsampling(nn.Module):
    """Brings states from the student's frame rate to the teacher's (FitHuBERT, Lee et al., 2022).

    A transposed convolution with kernel and stride `match.ratio`. A longer receptive field gives fewer frames at both
    ends: frames with the same middle are compared, and the first and the last frame are repeated for the missing ones.

    Args:
        width: width of the states.
        match: position of the student's frames over the teacher's.
    """

    def __init__(self, width: int, match: FrameMatch) -> None:
        super().__init__()
        self.match = match
        ratio = match.ratio
        self.convolution = nn.ConvTranspose1d(width, width, kernel_size=ratio, stride=ratio) if ratio > 1 else None

    def forward(self, hidden_states: Tensor, frames: int) -> Tensor:
        """Upsample.

        Args:
            hidden_states: (batch, student frames, width).
            frames: number of teacher frames.

        Returns:
            (batch, frames, width).

        Raises:
            ValueError: when the two numbers of frames cannot come from the same audio.
        """
        ratio, surplus, lead = self.match.ratio, self.match.input_surplus, self.match.lead
        missing = frames - hidden_states.shape[1] * ratio
        if not surplus - ratio < missing < surplus + 1:
            raise ValueError(
                f"{hidden_states.shape[1]} student frames times {ratio} do not reach the teacher's {frames}: give "
                "the student a time_reduction that divides the teacher's frame rate."
            )
        upsampled = hidden_states
        if self.convolution is not None:
            size = hidden_states.shape[1] * ratio + min(max(missing - lead, 0), ratio - 1)
            upsampled = self.convolution(hidden_states.transpose(1, 2), output_size=[size]).transpose(1, 2)
        if lead == 0 and upsampled.shape[1] == frames:
            return upsampled
        positions = torch.arange(frames, device=upsampled.device) - lead
        return upsampled[:, positions.clamp(0, upsampled.shape[1] - 1)]


def upsampling_for(width: int, match: FrameMatch) -> FrameUpsampling | None:
    """Build the upsampling of a match; None for equal frames."""
    return None if match.equal else FrameUpsampling(width, match)
