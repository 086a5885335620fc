"""The parameters of a named target, as flags of a command.

Annotations are values here, not text: the dataclasses that inherit these lie in other modules.
"""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

_NUMBER = Parameter(allow_leading_hyphen=True)
_NAMES = ("mean", "sd", "prior", "low", "high", "label")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TargetFlags:
    """What tells one target of a kind from another."""

    mean: Annotated[float | None, _NUMBER] = None
    """Gaussians: the class is N(mean, sd^2), the other its mirror image."""
    sd: Annotated[float | None, _NUMBER] = None
    """Gaussians: standard deviation, > 0."""
    prior: Annotated[float | None, _NUMBER] = None
    """P(class), between 0 and 1."""
    low: Annotated[float | None, _NUMBER] = None
    """Uniforms: lower end of the class, >= 0."""
    high: Annotated[float | None, _NUMBER] = None
    """Uniforms: upper end of the class."""
    label: int | None = None
    """Digits: which digit is the class, 0 to 9."""

    def params(self) -> dict[str, float]:
        """Those that were given."""
        return {k: v for k in _NAMES if (v := getattr(self, k)) is not None}
