"""Do a class's decodability and its loss change at the same time? Change points, their lags, and the null they face."""

import numpy as np
import pandas as pd


def change_point(steps: np.ndarray, values: np.ndarray) -> float:
    """The step at which one jump between two constants fits the series best (least squares), between two snapshots.

    nan where the series is constant. steps and values: [n], n at least 2.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    sums = np.cumsum(values)[:-1]  # [n - 1], of the values before each possible jump
    before = np.arange(1, n)
    # Of the total variance, what the two means explain.
    explained = sums**2 / before + (values.sum() - sums) ** 2 / (n - before) - values.sum() ** 2 / n
    if not explained.max() > 1e-12 * max(1.0, np.square(values).sum()):
        return np.nan
    at = int(explained.argmax())
    return (steps[at] + steps[at + 1]) / 2


def change_points(series: pd.DataFrame) -> pd.Series:
    """The change point of each column (a class) of a table whose index is the step."""
    return pd.Series({name: change_point(series.index.to_numpy(), series[name].to_numpy()) for name in series})


def lags(decodability: pd.DataFrame, log_loss: pd.DataFrame) -> pd.DataFrame:
    """Change point of TD of basis j less that of the loss of basis k, at [j, k], in steps; one seed's tables.

    Rows of both are steps, columns classes.
    """
    td, loss = change_points(decodability), change_points(log_loss)
    return pd.DataFrame(td.to_numpy()[:, None] - loss.to_numpy()[None], index=td.index, columns=loss.index)


def coupling(lag: pd.DataFrame) -> dict[str, float]:
    """Of one seed's lags: their mean, how far own and other pairs are off it, the difference, and the losses' spread.

    Encoding may come before decoding by a common lag; coupling means that own pairs (j = k) keep to it more than others
    do, so that the difference (other - own) is above zero. It has no power where the changes of the losses, or those of
    TD, lie no further apart than two snapshots.
    """
    values = lag.to_numpy()
    off = np.abs(values - values.mean())
    own = np.eye(len(lag), dtype=bool)
    return {
        "lag": float(values.mean()),
        "own": float(off[own].mean()),
        "other": float(off[~own].mean()),
        "difference": float(off[~own].mean() - off[own].mean()),
        "spread": float(np.ptp(values, axis=1).max()),
        "td_spread": float(np.ptp(values, axis=0).max()),
    }
