"""Turn errors into one sentence and an exit code, and check choices.

Exit codes: 0 fine, and "same speaker"; 1 "different speakers" and nothing else; 2 an error of the input, in one
sentence; 3 no decision; 70 a fault of this package; 130 stopped by the user.
"""

import builtins
import contextlib
import functools
import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import TextIO, TypeVar, cast

Chosen = TypeVar("Chosen")
DIFFERENT, WRONG_INPUT, NO_DECISION, OUR_FAULT, STOPPED = 1, 2, 3, 70, 130
MOST_WORKERS = 256  # most processes that a command lets read ahead
MEMORY_WORDS = ("can't allocate memory", "out of memory", "DefaultCPUAllocator")
INSTALL_ALL = "pip install -U 'modeling-oskdft[train]' (in a clone: pip install '.[train]')"
INSTALL = "pip install 'modeling-oskdft[{}]' (in a clone: pip install '.[{}]')"
# The extra that installs a missing module.
EXTRAS = {
    **dict.fromkeys(("accelerate", "datasets", "pyarrow", "yaml", "tensorboard", "matplotlib", "tqdm"), "train"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    **dict.fromkeys(("gradio", "PIL"), "space"),
    **dict.fromkeys(("fastapi", "uvicorn", "pydantic", "starlette", "prometheus_client", "python_multipart"), "serve"),
    **{
        "peft": "peft",
        "evaluate": "metrics",
        "sklearn": "calibration",
        "cryptography": "encryption",
        "qdrant_client": "qdrant",
        "openvino": "openvino",
        "nncf": "openvino",
        "executorch": "executorch",
    },
}


def end_at_once_on_interrupt() -> None:
    """End the process with one line on Ctrl-C, even within an import, until a command installs its own handler."""

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(2, b"oskdft: stopped.\n")
        os._exit(STOPPED)

    try:
        signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        return


def one_sentence_errors(function: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Wrap a command: an error of the input becomes one sentence on stderr and exit code 2.

    Any other exception is a fault of this package and becomes exit code 70. `--debug` adds the traceback.

    Args:
        function: takes the arguments without `--debug`, and returns an exit code.

    Returns:
        A function that takes the arguments, or None for those of the process, and returns an exit code.
    """

    @functools.wraps(function)
    def guarded(arguments: list[str] | None = None) -> int:
        with _stderr_that_takes_all():
            return answer(arguments)

    def answer(arguments: list[str] | None) -> int:
        words = sys.argv[1:] if arguments is None else list(arguments)
        debug = "--debug" in words
        warnings.formatwarning = lambda message, *_: f"oskdft: warning: {message}\n"
        try:
            code = function([word for word in words if word != "--debug"])
            if sys.stdout is not None:  # the calling process may have closed it
                sys.stdout.flush()  # a full disk is an error here, and not at the interpreter's end
            return code
        except KeyboardInterrupt:
            _say("stopped.")
            return STOPPED
        except BrokenPipeError:  # the reader of stdout has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return WRONG_INPUT
        except Exception as error:
            if debug:
                traceback.print_exc()
            code, sentence = sentence_of(error)
            _say(sentence)
            _repeat_in_launcher(sentence)
            return code

    return guarded


class _TakesAll:
    """A stream that drops text which cannot be written, so that the exit code stays right."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):  # the rest of the buffer is dropped
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _stderr_that_takes_all() -> Iterator[None]:
    before = sys.stderr
    if before is None:
        with open(os.devnull, "w") as sys.stderr:
            yield
    else:
        sys.stderr = cast(TextIO, _TakesAll(before))
        try:
            yield
        finally:
            sys.stderr = before


def sentence_of(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the sentence for an error that ended a command."""
    text = str(error).strip()
    if "Original Traceback" in text:  # an error of a loader's worker follows the worker's traceback
        name, _, text = text.splitlines()[-1].partition(": ")
        kind = getattr(builtins, name, RuntimeError)
        if isinstance(kind, type) and issubclass(kind, ValueError | OSError):
            return WRONG_INPUT, text
        return OUR_FAULT, _fault(name, text)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in text for w in MEMORY_WORDS)):
        return (
            WRONG_INPUT,
            "There is not enough memory: give shorter recordings, smaller batches, or a larger machine.",
        )
    if isinstance(error, ImportError):
        if "pip install" in text:
            return WRONG_INPUT, text
        module = (error.name or "").split(".")[0]
        if not isinstance(error, ModuleNotFoundError) or module not in EXTRAS:
            return WRONG_INPUT, f"{text}: install the versions that this package asks for, {INSTALL_ALL}."
        return WRONG_INPUT, f"{text}: {INSTALL.format(EXTRAS[module], EXTRAS[module])} brings it."
    if isinstance(error, OSError) and error.strerror and text.startswith("[Errno"):
        place = f"'{os.fsdecode(error.filename)}'" if isinstance(error.filename, str | bytes) else "A file"
        return WRONG_INPUT, (
            f"{place} cannot be used ({error.strerror.lower()}): check the path, its permissions and the room on "
            "the disk."
        )
    if isinstance(error, ValueError | OSError):
        return WRONG_INPUT, text
    first = next((line for line in text.splitlines() if line.strip()), "")
    return OUR_FAULT, _fault(type(error).__name__, first)


def _fault(name: str, text: str) -> str:
    return f"This is a fault of oskdft, please report it ({name}: {text[:200]}); --debug shows where."


def _repeat_in_launcher(sentence: str) -> None:
    """Put the sentence at the end of the output of torch's launcher.

    The launcher quotes the file that it names to each process (torch.distributed.elastic.multiprocessing.errors).
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        with contextlib.suppress(OSError), open(file, "w") as stream:
            json.dump({"message": sentence, "timestamp": int(time.time())}, stream)


def _say(sentence: str) -> None:
    """Print one line; line breaks and control characters in quoted names are escaped."""
    print(f"oskdft: {_escaped(sentence.encode(errors='backslashreplace').decode())}", file=sys.stderr)


def _escaped(text: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def printable(text: str | bytes) -> str:
    r"""Escape a path or another text for any terminal: bytes that are not UTF-8 as \xNN, line breaks as \n."""
    try:
        content = os.fsencode(text)
    except UnicodeEncodeError:  # half of a letter, which no file name holds
        content = str(text).encode("utf-8", "backslashreplace")
    return _escaped(content.decode("utf-8", "backslashreplace"))


MOST_LETTERS = 300  # of a quoted error of another library


def first_line(error: BaseException) -> str:
    """Return the first line of an error that is not empty, without its full stop."""
    lines = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), type(error).__name__).rstrip(".:")
    return first if len(first) <= MOST_LETTERS else f"{first[:MOST_LETTERS]} …"


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse a value that is not among the allowed ones.

    Raises:
        ValueError: naming the field, its value and the allowed values.
    """
    if value not in (choices := list(allowed)):
        raise ValueError(f"{name} is '{value}': use one of {', '.join(choices)}.")


def choose(name: str, value: str, registry: Mapping[str, Chosen]) -> Chosen:
    """Look up a value of a field in the registry of its choices.

    Args:
        name: the field.
        value: a key of the registry.
        registry: the choices by name.

    Raises:
        ValueError: as `check_choice` does.
    """
    check_choice(name, value, registry)
    return registry[value]


def moved_names(old: str, *places: str) -> Callable[[str], object]:
    """Make the `__getattr__` of a module whose names have moved: it warns once and returns them from their new place.

    Args:
        old: full name of the module that programs import.
        places: full names of the modules that have its names now, in the order in which they are searched.
    """
    warned = False

    def __getattr__(name: str) -> object:
        nonlocal warned
        if not name.startswith("_"):
            for place in places:
                module = importlib.import_module(place)
                if hasattr(module, name):
                    if not warned:
                        warned = True
                        sentence = f"'{old}.{name}' has moved: import it from '{place}'."
                        warnings.warn(sentence, FutureWarning, stacklevel=2)
                    return getattr(module, name)
        raise AttributeError(f"module '{old}' has no attribute '{name}'")

    return __getattr__
