"""Join feature extractor and verifier in one module from raw waveform to embedding, which is traced."""

from typing import TypeVar

from torch import Tensor, nn

from ..embedding.runtimes import TorchEmbedder
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector

EPSILON = 1e-7  # of Wav2Vec2FeatureExtractor
Model = TypeVar("Model", bound=nn.Module)
INPUTS, OUTPUT = ("input_values", "attention_mask"), "embeddings"


class RawToEmbedding(nn.Module):
    """Join feature extractor and verifier in one module, which is traced.

    Args:
        verifier: the model.
        do_normalize: setting of its feature extractor, whether waveforms are normalised.
    """

    def __init__(self, verifier: OSKDFTForXVector, do_normalize: bool) -> None:
        super().__init__()
        self.verifier = verifier
        self.do_normalize = do_normalize

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed raw waveforms.

        Args:
            input_values: (batch, samples) at 16 kHz; the values of padding do not matter.
            attention_mask: (batch, samples), 1 where audio is real, 0 in padding.

        Returns:
            (batch, embedding_size), not normalised.
        """
        waveform = extracted(input_values, attention_mask, self.do_normalize)
        return self.verifier(waveform, attention_mask).embeddings


class RawVerifier(OSKDFTForXVector):
    """Be a verifier that takes raw waveforms, for exporters that take models of transformers alone.

    Args:
        config: of the verifier.
        do_normalize: setting of its feature extractor.
    """

    def __init__(self, config: OSKDFTConfig, do_normalize: bool) -> None:
        super().__init__(config)
        self.do_normalize = do_normalize

    @classmethod
    def of(cls, source: TorchEmbedder) -> "RawVerifier":
        """Copy a verifier on the CPU, with the weight of its positional convolution, not its parametrisation.

        Args:
            source: the verifier.
        """
        raw = cls(source.model.config, bool(source.feature_extractor.do_normalize))
        raw.load_state_dict(source.model.state_dict())
        return without_parametrisations(raw)

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> object:
        """Embed raw waveforms: see `RawToEmbedding.forward`; returns the output of the verifier."""
        return super().forward(extracted(input_values, attention_mask, self.do_normalize), attention_mask)


def extracted(input_values: Tensor, attention_mask: Tensor, do_normalize: bool) -> Tensor:
    """Do what `Wav2Vec2FeatureExtractor` does to a padded batch.

    Args:
        input_values: (batch, samples), raw waveforms.
        attention_mask: (batch, samples), 1 or 0.
        do_normalize: its setting.

    Returns:
        (batch, samples), zero in padding.
    """
    valid = attention_mask.to(input_values.dtype)
    return normalised(input_values, valid) if do_normalize else input_values * valid


def normalised(waveform: Tensor, valid: Tensor) -> Tensor:
    """Normalise each row to zero mean and unit variance over its valid samples, as `Wav2Vec2FeatureExtractor`.

    Args:
        waveform: (batch, samples).
        valid: (batch, samples), 1 or 0.

    Returns:
        (batch, samples), zero where `valid` is 0.
    """
    count = valid.sum(-1, keepdim=True)
    mean = (waveform * valid).sum(-1, keepdim=True) / count
    centred = (waveform - mean) * valid
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred / (variance + EPSILON).sqrt()


def plain_copy(model: OSKDFTForXVector) -> OSKDFTForXVector:
    """Make a copy on the CPU whose positional convolution has its weight instead of the weight's parametrisation.

    Args:
        model: the verifier.
    """
    # Built anew: a deep copy shares the class that carries the parametrisation, so that removing it there would take
    # it from the original as well.
    plain = OSKDFTForXVector(model.config)
    plain.load_state_dict(model.state_dict())
    return without_parametrisations(plain)


def without_parametrisations(model: Model) -> Model:
    """Put weights in the place of their parametrisations, in place, and return the model in eval mode."""
    for module in list(model.modules()):
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    return model.eval()
