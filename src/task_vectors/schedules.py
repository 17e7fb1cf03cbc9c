"""How a training's rate goes up and down."""


def schedule(step: int, steps: int, warm_up: int, cool_down: float) -> float:
    """The rate's factor at `step`, counted from 0: up to 1 over `warm_up` steps, held, linearly to 0 at the end.

    cool_down: the part of `steps`, the last ones, over which it goes to 0.
    """
    return min(1, (step + 1) / warm_up, (1 - step / steps) / cool_down)
