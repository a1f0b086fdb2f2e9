"""Training of models: state, steps, checkpoints, history, progress and early stopping."""
