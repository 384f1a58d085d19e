"""Resources of a TeLLMe point, module by module."""

from collections.abc import Mapping

from headrace.arch.point import Point
from headrace.arch.resources import Resources

__all__ = ["resources"]


def resources(point: Point) -> Mapping[str, Resources]:
    """Return the resources of each module; they add up to the whole machine."""
    raise NotImplementedError
