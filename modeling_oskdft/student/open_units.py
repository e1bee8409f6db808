"""Cut the units that a gate has closed out of a student: convolution channels and neurons.

What is left is an ordinary student with a smaller `conv_dim` and `intermediate_size`: nothing special when opened.
"""

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

Student = TypeVar("Student", bound=PreTrainedModel)
SECONDS = 3.0  # of audio, for which multiply-adds are counted
SAMPLING_RATE = 16000


class OpenUnits(NamedTuple):
    """Hold the units that stay, as ascending indices.

    Args:
        channels: output channels of each convolution.
        neurons: neurons of the feed-forward block of each layer, equally many.
    """

    channels: list[Tensor]
    neurons: list[Tensor]


def cut_open_units(student: Student, units: OpenUnits) -> Student:
    """Copy a student without its closed units.

    Args:
        student: a verifier or a model of another task; it is not changed.
        units: what stays.

    Returns:
        A thinner student on the same device, in the same mode.
    """
    config = copy.deepcopy(student.config)
    encoder = config.encoder_config
    encoder.conv_dim = tuple(len(channels) for channels in units.channels)
    encoder.intermediate_size = len(units.neurons[0])
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced, and must not draw for the training
        thin = type(student)(config)
    cuts = dict(_cuts(encoder, units))
    with torch.no_grad():
        state = student.state_dict()
        for name, indices in cuts.items():
            for key in [key for key in state if key.startswith(f"oskdft.{name}")]:
                for dimension, index in enumerate(indices[: state[key].dim()]):
                    if index is not None:
                        state[key] = state[key].index_select(dimension, index.to(state[key].device))
        thin.load_state_dict(state)
    return thin.to(device=student.device, dtype=student.dtype).train(student.training)


def _cuts(encoder: PreTrainedConfig, units: OpenUnits) -> list[tuple[str, tuple[Tensor | None, ...]]]:
    """List beginnings of the names of parameters, and the indices that stay of each of their dimensions."""
    cuts: list[tuple[str, tuple[Tensor | None, ...]]] = []
    inputs: Tensor | None = None
    for number, channels in enumerate(units.channels):
        cuts.append((f"feature_extractor.conv_layers.{number}.conv.", (channels, inputs)))
        cuts.append((f"feature_extractor.conv_layers.{number}.layer_norm.", (channels,)))
        inputs = channels
    cuts += [
        ("time_reduction.", (inputs, inputs)),
        ("feature_projection.layer_norm.", (inputs,)),
        ("feature_projection.projection.weight", (None, inputs)),
    ]
    for number, neurons in enumerate(units.neurons):
        block = f"encoder.layers.{number}.feed_forward."
        cuts += [
            (f"{block}intermediate_dense.", (neurons,)),
            (f"{block}output_dense.weight", (None, neurons)),
        ]
    return cuts


class UnitCosts:
    """Multiply-adds of an encoder as a function of its open units.

    Args:
        encoder: configuration of the encoder.
        time_reduction: of the student.
        whole: multiply-adds of `SECONDS` of audio with all units, see `evaluation.cost.multiply_adds`.
    """

    def __init__(self, encoder: PreTrainedConfig, time_reduction: int, whole: int) -> None:
        self.whole, self.time_reduction, self.width = whole, time_reduction, encoder.hidden_size
        self.taps: list[int] = []  # products of each pair of an input and an output channel
        frames = int(SECONDS * SAMPLING_RATE)
        for kernel, stride in zip(encoder.conv_kernel, encoder.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
            self.taps.append(frames * kernel)
        self.frames = frames // time_reduction
        self.rest = 0.0
        sizes = list(encoder.conv_dim), [encoder.intermediate_size] * encoder.num_hidden_layers
        self.rest = whole - float(self.count(*([torch.tensor(float(size)) for size in part] for part in sizes)))

    def count(self, channels: list[Tensor], neurons: list[Tensor]) -> Tensor:
        """Count multiply-adds.

        Args:
            channels: number of open channels of each convolution, scalars; expected numbers as well.
            neurons: number of open neurons of each layer.
        """
        total = torch.as_tensor(self.rest, dtype=torch.float32)
        inputs: Tensor = torch.tensor(1.0)
        for taps, outputs in zip(self.taps, channels, strict=True):
            total = total + taps * inputs.to(outputs.device) * outputs
            inputs = outputs
        if self.time_reduction > 1:
            total = total + self.frames * self.time_reduction * inputs.square()
        total = total + self.frames * self.width * inputs
        return total + 2 * self.frames * self.width * torch.stack(neurons).sum()

    def share(self, channels: list[Tensor], neurons: list[Tensor]) -> Tensor:
        """Return the multiply-adds as a share of those of all units."""
        return self.count(channels, neurons) / self.whole
