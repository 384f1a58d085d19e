"""Where a layer's keys and values are: the newest tokens in device memory, older ones offloaded.

V-Rex states that recent keys and values stay in device memory, that the oldest go behind the link
above some capacity, and that the tokens of a cluster lie at contiguous addresses there. How a
growing cluster keeps its addresses contiguous is not published; extents are ours.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["ClusterRead", "KvPlacement", "TokenWrite"]


@dataclass(frozen=True, kw_only=True)
class TokenWrite:
    """What moves when a token comes.

    Attributes
    ----------
    slot : int
        Token slot of device memory that takes the token.
    place : int or None
        Token slot of offload memory that takes what was in `slot` before; None if nothing moves.
    lost : bool
        There was a token in `slot`, and no room for it.
    """

    slot: int
    place: int | None = None
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class ClusterRead:
    """A run of offloaded tokens of one cluster.

    Attributes
    ----------
    place : int
        Token slot of offload memory of the first one.
    tokens : int
        Tokens at that and the next places.
    staging : int
        Token slot of the staging memory that takes the first one.
    """

    place: int
    tokens: int
    staging: int


class KvPlacement:
    """Places of the tokens of one layer.

    The newest `resident` tokens are in a ring in device memory, token t in slot ``t % resident``.
    A token that leaves the ring goes to the next place of its cluster in offload memory, which
    has extents of `extent_tokens` places: the next one in the cluster's last extent, or the first
    one of the first extent that nobody has. If there is no such extent, the token is lost.

    Parameters
    ----------
    resident : int
        Tokens in device memory, at least 1.
    extent_tokens : int
        Places of an extent, at least 1.
    extents : int
        Extents of the layer, at least 1.
    layer : int
        Its slots begin at ``layer * resident``, its extents at ``layer * extents``.

    Raises
    ------
    InputError
        A size is out of range.
    """

    def __init__(
        self, *, resident: int, extent_tokens: int = 32, extents: int, layer: int = 0
    ) -> None:
        if min(resident, extent_tokens, extents) < 1 or layer < 0:
            raise InputError(
                f"placement: {resident} resident tokens, {extents} extents of {extent_tokens}, "
                f"layer {layer}; at least 1, 1, 1 and 0 are needed"
            )
        self.resident, self.extent_tokens, self.extents = resident, extent_tokens, extents
        self.layer = layer
        self.tokens = self.used = 0
        self._ring: deque[int] = deque()
        self._places: defaultdict[int, list[int]] = defaultdict(list)

    def places(self, cluster: int) -> tuple[int, ...]:
        """Return the places of a cluster's offloaded tokens, the oldest first."""
        return tuple(self._places.get(cluster, ()))

    def append(self, clusters: Iterable[int]) -> list[TokenWrite]:
        """Take tokens, given by their clusters, into the ring; return what moves for each."""
        return [self._take(int(cluster)) for cluster in clusters]

    def fetch(self, clusters: Iterable[int]) -> list[ClusterRead]:
        """Return the runs that hold the offloaded tokens of clusters.

        A run ends with its cluster, or where the next place is not the following one. Staging
        slots count from 0.
        """
        runs: list[list[int]] = []
        for cluster in clusters:
            for rank, place in enumerate(self.places(int(cluster))):
                if rank and place == runs[-1][-1] + 1:
                    runs[-1].append(place)
                else:
                    runs.append([place])
        before = [sum(len(run) for run in runs[:number]) for number in range(len(runs))]
        return [
            ClusterRead(place=run[0], tokens=len(run), staging=staging)
            for run, staging in zip(runs, before, strict=True)
        ]

    def _take(self, cluster: int) -> TokenWrite:
        slot = self.layer * self.resident + self.tokens % self.resident
        self.tokens += 1
        self._ring.append(cluster)
        if len(self._ring) <= self.resident:
            return TokenWrite(slot=slot)
        place = self._next_place(self._ring.popleft())
        return TokenWrite(slot=slot, place=place, lost=place is None)

    def _next_place(self, cluster: int) -> int | None:
        """Give the cluster another place, None if there is none."""
        places = self._places[cluster]
        if len(places) % self.extent_tokens:
            place = places[-1] + 1
        elif self.used == self.extents:
            return None
        else:
            place = (self.layer * self.extents + self.used) * self.extent_tokens
            self.used += 1
        places.append(place)
        return place
