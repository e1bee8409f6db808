import pytest
import torch
from transformers import Wav2Vec2BertConfig, WhisperConfig

from modeling_oskdft.training.objectives.building import frame_match
from modeling_oskdft.training.objectives.distillation import (
    LayerwiseHeads,
)
from modeling_oskdft.training.objectives.frames import FrameMatch, FrameUpsampling, frame_grid
from tests.tiny import encoder_config
from tests.training.objectives.test_distillation import states


def test_upsampling_refuses_a_rate_that_does_not_divide():
    with pytest.raises(ValueError, match="7 student frames times 2 do not reach the teacher's 20"):
        FrameUpsampling(8, FrameMatch(2))(states(1)[0], 20)


def lengths(kernels, strides, samples):
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


@pytest.mark.parametrize(
    ("strides", "time_reduction"),
    [
        ((10, 2, 2, 2, 2, 2, 1), 1),
        ((10, 2, 2, 2, 2, 2, 2), 1),
        ((5, 2, 2, 2, 2, 2, 1), 2),
        ((10, 2, 2, 2, 2, 2, 1), 2),
        ((5, 4, 2, 2, 2, 2, 3), 1),
        ((1, 1, 5, 4, 4, 2, 2), 1),  # hears less than the teacher
    ],
)
def test_frames_of_other_strides_reach_the_teacher_s_whatever_the_length(strides, time_reduction):
    kernels, theirs = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    teacher = encoder_config(conv_stride=theirs)
    match = frame_match(encoder_config(conv_stride=strides), teacher, time_reduction)
    module = FrameUpsampling(1, match)
    for samples in range(16000, 16000 + 2 * 960, 53):
        frames, own = lengths(kernels, theirs, samples), lengths(kernels, strides, samples) // time_reduction
        assert module(torch.zeros(1, own, 1), frames).shape == (1, frames, 1)
    with pytest.raises(ValueError, match="do not reach the teacher's"):
        module(torch.zeros(1, own, 1), frames + 4)


def test_frames_that_hear_longer_stretches_are_held_against_those_with_their_middle():
    ours = FrameUpsampling(1, FrameMatch(1, 4.0))(torch.arange(5.0).view(1, 5, 1), 9)
    assert ours.flatten().tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]
    shorter = FrameUpsampling(1, FrameMatch(1, -2.0))(torch.arange(6.0).view(1, 6, 1), 4)
    assert shorter.flatten().tolist() == [1, 2, 3, 4]
    assert FrameMatch(1, 0.0).equal and not FrameMatch(1, 1.0).equal and not FrameMatch(2).equal
    assert LayerwiseHeads(8, 8, [1], match=FrameMatch(1, 0.0)).upsampling is None


def test_teachers_that_read_mel_frames_are_matched_by_the_middles():
    student = encoder_config(conv_kernel=(10, 3, 3, 3, 3, 2, 2))
    whisper = frame_match(student, WhisperConfig())
    assert (whisper.ratio, whisper.surplus, whisper.shift, whisper.lead) == (1, 0.25, 0.625, 1)
    w2v_bert = frame_match(student, Wav2Vec2BertConfig())
    assert (w2v_bert.surplus, w2v_bert.shift, w2v_bert.lead) == (-0.5, -0.25, 0)
    module = FrameUpsampling(1, whisper)
    for samples in range(16000, 16640, 16):
        own = frame_grid(student).frames(samples)
        reached = module(torch.arange(float(own)).view(1, own, 1), samples // 320).flatten().tolist()
        assert reached == [min(max(frame - 1, 0), own - 1) for frame in range(samples // 320)]
    half = frame_match(student, WhisperConfig(), time_reduction=2)
    assert (half.ratio, half.lead) == (2, 1)  # middles: 360 and 0, so frame 0 lies over frames 0.6 and 1.6
