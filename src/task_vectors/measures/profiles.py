"""Profiles: values over the places of a list, of which only the shape counts, and curves that are fitted to them."""

import numpy as np


def shape(values: np.ndarray) -> np.ndarray:
    """Values [..., N] over their mean."""
    values = np.asarray(values, dtype=float)
    return values / values.mean(-1, keepdims=True)


def fitted(curve: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The curve [N] at the scale at which it is nearest to the values [N], with no offset."""
    return curve * (curve @ values) / (curve @ curve)


def miss(curve: np.ndarray, values: np.ndarray) -> float:
    """How far the fitted curve [N] misses the values [N]: |values - fitted| / |values|."""
    return float(np.linalg.norm(values - fitted(curve, values)) / np.linalg.norm(values))
