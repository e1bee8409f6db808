import pytest

from modeling_oskdft import OSKDFTTrainingArguments
from modeling_oskdft.training.optimization import build_optimizer, build_scheduler, clock_of_run, learning_rates
from tests.training.test_joint_model import joint


def arguments(**fields):
    return OSKDFTTrainingArguments(output_dir="x", use_cpu=True, report_to="none", **fields)


@pytest.mark.parametrize(
    ("fields", "steps_per_epoch", "steps"),
    [
        ({"num_train_epochs": 3, "per_device_train_batch_size": 4}, 6, 18),
        ({"num_train_epochs": 3, "per_device_train_batch_size": 4, "dataloader_drop_last": False}, 7, 21),
        ({"num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, 2, 4),
        ({"num_train_epochs": 0.5, "per_device_train_batch_size": 4}, 6, 3),
        ({"max_steps": 10, "per_device_train_batch_size": 4}, 6, 10),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 100}, 1, 1),
    ],
)
def test_the_clock_counts_the_steps_of_an_epoch_and_of_a_run(fields, steps_per_epoch, steps):
    clock = clock_of_run(arguments(**fields), 26)
    assert (clock.steps_per_epoch, clock.steps) == (steps_per_epoch, steps)


def test_each_group_has_the_rate_of_its_schedule():
    args = arguments(num_train_epochs=4, per_device_train_batch_size=2, schedule_unit="epoch")
    clock = clock_of_run(args, 8)
    model, _ = joint()
    optimizer = build_optimizer(model.parameter_groups(), args)
    scheduler = build_scheduler(optimizer, args, clock)
    rates = learning_rates(args, clock)
    for _ in range(clock.steps):
        epoch = clock.epoch(scheduler.last_epoch)
        assert {group["name"]: group["lr"] for group in optimizer.param_groups} == pytest.approx(
            {name: rate(epoch) for name, rate in rates.items()}
        )
        optimizer.step()
        scheduler.step()


def test_a_backbone_without_warm_up_follows_the_head_s_cosine():
    args = arguments(backbone_schedule="cosine", backbone_warmup_epochs=0, backbone_lr_multiplier=0.5)
    rates = learning_rates(args, clock_of_run(args, 1000))
    assert rates["backbone"](3.0) == pytest.approx(0.5 * rates["head"](3.0))
