"""How a page writes the names of the code."""


def readable(task: str) -> str:
    """A task's name with the arrow of its direction: `english → french`."""
    return task.replace("_to_", " → ").replace("to_upper", "lower → upper").replace("_", " ")
