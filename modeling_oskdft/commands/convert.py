"""Convert a checkpoint of the authors' code into a folder that `from_pretrained` opens."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", help=".safetensors or .pt file of the authors' code")
    parser.add_argument("config", help="its config.json: family, encoder_config, adapter")
    parser.add_argument("--out", required=True, help="folder to write")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from pathlib import Path

    from transformers import Wav2Vec2FeatureExtractor

    from ..files import read_json, whole_folder
    from ..student.conversion import convert_original_state_dict, read_original_checkpoint

    if not Path(options.config).is_file():
        raise FileNotFoundError(
            f"There is no description at '{options.config}': give the config.json of the checkpoint."
        )
    config = read_json(options.config)
    converted = convert_original_state_dict(read_original_checkpoint(options.checkpoint), config)
    model = converted.build()
    # The authors do not normalise waveforms.
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    with whole_folder(options.out) as folder:
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    print(f"The {'verifier' if converted.head else 'encoder, which had no head,'} is in '{options.out}'.")
    return 0
