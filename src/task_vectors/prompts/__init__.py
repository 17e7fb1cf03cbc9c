"""Prompts of tasks and of task families."""
