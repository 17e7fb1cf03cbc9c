"""What is recorded: one module an experiment."""
