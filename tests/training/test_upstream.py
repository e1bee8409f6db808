"""The private methods of transformers that are overridden are those that were read."""

import ast
import hashlib
import inspect
import textwrap

import pytest
from transformers import Trainer, __version__

from modeling_oskdft import OSKDFTTrainer
from modeling_oskdft.training.upstream import PatchedTrainer

# Digests of the source that was read, without docstrings and comments. After a change upstream: read the method, adapt
# the override in upstream.py, then add the digest that the failing test shows.
READ = {
    "_determine_best_metric": {"95df458ad537"},
    "_get_num_items_in_batch": {"f433fabb8110", "91f618bd74d9"},
    "_get_output_dir": {"813afe63edd0"},
    "_get_train_sampler": {"8a5d374a5be1"},
    "_hp_search_setup": {"e898c3a796ec"},
    "_load_best_model": {"ae61c984826a"},
    "_load_from_checkpoint": {"77210d38b7cb", "f5f023f8499c"},
    "_push_from_checkpoint": {"31697638a210", "21a0e9be1e5b"},
    "_save": {"3a55d1217514", "ac85c0118a09"},
    "_save_checkpoint": {"3d967e083322"},
}


def digest(source):
    """Hash what a method does: its syntax tree without the docstring."""
    method = ast.parse(textwrap.dedent(source)).body[0]
    if ast.get_docstring(method) is not None:
        method.body = method.body[1:]
    return hashlib.sha256(ast.dump(method).encode()).hexdigest()[:12]


def overridden():
    """List the private methods of transformers' Trainer that are defined anew."""
    return sorted(
        name for name in vars(PatchedTrainer) if name.startswith("_") and callable(getattr(Trainer, name, 0))
    )


def test_every_override_is_listed_and_lies_in_one_place():
    assert set(overridden()) == set(READ)
    ours = [name for name in vars(OSKDFTTrainer) if name.startswith("_") and not name.startswith("__")]
    assert not [name for name in ours if hasattr(Trainer, name)]


@pytest.mark.parametrize("name", READ)
def test_the_overridden_method_is_one_that_was_read(name):
    found = digest(inspect.getsource(getattr(Trainer, name)))
    assert found in READ[name], f"transformers {__version__} changed Trainer.{name}: read it, then add '{found}'"


def test_a_change_that_matters_changes_the_digest():
    method = "def f(self):\n    '''Say.'''\n    return 1  # one\n"
    assert digest(method) == digest("def f(self):\n    return 1\n") != digest("def f(self):\n    return 2\n")


def test_a_trainer_without_a_hook_cannot_be_constructed():
    class Forgetful(PatchedTrainer):
        save_weights = load_weights = loss_weights = train_sampler = becomes_best = None

    with pytest.raises(TypeError, match="abstract methods? .*push_step"):
        Forgetful()
