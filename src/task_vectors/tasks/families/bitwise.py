"""Bitwise arithmetic: a logical operator on two binary numbers of a fixed length."""

import re
from collections.abc import Callable, Iterator
from random import Random

from task_vectors.tasks.families.family import NULL, TaskFamily

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "AND": lambda a, b: a & b,
    "NAND": lambda a, b: ~(a & b),
    "OR": lambda a, b: a | b,
    "NOR": lambda a, b: ~(a | b),
    "XOR": lambda a, b: a ^ b,
    "XNOR": lambda a, b: ~(a ^ b),
}
MOST_DIGITS = 8  # all 4**digits pairs are listed


class BitwiseArithmetic(TaskFamily):
    """Inputs such as "10110 01101", with the answer 00100 for AND; a b and b a belong to the same part."""

    name = "bitwise"
    template = "{x} -> {y}"
    descriptions = {operator: f"The answer is the bitwise {operator} of the two numbers." for operator in OPERATORS} | {
        NULL: "The answer is a random binary number, whatever the two numbers are."
    }

    def __init__(self, digits: int):
        self.digits = digits

    def __repr__(self) -> str:
        return f"bitwise_arithmetic(digits={self.digits})"

    def _candidates(self, rng: Random) -> Iterator[str]:
        numbers = [f"{number:0{self.digits}b}" for number in range(2**self.digits)]
        pairs = [f"{a} {b}" for a in numbers for b in numbers]
        yield from sorted(pairs, key=lambda _: rng.random())

    def _solve(self, task: str, x: str) -> str:
        if not re.fullmatch(f"[01]{{{self.digits}}} [01]{{{self.digits}}}", x):
            raise ValueError(f"{x!r} is not two binary numbers of {self.digits} digits, separated by a space")
        a, b = (int(number, base=2) for number in x.split())
        return f"{OPERATORS[task](a, b) % 2**self.digits:0{self.digits}b}"

    def _random_answer(self, x: str, rng: Random) -> str:
        return "".join(rng.choices("01", k=self.digits))

    def _identity(self, x: str) -> str:
        return " ".join(sorted(x.split()))


def bitwise_arithmetic(digits: int = 5) -> TaskFamily:
    """AND, NAND, OR, NOR, XOR, XNOR and Null on two binary numbers (Han et al. 2025).

    Args:
        digits: of each number, 1 to 8; 5 in the paper.

    Raises:
        ValueError: digits is not between 1 and 8.
    """
    if not 1 <= digits <= MOST_DIGITS:
        raise ValueError(f"binary numbers have 1 to {MOST_DIGITS} digits here, not {digits}")
    return BitwiseArithmetic(digits)
