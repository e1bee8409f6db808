"""Speaker heads: from the encoder's hidden states to one embedding an utterance, whatever the padding.

A head reads `hidden_states`, n + 1 tensors (batch, frames, hidden), and `frame_mask`, (batch, frames) and True where
audio is real, or None when every frame is. Inside, frames lie last: (batch, channels, frames).
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from .configuration_oskdft import OSKDFTConfig


def masked_moments(values: Tensor, frame_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, sum of squared deviations and count over valid frames.

    values: (batch, channels, frames); frame_mask: (batch, frames) or None.
    Returns mean and squares (batch, channels, 1), and count (batch, 1, 1), all float32.
    """
    values = values.float()
    if frame_mask is None:
        count = values.new_full((values.shape[0], 1, 1), values.shape[-1])
        mean = values.mean(-1, keepdim=True)
        return mean, (values - mean).square().sum(-1, keepdim=True), count
    weights = frame_mask.unsqueeze(1).to(values.dtype)
    count = weights.sum(-1, keepdim=True)
    mean = (values * weights).sum(-1, keepdim=True) / count
    return mean, ((values - mean) * weights).square().sum(-1, keepdim=True), count


def masked_statistics(frames: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Mean and standard deviation over valid frames.

    frames: (batch, frames, hidden); frame_mask: (batch, frames) or None. Returns (batch, 2 * hidden), float32.
    Padding cannot change the result: see tests/test_heads_oskdft.py. Unbiased, as torch.std in the authors' head:
    n - 1 counts valid frames; one valid frame gives deviation 0 and a finite gradient, where torch.std gives NaN.
    """
    mean, squares, count = masked_moments(frames.transpose(1, 2), frame_mask)
    variance = squares / (count - 1).clamp(min=1)
    varies = variance > 0
    deviation = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)
    return torch.cat([mean, deviation], dim=1).squeeze(-1)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose training statistics count valid frames only, over all processes when there are several.

    Same state dict as `nn.BatchNorm1d`. `nn.SyncBatchNorm` refuses the CPU and knows no mask; the sums are reduced
    differentiably, so two processes give the gradients of the doubled batch.
    """

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """values: (batch, channels) or (batch, channels, frames). Returns the same shape."""
        if not self.training or (frame_mask is None and not _is_distributed()):
            return super().forward(values)
        frames = values.unsqueeze(-1) if values.dim() == 2 else values
        weights = torch.ones_like(frames[:, :1]) if frame_mask is None else frame_mask.unsqueeze(1)
        weights = weights.float()
        total = torch.cat([(frames.float() * weights).sum((0, 2)), weights.sum().reshape(1)])
        total = _sum_over_processes(total)
        count = total[-1]
        mean = total[:-1] / count
        squares = ((frames.float() - mean[:, None]) * weights).square().sum((0, 2))
        variance = _sum_over_processes(squares) / count
        self._update_running_statistics(mean, variance * count / (count - 1).clamp(min=1))
        normalised = (frames.float() - mean[:, None]) * (variance[:, None] + self.eps).rsqrt()
        result = normalised * self.weight[:, None] + self.bias[:, None]
        return result.to(values.dtype).view_as(values)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased_variance)):
            if running is not None:
                running.lerp_(batch.to(running.dtype), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def _is_distributed() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of gradients: every process reads every other's values."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(ctx, gradient)


def _sum_over_processes(values: Tensor) -> Tensor:
    return _SumOverProcesses.apply(values) if _is_distributed() else values


class LayerMixture(nn.Module):
    """What a head reads of the encoder: a freely weighted sum of all hidden states, or the last one.

    The weights are not normalised (no softmax) and start at 1 / (n + 1), as in the authors' heads.
    """

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__()
        states = config.encoder_config.num_hidden_layers + 1
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.full((states,), 1.0 / states))

    def mix(self, hidden_states: tuple[Tensor, ...]) -> Tensor:
        """hidden_states: n + 1 tensors (batch, frames, hidden). Returns one of that shape."""
        if not hasattr(self, "layer_weights"):
            return hidden_states[-1]
        mixed = hidden_states[0] * self.layer_weights[0]
        for state, weight in zip(hidden_states[1:], self.layer_weights[1:], strict=True):
            mixed = mixed + state * weight
        return mixed


class StatisticsPoolingHead(LayerMixture):
    """Mean and deviation over time, one linear layer, batch norm: the head of the authors' released systems."""

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(2 * config.encoder_config.hidden_size, config.embedding_size)
        self.embedding_norm = MaskedBatchNorm1d(config.embedding_size)

    def forward(self, hidden_states: tuple[Tensor, ...], frame_mask: Tensor | None = None) -> Tensor:
        """Returns embeddings (batch, embedding_size), float32, not normalised."""
        frames = self.mix(hidden_states)
        # The frames' own precision: a projection in 4 or 8 bits has no weight of that precision to ask.
        statistics = masked_statistics(frames, frame_mask).to(frames.dtype)
        return self.embedding_norm(self.projection(statistics)).float()


class TDNNBlock(nn.Module):
    """Convolution, ReLU, batch norm, in this order; padded frames read as the zeros beyond an unpadded end."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
        self.norm = MaskedBatchNorm1d(out_channels)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """values: (batch, in_channels, frames). Returns (batch, out_channels, frames)."""
        if frame_mask is not None:
            values = values.masked_fill(~frame_mask.unsqueeze(1), 0.0)
        return self.norm(self.convolution(values).relu(), frame_mask)


class SqueezeExcitation(nn.Module):
    """Channel gates from the mean over valid frames."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, bottleneck, 1)
        self.excite = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """values: (batch, channels, frames). Returns the same shape."""
        mean, _, _ = masked_moments(values, frame_mask)
        return values * self.excite(self.squeeze(mean.to(values.dtype)).relu()).sigmoid()


class SERes2NetBlock(nn.Module):
    """Res2Net with squeeze-excitation and a residual (Desplanques et al., 2020, figure 2); the last group passes."""

    def __init__(self, channels: int, dilation: int, scale: int, se_channels: int) -> None:
        super().__init__()
        width = channels // scale
        self.expand = TDNNBlock(channels, channels)
        self.groups = nn.ModuleList(TDNNBlock(width, width, 3, dilation) for _ in range(scale - 1))
        self.reduce = TDNNBlock(channels, channels)
        self.gate = SqueezeExcitation(channels, se_channels)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """values: (batch, channels, frames). Returns the same shape."""
        *chunks, last = self.expand(values, frame_mask).chunk(len(self.groups) + 1, dim=1)
        outputs: list[Tensor] = []
        for group, chunk in zip(self.groups, chunks, strict=True):
            outputs.append(group(chunk + outputs[-1] if outputs else chunk, frame_mask))
        mixed = self.reduce(torch.cat([*outputs, last], dim=1), frame_mask)
        return values + self.gate(mixed, frame_mask)


class AttentiveStatistics(nn.Module):
    """Mean and deviation weighted by attention that sees the utterance's own statistics (ECAPA-TDNN, section 3.1)."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.hidden = TDNNBlock(3 * channels, attention_channels)
        self.scores = nn.Conv1d(attention_channels, channels, 1)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """values: (batch, channels, frames). Returns (batch, 2 * channels), float32."""
        mean, squares, count = masked_moments(values, frame_mask)
        deviation = (squares / (count - 1).clamp(min=1)).clamp(min=1e-4).sqrt()
        context = torch.cat([values, *(s.to(values.dtype).expand_as(values) for s in (mean, deviation))], dim=1)
        scores = self.scores(self.hidden(context, frame_mask).tanh()).float()
        if frame_mask is not None:
            scores = scores.masked_fill(~frame_mask.unsqueeze(1), float("-inf"))
        weights = scores.softmax(dim=-1)
        mean = (weights * values.float()).sum(-1)
        variance = (weights * values.float().square()).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=1)


class ECAPATDNNHead(LayerMixture):
    """ECAPA-TDNN on instance-normalised hidden states: the paper's head (Heo et al., 2023, section 4.2)."""

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        channels, pooled = config.ecapa_channels, config.ecapa_pooled_channels
        self.entry = TDNNBlock(config.encoder_config.hidden_size, channels, kernel_size=5)
        self.blocks = nn.ModuleList(
            SERes2NetBlock(channels, dilation, config.ecapa_res2net_scale, config.ecapa_se_channels)
            for dilation in config.ecapa_dilations
        )
        self.aggregation = nn.Conv1d(len(self.blocks) * channels, pooled, 1)
        self.pooling = AttentiveStatistics(pooled, config.ecapa_attention_channels)
        self.pooled_norm = MaskedBatchNorm1d(2 * pooled)
        self.projection = nn.Linear(2 * pooled, config.embedding_size)
        self.embedding_norm = MaskedBatchNorm1d(config.embedding_size)

    def forward(self, hidden_states: tuple[Tensor, ...], frame_mask: Tensor | None = None) -> Tensor:
        """Returns embeddings (batch, embedding_size), float32, not normalised."""
        values = self.mix(hidden_states).transpose(1, 2)
        mean, squares, count = masked_moments(values, frame_mask)
        values = ((values.float() - mean) * (squares / count + 1e-5).rsqrt()).to(values.dtype)
        values = self.entry(values, frame_mask)
        outputs: list[Tensor] = []
        for block in self.blocks:
            outputs.append(block(values, frame_mask))
            values = values + outputs[-1]
        pooled = self.pooling(self.aggregation(torch.cat(outputs, dim=1)).relu(), frame_mask)
        pooled = self.pooled_norm(pooled.to(values.dtype))
        return self.embedding_norm(self.projection(pooled)).float()


def build_head(config: OSKDFTConfig) -> LayerMixture:
    """The head that `config.head_type` names."""
    return ECAPATDNNHead(config) if config.head_type == "ecapa_tdnn" else StatisticsPoolingHead(config)


def add_angular_margin(cosine: Tensor, margin: float) -> Tensor:
    """Turn cos(theta) into cos(theta + margin): the target's logit of AAM-softmax (ArcFace, Deng et al., CVPR 2019).

    Where theta + margin exceeds pi, the cosine would rise again. A straight line replaces it there, as in the authors'
    code (`cos(theta) - margin * sin(pi - margin)`), so that the logit falls with every larger angle.

    Args:
        cosine: cosines of any shape, in [-1, 1].
        margin: an angle in radians, from 0 to below pi.

    Returns:
        A tensor of the shape of `cosine`.
    """
    # The floor keeps the gradient of the root finite at cosine 1.
    sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    line = cosine - margin * math.sin(math.pi - margin)
    return torch.where(cosine > math.cos(math.pi - margin), shifted, line)


class AAMSoftmaxLoss(nn.Module):
    """Classify embeddings by speaker with an additive angular margin: `loss` of `OSKDFTForXVector`.

    It stands where `Wav2Vec2ForXVector` has `AMSoftmaxLoss`, with the paper's margin and scale (Heo et al., 2023,
    section 4.2). `weight` holds one class vector per speaker, (num_labels, embedding_size), and has the shape and the
    start of the weight of `training.objectives`' `AAMSoftmax`.
    """

    def __init__(self, embedding_size: int, num_labels: int, margin: float = 0.2, scale: float = 30.0) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.empty(num_labels, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross entropy of the scaled cosines.

        Args:
            embeddings: (batch, embedding_size).
            labels: (batch,), integers from 0 to num_labels - 1.

        Returns:
            A scalar, float32.
        """
        labels = labels.flatten()
        is_target = nn.functional.one_hot(labels, len(self.weight)).bool()
        with torch.autocast(embeddings.device.type, enabled=False):
            directions = nn.functional.normalize(embeddings.float()), nn.functional.normalize(self.weight.float())
            cosine = nn.functional.linear(*directions)
            logits = self.scale * torch.where(is_target, add_angular_margin(cosine, self.margin), cosine)
            return nn.functional.cross_entropy(logits, labels)
