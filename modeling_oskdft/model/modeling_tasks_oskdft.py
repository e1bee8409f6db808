"""Use the two-path student for other tasks: classify recordings, and write down what is said.

Both classes read the ft path. They live apart from the verifier, so that the folder of a verifier carries no code of
other tasks.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .companions_oskdft import Companions
from .configuration_oskdft import OSKDFTConfig
from .heads_oskdft import LayerMixture, build_head
from .modeling_oskdft import OSKDFTForXVector, OSKDFTModel, OSKDFTPreTrainedModel

PADDING = -100  # a label of transformers that stands for no letter


@dataclass
class OSKDFTClassifierOutput(SequenceClassifierOutput):
    """Hold the logits of a classifier, and the embeddings that they are computed from.

    Attributes:
        embeddings: (batch, embedding_size), float32.
    """

    embeddings: Tensor | None = None


class OSKDFTForSequenceClassification(Companions, OSKDFTPreTrainedModel):
    """Classify recordings, as by emotion, language or gender: a head's embedding, then one linear layer.

    `config.num_labels` classes have the names of `config.id2label`.

    Example:
        >>> config = OSKDFTConfig(head_type="statistics_pooling", num_labels=3)
        >>> OSKDFTForSequenceClassification(config)(torch.randn(2, 16000)).logits.shape
        torch.Size([2, 3])
    """

    card_of_task = ("A classifier of recordings", "audio-classification")
    auto_map: ClassVar[dict[str, str]] = {
        **OSKDFTPreTrainedModel.auto_map,
        "AutoModel": "modeling_tasks_oskdft.OSKDFTForSequenceClassification",
        "AutoModelForAudioClassification": "modeling_tasks_oskdft.OSKDFTForSequenceClassification",
    }

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        self.oskdft = OSKDFTModel(config)
        self.head = build_head(config)
        self.classifier = nn.Linear(config.embedding_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> OSKDFTClassifierOutput:
        """Compute the logits of the classes.

        Args:
            input_values: (batch, samples), as in `OSKDFTModel`.
            attention_mask: (batch, samples) or None, as in `OSKDFTModel`.
            labels: (batch,), classes from 0 to `config.num_labels` - 1. They give `loss`, the mean cross entropy.
            output_hidden_states: return all hidden states; None: as `config.output_hidden_states`.
            output_attentions: as in `OSKDFTModel`.
            **kwargs: as in `OSKDFTForXVector`.

        Returns:
            An `OSKDFTClassifierOutput` with `logits` (batch, num_labels) and `embeddings` (batch, embedding_size),
            float32.

        Raises:
            ValueError, TypeError: as `OSKDFTModel` does.
        """
        states, frame_mask, asked = self._encode(
            input_values, attention_mask, output_hidden_states, output_attentions, **kwargs
        )
        embeddings = self.head(states, frame_mask)
        logits = self.task_output(embeddings)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return OSKDFTClassifierOutput(loss=loss, logits=logits, embeddings=embeddings, **asked)

    def task_output(self, embeddings: Tensor) -> Tensor:
        """Compute the logits of the classes from embeddings; (batch, num_labels), float32."""
        logits: Tensor = self.classifier(embeddings)
        return logits.float()


class FrameHead(LayerMixture):
    """Mix the encoder's hidden states into one state a frame, with dropout."""

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.encoder_config.final_dropout)

    def forward(self, hidden_states: tuple[Tensor, ...], frame_mask: Tensor | None = None) -> Tensor:
        """Mix hidden states.

        Args:
            hidden_states: n + 1 tensors (batch, frames, hidden).
            frame_mask: as every head takes it; frames do not see each other here.

        Returns:
            (batch, frames, hidden).
        """
        mixed: Tensor = self.dropout(self.mix(hidden_states))
        return mixed


class OSKDFTForCTC(Companions, OSKDFTPreTrainedModel):
    """Write down what is said: the logits of letters in each frame (CTC, Graves et al., 2006).

    The letters, the blank and the loss are described by the fields that transformers' speech configurations have for
    it, in `config.encoder_config`: `vocab_size`, `pad_token_id` (the blank), `ctc_loss_reduction`,
    `ctc_zero_infinity` and `final_dropout`.

    Example:
        >>> config = OSKDFTConfig()  # or that of a verifier, for OSKDFTForCTC.from_pretrained(…, config=config)
        >>> config.encoder_config.vocab_size = 40
        >>> OSKDFTForCTC(config)(torch.randn(1, 16000)).logits.shape
        torch.Size([1, 49, 40])
    """

    card_of_task = ("A speech recogniser", "automatic-speech-recognition")
    auto_map: ClassVar[dict[str, str]] = {
        **OSKDFTPreTrainedModel.auto_map,
        "AutoModel": "modeling_tasks_oskdft.OSKDFTForCTC",
        "AutoModelForCTC": "modeling_tasks_oskdft.OSKDFTForCTC",
    }

    def __init__(self, config: OSKDFTConfig) -> None:
        super().__init__(config)
        encoder = config.encoder_config
        self.oskdft = OSKDFTModel(config)
        self.head = FrameHead(config)
        self.lm_head = nn.Linear(encoder.hidden_size, encoder.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutput:
        """Compute the logits of the letters.

        Args:
            input_values: (batch, samples), as in `OSKDFTModel`.
            attention_mask: (batch, samples) or None, as in `OSKDFTModel`.
            labels: (batch, letters), padded on the right by -100. They give `loss`.
            output_hidden_states: return all hidden states; None: as `config.output_hidden_states`.
            output_attentions: as in `OSKDFTModel`.
            **kwargs: as in `OSKDFTForXVector`.

        Returns:
            A `CausalLMOutput` with `logits` (batch, frames, vocab_size), float32.

        Raises:
            ValueError: as `OSKDFTModel` does, and for a label that is no letter.
            TypeError: as `OSKDFTModel` does.
        """
        states, frame_mask, asked = self._encode(
            input_values, attention_mask, output_hidden_states, output_attentions, **kwargs
        )
        logits = self.task_output(self.head(states, frame_mask))
        loss = None if labels is None else self._loss(logits, frame_mask, labels)
        return CausalLMOutput(loss=loss, logits=logits, **asked)

    def task_output(self, states: Tensor) -> Tensor:
        """Compute the logits of the letters from the states of the head; (batch, frames, vocab_size), float32."""
        logits: Tensor = self.lm_head(states)
        return logits.float()

    def _loss(self, logits: Tensor, frame_mask: Tensor | None, labels: Tensor) -> Tensor:
        config = self.config.encoder_config
        is_letter = labels != PADDING
        outside = labels[is_letter & ((labels < 0) | (labels >= config.vocab_size))]
        if len(outside):
            raise ValueError(f"labels have the letter {int(outside[0])}: there are {config.vocab_size}, from 0 on.")
        frames = torch.full((len(logits),), logits.shape[1], device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            return nn.functional.ctc_loss(
                logits.log_softmax(-1).transpose(0, 1),
                labels.masked_select(is_letter),
                frames if frame_mask is None else frame_mask.sum(-1),
                is_letter.sum(-1),
                blank=config.pad_token_id,
                reduction=config.ctc_loss_reduction,
                zero_infinity=config.ctc_zero_infinity,
            )


Student = OSKDFTForXVector | OSKDFTForSequenceClassification | OSKDFTForCTC  # what a recipe trains

# With these, save_pretrained copies the travelling files.
OSKDFTForSequenceClassification.register_for_auto_class("AutoModelForAudioClassification")
OSKDFTForCTC.register_for_auto_class("AutoModelForCTC")
