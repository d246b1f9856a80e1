r"""What trained weights are for, as the configuration of their training in the file says.

.. math:: y = x + \sigma n,\; \sigma_0 \le \sigma \le \sigma_1, \qquad \text{or} \qquad y = a(t)\, x + s(t)\, n

is the noise that they have seen. A sampler that leaves these levels, or this path, asks for what nobody has learned.
"""

from __future__ import annotations

import math
from typing import Any

from . import schedule as schedules
from .schedule import Schedule, VarianceExploding
from .weights_file import WeightsError, read_description

KINDS = {
    n: c for n, c in vars(schedules).items() if isinstance(c, type) and issubclass(c, Schedule) and c is not Schedule
}


def configured(weights: object, part: str) -> tuple[str, dict[str, Any]]:
    """Class and arguments of a part of the training, such as ``noise``; none of what is no file's or shipped name."""
    config = read_description(weights).get("config") if isinstance(weights, str) else None
    found = config.get(part) if isinstance(config, dict) else None
    name, arguments = (found.get("class_path"), found.get("init_args")) if isinstance(found, dict) else (None, None)
    return str(name).rpartition(".")[2], arguments if isinstance(arguments, dict) else {}


def trained_levels(weights: object) -> Schedule | None:
    r"""The schedule of the levels of Gaussian noise that weights are for, from a hundredth of the highest at least.

    The parts of complex images, at :math:`\sigma / \sqrt 2`, are within them too.
    """
    name, found = configured(weights, "noise")
    low, high = found.get("low"), found.get("high")
    if name != "Gaussian" or not (isinstance(low, int | float) and isinstance(high, int | float)):
        return None
    least = max(math.sqrt(2) * low, high / 100)
    return VarianceExploding(least, high) if 0 < least < high < math.inf else None


def trained_path(weights: object) -> Schedule | None:
    """The schedule of the times that weights are for."""
    name, found = configured(weights, "noise")
    return described(weights, found.get("schedule")) if name == "OnPath" else None


def described(weights: object, schedule: Any) -> Schedule | None:
    """The schedule that a file describes by class and arguments.

    :raises WeightsError: if it is none of this package's.
    """
    if schedule is None:
        return None
    try:
        kind = KINDS[schedule["class_path"].rpartition(".")[2]]
        return kind(
            **{k: described(weights, v) if isinstance(v, dict) else v for k, v in schedule["init_args"].items()}
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{weights}: found a schedule {schedule!r:.80}, expected one of {', '.join(KINDS)}"
        ) from error
