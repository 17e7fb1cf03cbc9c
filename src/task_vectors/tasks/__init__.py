"""One-way tasks, what is derived from them, and task families."""
