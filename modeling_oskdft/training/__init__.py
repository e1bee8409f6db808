"""Training: objectives, schedules, the joint step and the Trainer."""
