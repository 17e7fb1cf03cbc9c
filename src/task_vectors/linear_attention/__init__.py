"""The linear transformer of Dong et al. 2026: its prompts, its training as an ensemble, and its theory."""
