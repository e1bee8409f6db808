"""Build the optimiser, the learning rates of its three groups, and the clock that they follow."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from .schedules import Clock, cosine, warmup_then_decay
from .training_arguments import OSKDFTTrainingArguments

Rate = Callable[[float], float]


def clock_of_run(args: OSKDFTTrainingArguments, crops: int) -> Clock:
    """Compute the steps of an epoch, in which every crop is drawn once, and the length of a run.

    Args:
        args: settings of the training.
        crops: number of training crops.
    """
    batch = args.per_device_train_batch_size * args.world_size
    batches = crops // batch if args.dataloader_drop_last else -(-crops // batch)
    steps_per_epoch = max(-(-batches // args.gradient_accumulation_steps), 1)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch)
    return Clock(steps_per_epoch, steps / steps_per_epoch, args.schedule_unit)


def build_optimizer(groups: Mapping[str, Sequence[nn.Parameter]], args: OSKDFTTrainingArguments) -> torch.optim.Adam:
    """Build Adam with L2 weight decay over the groups of `JointModel.parameter_groups`.

    Its rate is 1, so that the value of a group's schedule is the group's learning rate.
    """
    return torch.optim.Adam(
        [{"params": parameters, "name": name} for name, parameters in groups.items() if parameters],
        lr=1.0,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        weight_decay=args.weight_decay,
        fused=True,
    )


def build_scheduler(
    optimizer: torch.optim.Optimizer, args: OSKDFTTrainingArguments, clock: Clock
) -> torch.optim.lr_scheduler.LambdaLR:
    """Build one schedule a group, as a function of the finished steps."""
    rates = learning_rates(args, clock)

    def of_steps(rate: Rate) -> Callable[[int], float]:
        return lambda finished_steps: rate(clock.epoch(finished_steps))

    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, [of_steps(rates[group["name"]]) for group in optimizer.param_groups]
    )


def learning_rates(args: OSKDFTTrainingArguments, clock: Clock) -> dict[str, Rate]:
    """Return the learning rate of each group as a function of the epoch, see `schedules`."""

    def head(epoch: float) -> float:
        return cosine(epoch, clock.num_epochs, args.learning_rate, args.min_learning_rate, clock.length)

    def backbone(epoch: float) -> float:
        if args.backbone_schedule == "cosine":
            warmup = min(epoch / args.backbone_warmup_epochs, 1.0) if args.backbone_warmup_epochs else 1.0
            return args.backbone_lr_multiplier * warmup * head(epoch)
        shape = warmup_then_decay(epoch, head, args.backbone_warmup_epochs, args.backbone_decay)
        return args.backbone_lr_multiplier * shape

    def adapters(epoch: float) -> float:
        return args.adapter_lr_multiplier * head(epoch)

    return {"head": head, "adapters": adapters, "backbone": backbone}
