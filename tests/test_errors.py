import errno
import os
import subprocess
import sys
import textwrap

import pytest

from modeling_oskdft.errors import OUR_FAULT, STOPPED, WRONG_INPUT, first_line, one_sentence_errors, sentence_of
from tests.light import LIGHT


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("x is 3: give 4."), 2, "x is 3: give 4."),
        (FileNotFoundError("There is nothing at 'x': check the path."), 2, "There is nothing at 'x'"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b"), 2, "'a/b' cannot be used (no space left on device)"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (ModuleNotFoundError("No module named 'onnx'", name="onnx"), 2, "pip install 'modeling-oskdft[export]'"),
        (ModuleNotFoundError("No module named 'gradio'", name="gradio"), 2, "pip install '.[space]'"),
        (TypeError("unsupported operand"), 70, "fault of oskdft, please report it (TypeError: unsupported operand)"),
        (RuntimeError("odd"), 70, "fault of oskdft"),
        (KeyError("x"), 70, "--debug shows where"),
        (ImportError("cannot import name 'x' from 'torch'", name="torch"), 2, "install the versions that this"),
        (RuntimeError("Caught\nOriginal Traceback\n  x\nPermissionError: no."), 2, "no."),
        (
            RuntimeError("Caught\nOriginal Traceback\n  x\nKeyError: 'y'"),
            70,
            "please report it (KeyError",
        ),
        (RuntimeError("Caught\nOriginal Traceback (most recent call last):\n  x\nValueError: It is bad."), 2, "It is"),
    ],
)
def test_every_error_is_one_sentence_and_never_an_answer(error, code, words, capsys):
    assert sentence_of(error)[0] == code in (WRONG_INPUT, OUR_FAULT)

    @one_sentence_errors
    def command(words):
        raise error

    assert command([]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("oskdft: ")
    assert command(["--debug"]) == code and type(error).__name__ in capsys.readouterr().err


def test_a_full_disk_behind_standard_output_is_an_error():
    code = textwrap.dedent("""
        import sys
        from modeling_oskdft.errors import one_sentence_errors
        sys.exit(one_sentence_errors(lambda _: print(1) or 0)([]))
    """)
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", LIGHT + code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == WRONG_INPUT and "cannot be used (no space left on device)" in done.stderr


def test_ctrl_c_before_a_command_has_taken_over_is_one_line():
    code = textwrap.dedent("""
        import os, signal
        from modeling_oskdft.errors import end_at_once_on_interrupt
        end_at_once_on_interrupt()
        os.kill(os.getpid(), signal.SIGINT)
        import torch
    """)
    done = subprocess.run([sys.executable, "-c", LIGHT + code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (STOPPED, "oskdft: stopped.\n")


COMMAND = """
import sys
from modeling_oskdft.errors import one_sentence_errors
def command(words):
    print("warning: loud", file=sys.stderr)
    if words:
        raise ValueError("It is wrong.")
    return 3
sys.exit(one_sentence_errors(command)(sys.argv[1:]))
"""


@pytest.mark.parametrize("ending", ["2>/dev/full", "2>&-", ">&-", "2> >(exec true)"])
def test_what_cannot_be_said_does_not_change_the_code(ending):
    for words, code in (("", 3), ("x", 2)):
        shell = f'{sys.executable} -c "$0" {words} {ending}'
        assert subprocess.run(["bash", "-c", shell, LIGHT + COMMAND]).returncode == code


def test_a_sentence_is_one_line_whatever_it_quotes(capsys):
    @one_sentence_errors
    def command(words):
        raise ValueError("There is nothing at 'a\nb\x1b': check the path.")

    assert command([]) == 2
    assert capsys.readouterr().err == "oskdft: There is nothing at 'a\\nb\\x1b': check the path.\n"


def test_the_first_line_that_says_something():
    assert first_line(ValueError("\n\n  a b.\nc")) == "a b" and first_line(KeyError()) == "KeyError"
