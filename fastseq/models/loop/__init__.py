"""The one training loop: steps, schedules, checkpoints, history."""
