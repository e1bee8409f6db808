"""Export a verifier as one graph, with thresholds and a script that decides without PyTorch, or as a page."""

import argparse
import json

FORMATS = ("onnx", "openvino", "executorch", "browser")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", help="folder or repository of a verifier")
    parser.add_argument("--out", required=True, help="folder to write: new, empty, or an export that is replaced")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="format of the graph, or a page that runs it in the browser (default: onnx)",
    )
    parser.add_argument("--int8", action="store_true", help="quantise; wants --calibration (not for browser)")
    parser.add_argument("--calibration", help="folder or manifest of speech, a few dozen recordings, for int8")
    parser.add_argument("--split", help="rows of that manifest whose split is this one")
    parser.add_argument("--opset", type=int, help="opset of ONNX, 18 to 23 (default: 20)")
    parser.add_argument("--longest", type=float, help="longest recording in seconds (executorch; default: 30)")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..export.browser import export_browser
    from ..export.onnx_graph import OPSET, export_onnx
    from ..export.other_formats import LONGEST, export_other

    quantising = (options.int8, options.calibration, options.split)
    if options.format == "onnx":
        _refuse(options, "longest")
        opset = OPSET if options.opset is None else options.opset
        written = export_onnx(options.model, options.out, opset, options.revision, *quantising)
    elif options.format == "browser":
        _refuse(options, "int8", "calibration", "split", "opset", "longest")
        written = export_browser(options.model, options.out, options.revision)
    else:
        of_others = ("longest",) if options.format == "openvino" else ()
        _refuse(options, "opset", *of_others)
        longest = LONGEST if options.longest is None else options.longest
        written = export_other(options.model, options.out, options.format, longest, options.revision, *quantising)
    if options.json:
        print(json.dumps(written.as_dict()))
        return 0
    form = options.format if written.opset is None else f"opset {written.opset}"
    judged_on = "the calibration audio" if options.int8 else "noise"
    print(
        f"'{written.folder}': {written.precision}, {written.bytes / 1e6:.2f} MB, {form}; lowest cosine to PyTorch "
        f"{written.cosine:.6f}, on {judged_on}."
    )
    if options.format == "browser":
        serve = f"python -m http.server --directory '{written.folder}' 8080"
        print(f"Try it: {serve}, and open http://localhost:8080/.")
    if options.int8 and options.format == "onnx":
        print(
            f"Convolutions: {len(written.int8_convolutions)} in int8, {len(written.two_part_convolutions)} in int8 in "
            f"two parts, {len(written.float_convolutions)} in float32."
        )
    return 0


def _refuse(options: argparse.Namespace, *names: str) -> None:
    """Refuse options of another format."""
    given = [name for name in names if getattr(options, name) not in (None, False)]
    if given:
        raise ValueError(f"{given[0]} was given for {options.format}, where it has no effect: leave it out.")
