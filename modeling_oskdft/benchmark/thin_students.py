"""Measure students with narrower layers, at HuBERT-base scale: how much smaller and faster than the teacher each is.

The weights are random, of the published shape. Time is the median of alternating runs on 3 s of audio and one thread.
Sizes are the encoder's with its adapters, without the head. The size in int8 is one byte a parameter; a real file also
has scales, and norms and biases in float32.
"""

from typing import Any

import torch
from torch import nn

from ..evaluation.cost import count_parameters, encoder_seconds, multiply_adds
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTModel
from .shapes import hubert_base

ROUNDS, SECONDS = 9, 3.0
TARGET_TIME, TARGET_MEGABYTES = 0.10, 10.0
TEACHER, TWO_LAYERS = "teacher, 12 layers", "2 layers"
# The last student is that of examples/recipes/hubert_base_thin_voxceleb2.yaml.
CHOSEN = "2 layers x 512, front end 64 to 320, time reduction 2"
WIDENING = [64, 96, 128, 192, 256, 320, 320]
STUDENTS: dict[str, dict[str, Any]] = {
    TWO_LAYERS: {},
    "2 layers, time reduction 2": {"time_reduction": 2},
    "2 layers x 512, time reduction 2": {"hidden_size": 512, "time_reduction": 2},
    "2 layers x 512, front end 256, time reduction 2": {
        "front_end_width": 256,
        "hidden_size": 512,
        "time_reduction": 2,
    },
    "2 layers x 512, front end 160, time reduction 2": {
        "front_end_width": 160,
        "hidden_size": 512,
        "time_reduction": 2,
    },
    "2 layers x 512, front end 192 with strides 10 2 2 2 2 2 2": {
        "front_end_width": 192,
        "front_end_stride": [10, 2, 2, 2, 2, 2, 2],
        "hidden_size": 512,
    },
    "4 layers x 384, front end 64 to 320, time reduction 2": {
        "layers": [0, 1, 2, 3],
        "front_end_width": WIDENING,
        "hidden_size": 384,
        "time_reduction": 2,
    },
    CHOSEN: {"front_end_width": WIDENING, "hidden_size": 512, "time_reduction": 2},
}


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure teacher and students in one run; return a row for each, and the chosen student's time and size."""
    torch.manual_seed(0)
    teacher = hubert_base()
    encoders: dict[str, nn.Module] = {TEACHER: teacher}
    encoders |= {
        name: OSKDFTModel(OSKDFTConfig.from_teacher(teacher.config, **shape)) for name, shape in STUDENTS.items()
    }
    seconds = encoder_seconds(encoders, SECONDS, ROUNDS)
    operations = {name: multiply_adds(encoder, SECONDS) for name, encoder in encoders.items()}
    rows: list[dict[str, Any]] = []
    for name, encoder in encoders.items():
        size = count_parameters(encoder)
        rows.append(
            {
                "encoder": name,
                "parameters": size,
                "int8, MB": size / 1e6,
                "G multiply-adds for 3 s": operations[name] / 1e9,
                "ms, 1 thread": 1000 * seconds[name],
                "of the teacher's multiply-adds": operations[name] / operations[TEACHER],
                "of the teacher's time": seconds[name] / seconds[TEACHER],
            }
        )
    chosen = rows[-1]
    return rows, {
        f"{CHOSEN}: time / teacher (at most {TARGET_TIME:.2f})": chosen["of the teacher's time"],
        f"{CHOSEN}: int8, MB (below {TARGET_MEGABYTES:.0f})": chosen["int8, MB"],
    }
