"""Task vectors in in-context learning: models, tasks, prompts, interventions and measures behind the book's notebooks."""
