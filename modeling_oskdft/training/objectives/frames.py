"""Match the frames of a student and of its teacher."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...model.configuration_oskdft import frame_ratio
from ...model.modeling_oskdft import receptive_field


class FrameMatch(NamedTuple):
    """Position of a student's frames over its teacher's.

    A student behind a time reduction of 2 (ratio 2, surplus 1), over the samples of a recording:

        teacher   |0 0 0 0|
                      |1 1 1 1|
                          |2 2 2 2|
                              |3 3 3 3|
        student   |0 0 0 0 0 0|
                          |1 1 1 1 1 1|

    Args:
        ratio: teacher frames in the place of one student frame.
        surplus: difference of the two receptive fields, in teacher frames. None: `ratio` - 1, as after a convolution
            of time reduction.
    """

    ratio: int = 1
    surplus: float | None = None

    @property
    def receptive_surplus(self) -> float:
        """Return the surplus as a number."""
        return self.ratio - 1 if self.surplus is None else self.surplus

    @property
    def equal(self) -> bool:
        """Whether both sides have the same frames."""
        return self.ratio == 1 and self.receptive_surplus == 0


def frame_match(student: PreTrainedConfig, teacher: PreTrainedConfig, time_reduction: int = 1) -> FrameMatch:
    """Compute the match of two encoders from their kernels and strides.

    Raises:
        ValueError: when a student's frame is no whole number of the teacher's frames.
    """
    ratio = frame_ratio(student, teacher, time_reduction)
    difference = receptive_field(student, time_reduction) - receptive_field(teacher)
    return FrameMatch(ratio, difference / math.prod(teacher.conv_stride))


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
        ratio, surplus = self.match.ratio, self.match.receptive_surplus
        missing = frames - hidden_states.shape[1] * ratio
        if not surplus - ratio < missing < surplus + 1:
            raise ValueError(
                f"{hidden_states.shape[1]} student frames times {ratio} do not reach the teacher's {frames}: give "
                "the student a time_reduction that divides the teacher's frame rate."
            )
        lead = round((surplus - (ratio - 1)) / 2)  # teacher frames before the first student frame
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
