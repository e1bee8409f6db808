"""Learn which channels and neurons a student needs, in the same one step: gates to a target of multiply-adds.

Each channel of a convolution and each neuron of a feed-forward block has a gate that multiplies what it writes. In the
first half of a run a gate is drawn from a hard-concrete distribution (Louizos et al., ICLR 2018). All losses of the
step learn its probability of being open, as in DPHuBERT (Peng et al., Interspeech 2023), and a Lagrangian pulls the
expected multiply-adds towards the target (Wang et al., EMNLP 2020). Then the likeliest units stay open, and the others
are shut for the rest of the run. What is evaluated and published is always the student without its shut units, an
ordinary thinner one. Heads and hidden channels have no gates: attention ties both to one width, `hidden_size`.
"""

import copy
import math
from functools import partial

import torch
from torch import Tensor, nn

from ..evaluation.cost import multiply_adds
from ..model.modeling_oskdft import OSKDFTModel
from ..model.modeling_tasks_oskdft import Student
from ..student.open_units import SECONDS, OpenUnits, UnitCosts, cut_open_units

LEARNING = 0.5  # share of a run in which gates are drawn; DPHuBERT takes two thirds
WARM_UP = 0.25  # share of a run over which the target goes from 1 to its value
TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1  # of the distribution, as in its paper
START = 2.5  # log alpha: nine of ten gates are open
SPEED = 20.0  # of a gate, as a multiple of the head's rate; DPHuBERT: 100 times the rate of its weights
FORCE = 100.0  # growth of the multiplier over a run, for each unit of excess
SMALLEST = 1 / 8  # share of a group that stays
GRAIN = 32  # a group keeps a multiple of this part of it, for the sake of fast kernels


class Gates(nn.Module):
    """The gates of a student. A checkpoint holds them with the objectives.

    Args:
        student: the student, which is not changed until `attach`.
        target: multiply-adds that stay, as a share of those of the whole student.

    Raises:
        ValueError: for a target that the smallest groups exceed.
    """

    multiplier: Tensor
    chosen: Tensor

    def __init__(self, student: Student, target: float) -> None:
        super().__init__()
        encoder = student.config.encoder_config
        self.sizes = [*encoder.conv_dim, *[encoder.intermediate_size] * encoder.num_hidden_layers]
        self.convolutions = len(encoder.conv_dim)
        self.logits = nn.ParameterList(nn.Parameter(torch.full((size,), START / SPEED)) for size in self.sizes)
        self.register_buffer("multiplier", torch.zeros(()))
        self.register_buffer("chosen", torch.zeros(sum(self.sizes), dtype=torch.bool))  # none until they have learned
        self.target, self.progress, self.step = target, 0.0, -1
        self.is_shut = False  # in this process; `chosen` remembers it in checkpoints
        whole = multiply_adds(copy.deepcopy(student.oskdft).float().cpu(), SECONDS)
        self.costs = UnitCosts(encoder, student.config.time_reduction, whole)
        self.values = [torch.ones(size) for size in self.sizes]
        least = self._share_of([self._allowed(size, 0) for size in self.sizes])
        if least > target:
            raise ValueError(
                f"gate_target is {target:g} and the units without gates, with an eighth of the others, take "
                f"{least:.2f} of the multiply-adds: raise gate_target, or lower hidden_size or the number of layers."
            )

    def attach(self, encoder: OSKDFTModel) -> None:
        """Let the gates multiply what their units write, and LayerNorms over channels average over open ones alone."""
        for number, layer in enumerate(encoder.feature_extractor.conv_layers):
            layer.register_forward_hook(partial(self._close, number))
            if isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm):
                layer.layer_norm.register_forward_hook(partial(self._normalise, number))
        last = self.convolutions - 1
        if hasattr(encoder, "time_reduction"):
            encoder.time_reduction.register_forward_hook(partial(self._close, last))
        if hasattr(encoder.feature_projection, "layer_norm"):
            encoder.feature_projection.layer_norm.register_forward_hook(partial(self._normalise, last))
        for number, layer in enumerate(encoder.encoder.layers):
            block = layer.feed_forward.output_dense
            block.register_forward_pre_hook(partial(self._close_inputs, self.convolutions + number))

    def forward(self) -> Tensor:
        """Draw the gates of a step, and compute the penalty on its multiply-adds.

        Returns:
            A scalar to add to the loss; 0 after the gates have learned.
        """
        if not self.training:
            self.values = self._hard(self.open_units())
        if not self.training or self.is_shut:
            return torch.stack([logits.sum() for logits in self.logits]).sum() * 0.0  # every parameter is used
        self.values = [self._draw(SPEED * logits) for logits in self.logits]
        excess = self._excess()
        return self.multiplier * excess + FORCE / 10 * excess.square()

    def advance(self, step: int, steps: int) -> None:
        """Tell the gates which step follows; with each one that learns, the multiplier grows by the excess.

        Args:
            step: number of finished steps.
            steps: steps of the run.
        """
        self.progress = step / steps
        was_shut = self.step < 0 and bool(self.chosen.any())  # in the checkpoint that this run resumes
        if not self.is_shut and (was_shut or self.progress >= LEARNING):
            self._shut()
        if step != self.step and not self.is_shut:
            with torch.no_grad():
                self.multiplier.add_(FORCE / steps * self._excess()).clamp_(min=0.0)
        self.step = step

    def _shut(self) -> None:
        """Choose the units that stay, once, and let the gates of the others shut."""
        units = self.open_units()
        self.values, self.is_shut = self._hard(units), True
        self.chosen.copy_(torch.cat(self.values) > 0)

    def _excess(self) -> Tensor:
        """Return the expected multiply-adds above the target of this step, which falls from 1."""
        return self.expected_share() - 1.0 + (1.0 - self.target) * min(self.progress / WARM_UP, 1.0)

    def probabilities(self) -> list[Tensor]:
        """Return the probability of each gate to be open, by group."""
        shift = TEMPERATURE * math.log(-LOW / HIGH)
        return [torch.sigmoid(SPEED * logits - shift) for logits in self.logits]

    def expected_share(self) -> Tensor:
        """Return the expected multiply-adds, as a share of those of the whole student."""
        numbers = [probabilities.sum() for probabilities in self.probabilities()]
        return self.costs.share(numbers[: self.convolutions], numbers[self.convolutions :])

    def open_units(self) -> OpenUnits:
        """Return the units that stay: those that were chosen at the end of learning.

        Before, they are the likeliest ones, at one limit for all groups, whose multiply-adds do not exceed the target.
        """
        if bool(self.chosen.any()):
            units = [part.nonzero().squeeze(1) for part in self.chosen.split(self.sizes)]
            return OpenUnits(units[: self.convolutions], units[self.convolutions :])
        logits = [values.detach() for values in self.logits]
        limits = torch.cat(logits).unique().tolist()
        low, high = 0, len(limits)  # more units are open at `low`; at the last limit the smallest groups stay
        while low < high:
            middle = (low + high) // 2
            if self._share_of(self._numbers(logits, limits[middle])) > self.target:
                low = middle + 1
            else:
                high = middle
        numbers = self._numbers(logits, limits[low] if low < len(limits) else math.inf)
        chosen = [
            values.argsort(descending=True, stable=True)[:number].sort().values
            for values, number in zip(logits, numbers, strict=True)
        ]
        return OpenUnits(chosen[: self.convolutions], chosen[self.convolutions :])

    def cut(self, student: Student) -> Student:
        """Copy the student without its shut units."""
        return cut_open_units(student, self.open_units())

    def _numbers(self, logits: list[Tensor], limit: float) -> list[int]:
        """Count the units of each group that stay at a limit; equally many neurons in each layer."""
        above = [int((values >= limit).sum()) for values in logits]
        neurons = round(sum(above[self.convolutions :]) / max(len(above) - self.convolutions, 1))
        above[self.convolutions :] = [neurons] * (len(above) - self.convolutions)
        return [self._allowed(size, number) for size, number in zip(self.sizes, above, strict=True)]

    @staticmethod
    def _allowed(size: int, number: int) -> int:
        grain = max(size // GRAIN, 1)
        return min(max(number // grain * grain, math.ceil(size * SMALLEST / grain) * grain), size)

    def _share_of(self, numbers: list[int]) -> float:
        parts = [torch.tensor(float(number)) for number in numbers]
        return float(self.costs.share(parts[: self.convolutions], parts[self.convolutions :]))

    def _hard(self, units: OpenUnits) -> list[Tensor]:
        values = [torch.zeros_like(logits) for logits in self.logits]
        for value, chosen in zip(values, (*units.channels, *units.neurons), strict=True):
            value[chosen] = 1.0
        return values

    @staticmethod
    def _draw(logits: Tensor) -> Tensor:
        noise = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        drawn = torch.sigmoid((noise.logit() + logits) / TEMPERATURE)
        return (drawn * (HIGH - LOW) + LOW).clamp(0.0, 1.0)

    def _close(self, group: int, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output * self.values[group][:, None].to(output.dtype)

    def _close_inputs(self, group: int, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * self.values[group].to(inputs[0].dtype),)

    def _normalise(self, group: int, norm: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        gates, values = self.values[group], inputs[0].float()
        number = gates.sum().clamp(min=1e-6)
        centred = values - (values * gates).sum(-1, keepdim=True) / number
        variance = (centred.square() * gates).sum(-1, keepdim=True) / number
        normalised = centred * (variance + norm.eps).rsqrt()
        return (normalised * norm.weight + norm.bias).to(output.dtype) * gates.to(output.dtype)
