from types import SimpleNamespace

from modeling_oskdft.data.crops import EpochSampler
from modeling_oskdft.training.callbacks.epoch_order import EpochOrder


def test_the_sampler_shows_the_epoch_of_the_next_step(manifest):
    """The whole is tests/training/test_guards.py: two processes that are killed and go on with the same bits."""
    order = EpochOrder(1)
    order.on_epoch_begin(None, SimpleNamespace(global_step=5), None)
    order.sampler, order.steps_per_epoch = EpochSampler(manifest, 0), 3
    for step, epoch in ((0, 0), (2, 0), (3, 1), (7, 2)):
        order.on_epoch_begin(None, SimpleNamespace(global_step=step), None)
        assert {number for number, _ in order.sampler} == {epoch}
