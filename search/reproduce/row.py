"""One published figure beside the predicted one."""

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure of a paper and what the model says.

    Parameters
    ----------
    id, what : str
        Stable identifier, and words.
    published, predicted : float or None
        None where the paper gives no number, or where the model cannot give one.
    unit : str
    fitted : bool
        A constant was chosen so that the model meets this very figure: not a prediction.
    source : str
        Where the figure was published.
    allowed : float or None
        Relative error that the model claims to stay within; None where it claims nothing.
    note : str
        Conditions, fitted constants that it rests on, or why it cannot be reproduced.
    bounds : (float, float) or None
        Where only a range is published: what the prediction has to lie in.
    """

    id: str
    what: str
    published: float | None
    predicted: float | None
    unit: str
    fitted: bool
    source: str
    allowed: float | None = None
    note: str = ""
    bounds: tuple[float, float] | None = None

    @property
    def error(self) -> float | None:
        """Relative error of the prediction; None where one of the two is missing."""
        if self.published is None or self.predicted is None:
            return None
        return self.predicted / self.published - 1

    @property
    def met(self) -> bool | None:
        """Whether the error, or the prediction, is within what is claimed; None if nothing is."""
        if self.bounds is not None and self.predicted is not None:
            return self.bounds[0] <= self.predicted <= self.bounds[1]
        if self.allowed is None or self.error is None:
            return None
        return abs(self.error) <= self.allowed
