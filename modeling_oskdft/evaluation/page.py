"""Write a decision report as one HTML page that needs no other file and makes no request."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import soundfile

from ..audio.forms import SAMPLING_RATE
from ..audio.loading import load_audio
from ..data.manifest import Manifest
from ..files import whole_file
from ..provenance import measured_on
from .decision_report import LEAST_TRIALS

TEMPLATE = Path(__file__).with_name("report_template.html")
PAGE_NAME, VALUES_NAME = "report.html", "report.json"
PLAYED_SECONDS = 10
POINTS = {
    "eer": "equal errors",
    "far_1_percent": "1 % of strangers accepted",
    "far_0.1_percent": "0.1 % of strangers accepted",
    "bayes": "least cost",
}
DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.4)
GOOD_CLLR_LOSS = 0.05  # above, a calibration on own recordings pays


def write_page(
    folder: str | Path, title: str, report: Mapping[str, Any], time: Mapping[str, Any], manifest: Manifest
) -> Path:
    """Write `report.html` into a folder, whole or not at all.

    Args:
        folder: it is made when it does not exist.
        title: title of the page.
        report: as `decision_report` returns it, with `machine` and `versions`.
        time: as `time_and_size` returns it, with `parameters` and `bytes` of each model where they are known.
        manifest: the utterances, for the players.

    Returns:
        The path of the page.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    reliability = report["curves"].get("reliability")
    core_hour = report["attempts"]["core_hour"]
    rows = {name: dict(row) | {"cost": _cost(row, core_hour)} for name, row in time["models"].items()}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        report=report,
        time=dict(time) | {"models": rows},
        date=date.today().isoformat(),
        measured_on=measured_on(report),
        best=_answer(report),
        saving=_saving(rows, core_hour),
        points=POINTS,
        percent=lambda share: f"{100 * share:.1f} %",
        counts=_counts,
        det=_det(report["curves"]["det"]),
        reliability=None if reliability is None else _reliability(reliability),
        players=_players(report["worst"], manifest),
        steps=_steps(report),
        least=LEAST_TRIALS,
    )
    path = Path(folder, PAGE_NAME)
    with whole_file(path) as file:
        file.write_text(page, encoding="utf-8")
    return path


def _counts(ends: Sequence[float], of: int) -> str:
    """Write a rate and its interval as counts, such as "4 (1–9)"."""
    value, low, high = (of * end for end in ends)
    digits = 0 if value >= 10 else 1
    return f"{value:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def _answer(report: Mapping[str, Any]) -> str | None:
    """Say in one sentence what the decisions of least cost, or of equal errors, get wrong."""
    by_name = {row["operating_point"]: row for row in report["decisions"]}
    row = by_name.get("bayes") or by_name.get("eer")
    if row is None:
        return None
    rejected, accepted = (_counts(row[kind], 100) for kind in ("false_rejects", "false_accepts"))
    return (
        f"Of 100 attempts of the right speaker {rejected} are rejected, of 100 attempts of strangers {accepted} are "
        f"accepted, where the verifier decides at {POINTS[row['operating_point']]}."
    )


def _cost(row: Mapping[str, Any], core_hour: float) -> float:
    return 1e6 / row["recordings_a_day"] * 24 * core_hour


def _saving(rows: Mapping[str, Mapping[str, Any]], core_hour: float) -> str:
    """Say what the first model saves against the second, at a cost a core-hour."""
    if len(rows) < 2:
        return ""
    first, second = list(rows.values())[:2]
    saved = second["cost"] - first["cost"]
    return f"At {core_hour:g} a core-hour, a million recordings cost {saved:.2f} less than with {list(rows)[1]}."


def _steps(report: Mapping[str, Any]) -> list[str]:
    """Say what to do next, by what was measured."""
    steps = ["Listen to the worst trials above, and correct labels that are wrong."]
    calibration = report.get("calibration")
    if calibration is None or calibration["cllr"] - calibration["min_cllr"] > GOOD_CLLR_LOSS:
        steps.append(
            "Calibrate on 200 pairs or more of your own, of other speakers than these: "
            "<code>oskdft calibrate MODEL PAIRS.csv</code>. The weights stay, decisions move to your recordings."
        )
    if report["speech"]["median"] < 3:
        steps.append("Ask for more speech: 3 s or more in each recording, and several recordings at the enrolment.")
    if report["rates"]["speakers"] < 50:
        steps.append("Measure again with 50 speakers or more: the intervals above are wide.")
    steps.append(
        "Where the errors are still too many, train on recordings of your own channel and language: "
        "<code>oskdft train RECIPE.yaml --start_from MODEL</code>."
    )
    return steps


# ---- pictures -------------------------------------------------------------------------------------------------------

SIZE, LEFT, BOTTOM = 320, 44, 34


def _det(probits: Sequence[Sequence[float]]) -> str:
    """Draw both error rates on axes of normal deviates, as lines of an SVG."""
    from statistics import NormalDist

    quantile = NormalDist().inv_cdf
    low, high = quantile(0.0005), quantile(0.5)

    def place(value: float) -> float:
        return min(max((value - low) / (high - low), 0.0), 1.0)

    ticks = [(place(quantile(rate)), f"{100 * rate:g}") for rate in DET_TICKS]
    points = [(place(x), place(y)) for x, y in zip(*probits, strict=True)]
    curve = f'<polyline class="curve" points="{_points(points)}"/>'
    return _axes("strangers accepted, %", "right speakers rejected, %", ticks, curve)


def _reliability(bins: Sequence[Sequence[float]]) -> str:
    """Draw the share of same speakers against the stated probability."""
    ticks = [(share / 100, f"{share}") for share in (0, 25, 50, 75, 100)]
    (x0, y0), (x1, y1) = _at(0, 0), _at(1, 1)
    shapes = [f'<line class="ideal" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>']
    shapes.append(f'<polyline class="curve" points="{_points([(x, y) for x, y, _ in bins])}"/>')
    shapes += [f'<circle class="dot" cx="{_at(x, y)[0]}" cy="{_at(x, y)[1]}" r="4"/>' for x, y, _ in bins]
    return _axes("stated probability, %", "same speakers, %", ticks, "".join(shapes))


def _axes(x_label: str, y_label: str, ticks: Sequence[tuple[float, str]], content: str) -> str:
    parts = [f'<svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="{y_label} against {x_label}">']
    for place, text in ticks:
        x, y = _at(place, place)
        left, bottom = _at(0, 0)
        right, top = _at(1, 1)
        parts.append(f'<line class="axis" x1="{x}" y1="{bottom}" x2="{x}" y2="{top}"/>')
        parts.append(f'<line class="axis" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{text}</text>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
    middle = (LEFT + SIZE) / 2
    parts.append(f'<text x="{middle}" y="{SIZE - 4}" text-anchor="middle">{x_label}</text>')
    turned = f"translate(11 {(SIZE - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{y_label}</text>')
    return "".join([*parts, content, "</svg>"])


def _at(x: float, y: float) -> tuple[float, float]:
    width, height = SIZE - LEFT - 10, SIZE - BOTTOM - 10
    return round(LEFT + x * width, 1), round(10 + (1 - y) * height, 1)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in (_at(*point) for point in points))


# ---- players --------------------------------------------------------------------------------------------------------


def _players(worst: Mapping[str, Sequence[Mapping[str, Any]]], manifest: Manifest) -> dict[str, str]:
    """Return the first 10 s of each recording of the worst trials, as MP3 in a data address."""
    names = {row[side] for rows in worst.values() for row in rows for side in ("enrolment", "test")}
    needed = manifest.where("utterance_id", sorted(names))
    players = {}
    for row, name in enumerate(needed.column("utterance_id")):
        waveform = load_audio(needed.audio(row))[: PLAYED_SECONDS * SAMPLING_RATE]
        file = io.BytesIO()
        soundfile.write(file, waveform.clip(-1, 1), SAMPLING_RATE, format="MP3")
        players[name] = f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return players
