"""Turn the encoder's hidden states into one speaker embedding an utterance, whatever the padding.

A head reads `hidden_states`, n + 1 tensors (batch, frames, hidden), and `frame_mask`, (batch, frames) and True where
audio is real, or None when every frame is. Inside of a head, frames are the last dimension: (batch, channels, frames).
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from .configuration_oskdft import OSKDFTConfig


def masked_moments(values: Tensor, frame_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean, sum of squared deviations and count over valid frames.

    Args:
        values: (batch, channels, frames).
        frame_mask: (batch, frames) or None.

    Returns:
        Mean and squares (batch, channels, 1), and count (batch, 1, 1), all float32.
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
    """Compute mean and standard deviation over valid frames.

    Padding cannot change the result: see tests/model/test_heads_oskdft.py. The deviation is unbiased, as torch.std in
    the authors' head, and n - 1 counts valid frames. One valid frame gives deviation 0 and a finite gradient, where
    torch.std gives NaN.

    Args:
        frames: (batch, frames, hidden).
        frame_mask: (batch, frames) or None.

    Returns:
        (batch, 2 * hidden), float32.
    """
    mean, squares, count = masked_moments(frames.transpose(1, 2), frame_mask)
    variance = squares / (count - 1).clamp(min=1)
    varies = variance > 0
    deviation = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)
    return torch.cat([mean, deviation], dim=1).squeeze(-1)


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Normalise by batch statistics over valid frames only, and over all processes when there are several.

    The state dict is that of `nn.BatchNorm1d`. `nn.SyncBatchNorm` refuses the CPU and takes no mask. Sums over
    processes are differentiable, so that two processes give the gradients of the doubled batch.
    """

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Normalise a batch.

        Args:
            values: (batch, channels) or (batch, channels, frames).
            frame_mask: (batch, frames) or None.

        Returns:
            A tensor of the shape and dtype of `values`.
        """
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
        if not self.track_running_stats:
            return
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
    """Sum over processes; the gradient is the sum of gradients, because every process uses every other's values."""

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
    """Mix the encoder's hidden states into the input of a head: a weighted sum of all of them, or the last one.

    The weights are not normalised (no softmax) and start at 1 / (n + 1), as in the authors' heads.
    """

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__()
        states = config.encoder_config.num_hidden_layers + 1
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.full((states,), 1.0 / states))

    def mix(self, hidden_states: tuple[Tensor, ...]) -> Tensor:
        """Mix hidden states.

        Args:
            hidden_states: n + 1 tensors (batch, frames, hidden).

        Returns:
            (batch, frames, hidden).
        """
        if not hasattr(self, "layer_weights"):
            return hidden_states[-1]
        mixed = hidden_states[0] * self.layer_weights[0]
        for state, weight in zip(hidden_states[1:], self.layer_weights[1:], strict=True):
            mixed = mixed + state * weight
        return mixed


class StatisticsPoolingHead(LayerMixture):
    """Pool mean and deviation over time, project, apply batch norm: the head of the authors' released systems."""

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(2 * config.encoder_config.hidden_size, config.embedding_size)
        self.embedding_norm = MaskedBatchNorm1d(config.embedding_size)

    def forward(self, hidden_states: tuple[Tensor, ...], frame_mask: Tensor | None = None) -> Tensor:
        """Compute speaker embeddings.

        Args:
            hidden_states: n + 1 tensors (batch, frames, hidden).
            frame_mask: (batch, frames) or None.

        Returns:
            (batch, embedding_size), float32, not normalised to length 1.
        """
        frames = self.mix(hidden_states)
        # In the precision of the frames: the weight of a projection in 4 or 8 bits does not give it.
        statistics = masked_statistics(frames, frame_mask).to(frames.dtype)
        return self.embedding_norm(self.projection(statistics)).float()


class TDNNBlock(nn.Module):
    """Apply convolution, ReLU and batch norm, in this order; padded frames are set to zero, like a convolution's."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
        self.norm = MaskedBatchNorm1d(out_channels)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            values: (batch, in_channels, frames).
            frame_mask: (batch, frames) or None.

        Returns:
            (batch, out_channels, frames).
        """
        if frame_mask is not None:
            values = values.masked_fill(~frame_mask.unsqueeze(1), 0.0)
        return self.norm(self.convolution(values).relu(), frame_mask)


class SqueezeExcitation(nn.Module):
    """Scale channels by gates that are computed from the mean over valid frames."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, bottleneck, 1)
        self.excite = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            values: (batch, channels, frames).
            frame_mask: (batch, frames) or None.

        Returns:
            A tensor of the shape of `values`.
        """
        mean, _, _ = masked_moments(values, frame_mask)
        return values * self.excite(self.squeeze(mean.to(values.dtype)).relu()).sigmoid()


class SERes2NetBlock(nn.Module):
    """Apply Res2Net, squeeze-excitation and a residual (Desplanques et al., 2020, figure 2).

    The last of the `scale` groups of channels has no convolution.
    """

    def __init__(self, channels: int, dilation: int, scale: int, se_channels: int) -> None:
        super().__init__()
        width = channels // scale
        self.expand = TDNNBlock(channels, channels)
        self.groups = nn.ModuleList(TDNNBlock(width, width, 3, dilation) for _ in range(scale - 1))
        self.reduce = TDNNBlock(channels, channels)
        self.gate = SqueezeExcitation(channels, se_channels)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            values: (batch, channels, frames).
            frame_mask: (batch, frames) or None.

        Returns:
            A tensor of the shape of `values`.
        """
        *chunks, last = self.expand(values, frame_mask).chunk(len(self.groups) + 1, dim=1)
        outputs: list[Tensor] = []
        for group, chunk in zip(self.groups, chunks, strict=True):
            outputs.append(group(chunk + outputs[-1] if outputs else chunk, frame_mask))
        mixed = self.reduce(torch.cat([*outputs, last], dim=1), frame_mask)
        return values + self.gate(mixed, frame_mask)


class AttentiveStatistics(nn.Module):
    """Pool mean and deviation, weighted by attention to frames and utterance statistics (ECAPA-TDNN, section 3.1)."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.hidden = TDNNBlock(3 * channels, attention_channels)
        self.scores = nn.Conv1d(attention_channels, channels, 1)

    def forward(self, values: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pool over time.

        Args:
            values: (batch, channels, frames).
            frame_mask: (batch, frames) or None.

        Returns:
            (batch, 2 * channels), float32: weighted mean, then weighted deviation.
        """
        mean, squares, count = masked_moments(values, frame_mask)
        deviation = (squares / (count - 1).clamp(min=1)).clamp(min=1e-4).sqrt()
        context = torch.cat(
            [values, *(statistic.to(values.dtype).expand_as(values) for statistic in (mean, deviation))], dim=1
        )
        scores = self.scores(self.hidden(context, frame_mask).tanh()).float()
        if frame_mask is not None:
            scores = scores.masked_fill(~frame_mask.unsqueeze(1), float("-inf"))
        weights = scores.softmax(dim=-1)
        mean = (weights * values.float()).sum(-1)
        variance = (weights * values.float().square()).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=1)


class ECAPATDNNHead(LayerMixture):
    """Apply ECAPA-TDNN to instance-normalised hidden states: the paper's head (Heo et al., 2023, section 4.2)."""

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
        """Compute speaker embeddings.

        Args:
            hidden_states: n + 1 tensors (batch, frames, hidden).
            frame_mask: (batch, frames) or None.

        Returns:
            (batch, embedding_size), float32, not normalised to length 1.
        """
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
    """Build the head that `config.head_type` names.

    Args:
        config: the student's configuration.
    """
    return HEADS[config.head_type](config)


# The names are `HEAD_TYPES` of the configuration, which checks them.
HEADS: dict[str, type[LayerMixture]] = {"ecapa_tdnn": ECAPATDNNHead, "statistics_pooling": StatisticsPoolingHead}


def add_angular_margin(cosine: Tensor, margin: float) -> Tensor:
    """Turn cos(theta) into cos(theta + margin): the target's logit of AAM-softmax (ArcFace, Deng et al., CVPR 2019).

    Where theta + margin exceeds pi, the cosine would rise again. There `cos(theta) - margin * sin(pi - margin)` takes
    its place, as in the paper's code, so that the logit falls with every larger angle.

    Args:
        cosine: cosines of any shape, in [-1, 1].
        margin: an angle in radians, from 0 to below pi.

    Returns:
        A tensor of the shape of `cosine`.
    """
    # The floor keeps the gradient of the root finite at cosine 1.
    sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    beyond = cosine - margin * math.sin(math.pi - margin)
    return torch.where(cosine > math.cos(math.pi - margin), shifted, beyond)


class AAMSoftmaxLoss(nn.Module):
    """Classify embeddings by speaker with an additive angular margin: `loss` of `OSKDFTForXVector`.

    It takes the place of `AMSoftmaxLoss` in `Wav2Vec2ForXVector`, with the paper's margin of 0.2 and scale of 30.
    `weight`, (num_labels, embedding_size), holds one class vector per speaker, drawn as in the authors' code.
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
