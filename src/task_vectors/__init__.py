"""Task vectors in in-context learning: the models, tasks, prompts and interventions behind the book's notebooks."""
