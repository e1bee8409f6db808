import math

import pytest

from modeling_oskdft.training.schedules import (
    KD_SCHEDULES,
    Clock,
    constant,
    cosine,
    cosine_to_zero,
    linear_to_zero,
    warmup_then_decay,
)


def test_cosine_starts_at_its_start_and_ends_at_its_end():
    assert cosine(1, 10, 1.0, 0.1) == 1.0
    assert cosine(11, 10, 1.0, 0.1) == pytest.approx(0.1)
    values = [cosine(epoch, 10, 1.0, 0.1) for epoch in range(1, 11)]
    assert values == sorted(values, reverse=True)


def test_the_weight_of_the_distillation_ends_at_zero_exactly():
    for schedule in (linear_to_zero, cosine_to_zero):
        assert schedule(100, 100) == 0.0
        assert schedule(0, 100) == 1.0
    assert linear_to_zero(1, 100) == 0.99 and constant(7, 100) == 1.0
    assert set(KD_SCHEDULES) == {"constant", "linear", "cosine"}


def test_warm_up_reaches_the_head_and_decays():
    def head(epoch):
        return 2.0

    assert warmup_then_decay(1, head) == pytest.approx(0.2)
    assert warmup_then_decay(9, head) == pytest.approx(1.8)
    assert warmup_then_decay(12, head) == pytest.approx(1.8 * 0.93**3)
    for short in (0, 0.1, 1):
        assert warmup_then_decay(4, head, warmup_epochs=short, decay=0.5) == pytest.approx(2.0 * 0.5**4)


def test_steps_run_through_the_same_values_without_jumps():
    clock = Clock(steps_per_epoch=50, num_epochs=20)

    def rate(step):
        epoch = clock.epoch(step)
        return warmup_then_decay(epoch, lambda e: cosine(e, clock.num_epochs, 1.0, 0.0, clock.length))

    rates = [rate(step) for step in range(20 * 50)]
    assert max(abs(b - a) for a, b in zip(rates, rates[1:], strict=False)) < 0.003
    assert math.isclose(max(rates), rates[9 * 50 - 1], rel_tol=1e-2)


def test_a_clock_of_epochs_holds_for_an_epoch():
    clock = Clock(steps_per_epoch=3, num_epochs=4, unit="epoch")
    assert [clock.epoch(step) for step in range(7)] == [1, 1, 1, 2, 2, 2, 3]
    assert clock.length == 1.0


def test_a_clock_of_steps_ends_with_the_run():
    clock = Clock(steps_per_epoch=4, num_epochs=2)
    assert clock.epoch(0) == 0.25 and clock.epoch(7) == 2.0
    assert linear_to_zero(clock.epoch(7), clock.num_epochs) == 0.0
