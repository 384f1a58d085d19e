"""One study: units that are claimed, worked on and committed whole."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from headrace.errors import InputError
from headrace.search.spec import Spec
from headrace.search.store.database import Database
from headrace.search.store.records import (
    Evaluation,
    UnitResult,
    evaluation_from_row,
    evaluation_to_row,
    from_json,
    to_json,
    unit_from_row,
    unit_to_row,
)
from headrace.search.store.tables import EVALUATIONS, NOTES, STUDIES, UNITS

__all__ = ["Study", "insert"]

_CLAIM_STEP = 1024
_LONGEST_LEASE_S = 86_400.0


class Study:
    """What is stored of one study; made by `headrace.search.store.Store`.

    Parameters
    ----------
    database : Database
    row : mapping
        Its row in the table of studies.

    Raises
    ------
    InputError
        The row is damaged.
    """

    def __init__(self, database: Database, row: Mapping[str, Any]):
        self._database = database
        self._id = row["id"]
        self.name = str(row["name"])
        self.where = f"{database.url}: study {self.name}"
        self.spec = Spec.from_json(row["spec"], self.where)
        self.created = str(row["created"])
        try:
            self.versions: Mapping[str, str] = {
                str(k): str(v) for k, v in dict(from_json(row["versions"])).items()
            }
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{self.where}: its list of versions is damaged") from error

    def claim(
        self, rung: str, numbers: Sequence[int], owner: str, lease_s: float = 60, most: int = 1
    ) -> list[int]:
        """Take units that are neither done nor under a live lease of somebody else.

        Parameters
        ----------
        rung : str
        numbers : sequence of int
            Candidates, the preferred first; a range is not unrolled further than needed.
        owner : str
            Its own live claims count as free.
        lease_s : float
            How long the claim holds without `renew`; at most a day.
        most : int

        Returns
        -------
        list of int
            At most `most` numbers, in the order of `numbers`.
        """
        taken: list[int] = []
        with self._changing() as connection:
            now = self._database.now(connection)
            candidates = iter(numbers)
            while len(taken) < most and (step := list(islice(candidates, _CLAIM_STEP))):
                busy = self._busy(connection, rung, step, owner, now)
                free = (number for number in step if number not in busy)
                taken.extend(islice(free, most - len(taken)))
            if taken:
                claim = {"study": self._id, "rung": rung, "done": False, "owner": owner}
                claim["lease"] = now + min(lease_s, _LONGEST_LEASE_S)
                rows = [{**claim, "number": number} for number in taken]
                connection.execute(_put_unit(connection.dialect.name, tuple(rows[0])), rows)
        return taken

    def _busy(
        self, connection: Connection, rung: str, numbers: list[int], owner: str, now: float
    ) -> set[int]:
        c = UNITS.c
        query = sa.select(c.number).where(
            c.study == self._id,
            c.rung == rung,
            c.number.between(min(numbers), max(numbers)),
            sa.or_(c.done, sa.and_(_live(now), c.owner != owner)),
        )
        return set(connection.execute(query).scalars())

    def renew(self, rung: str, owner: str, lease_s: float = 60) -> None:
        """Extend everything that `owner` holds on `rung`, to `lease_s` from now."""
        with self._changing() as connection:
            lease = self._database.now(connection) + min(lease_s, _LONGEST_LEASE_S)
            held = self._held(owner).where(UNITS.c.rung == rung)
            connection.execute(held.values(lease=lease))

    def release(self, owner: str) -> None:
        """Give back everything that `owner` holds."""
        with self._changing() as connection:
            connection.execute(self._held(owner).values(lease=0.0))

    def owners(self) -> list[str]:
        """Return who holds units under a live lease."""
        c = UNITS.c
        with self._database.read() as connection:
            now = self._database.now(connection)
            query = sa.select(c.owner).where(c.study == self._id, c.done.is_(False), _live(now))
            return sorted(map(str, connection.execute(query.distinct()).scalars()))

    def _held(self, owner: str) -> sa.Update:
        c = UNITS.c
        return sa.update(UNITS).where(c.study == self._id, c.owner == owner, c.done.is_(False))

    def commit(
        self,
        rung: str,
        number: int,
        owner: str,
        result: UnitResult,
        evaluations: Sequence[Evaluation] = (),
    ) -> bool:
        """Store a unit with its evaluations, all of it or nothing.

        Parameters
        ----------
        rung : str
        number : int
        owner : str
        result : UnitResult
        evaluations : sequence of Evaluation
            A point that the rung has already keeps its first evaluation.

        Returns
        -------
        bool
            Whether it was stored: false if the unit was done already.
        """
        if number != result.number or any((e.rung, e.unit) != (rung, number) for e in evaluations):
            raise ValueError(f"unit {number} of {rung} does not match its result")
        return bool(self.commit_all(rung, [(result, owner, evaluations)]))

    def commit_all(
        self, rung: str, finished: Iterable[tuple[UnitResult, str, Sequence[Evaluation]]]
    ) -> list[int]:
        """Store several units, each with owner and evaluations, in one transaction.

        Returns
        -------
        list of int
            Numbers of those that were stored; what was done already is left as it is.
        """
        stored: list[int] = []
        with self._changing() as connection:
            for result, owner, evaluations in finished:
                row = {**unit_to_row(result), "study": self._id, "rung": rung, "owner": owner}
                put = _put_unit(connection.dialect.name, tuple(row))
                if connection.execute(put, row).rowcount != 1:
                    continue
                stored.append(result.number)
                rows = [
                    {"study": self._id, **evaluation_to_row(e, place)}
                    for place, e in enumerate(evaluations)
                ]
                if rows:
                    put = insert(connection.dialect.name, EVALUATIONS).on_conflict_do_nothing()
                    connection.execute(put, rows)
        return stored

    def units(self, rung: str, after: int = -1) -> list[UnitResult]:
        """Return the finished units of `rung` beyond number `after`, ascending.

        Raises
        ------
        InputError
            A row is damaged.
        """
        c = UNITS.c
        query = (
            sa.select(UNITS)
            .where(c.study == self._id, c.rung == rung, c.done, c.number > after)
            .order_by(c.number)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [unit_from_row(dict(row), self.where) for row in rows]

    def evaluations(self, rung: str | None = None) -> list[Evaluation]:
        """Return all evaluations, or those of one rung, by rung, unit and place in the unit.

        Raises
        ------
        InputError
            A row is damaged.
        """
        c = EVALUATIONS.c
        query = sa.select(EVALUATIONS).where(c.study == self._id)
        if rung is not None:
            query = query.where(c.rung == rung)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(c.unit, c.place)).mappings().all()
        found = [evaluation_from_row(dict(row), self.where) for row in rows]
        ranks = {name: i for i, name in enumerate(self.spec.fidelities)}
        return sorted(found, key=lambda e: (ranks.get(e.rung, len(ranks)), e.rung))

    def set_note(self, key: str, value: object) -> Any:
        """Store a small JSON value once; return what is stored: the first writer's."""
        row = {"study": self._id, "key": key, "value": to_json(value)}
        with self._changing() as connection:
            connection.execute(
                insert(connection.dialect.name, NOTES).on_conflict_do_nothing(), [row]
            )
        return self.note(key)

    def note(self, key: str) -> Any:
        """Return what `set_note` has stored, or None."""
        return self.notes().get(key)

    def notes(self) -> dict[str, Any]:
        """Return all notes.

        Raises
        ------
        InputError
            A row is damaged.
        """
        query = sa.select(NOTES.c.key, NOTES.c.value).where(NOTES.c.study == self._id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(NOTES.c.key)).all()
        try:
            return {str(key): from_json(value) for key, value in rows}
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where}: a note is damaged: {error}") from error

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """Yield a writing transaction in which no other writer of this study is."""
        with self._database.write() as connection:
            # SQLite has let nobody else in and ignores FOR UPDATE; PostgreSQL waits here.
            query = sa.select(STUDIES.c.id).where(STUDIES.c.id == self._id).with_for_update()
            if connection.execute(query).first() is None:
                raise InputError(f"{self.where}: it is gone from the database")
            yield connection


_UNIT_KEY = ("study", "rung", "number")


def _live(now: float) -> sa.ColumnElement[bool]:
    """Return the condition for a lease that holds: one far ahead is a clock that has jumped."""
    return UNITS.c.lease.between(now, now + _LONGEST_LEASE_S)


def insert(dialect: str, table: sa.Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, which both databases spell alike."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


@cache  # to build it takes longer than to run it
def _put_unit(dialect: str, columns: tuple[str, ...]) -> Any:
    """Return the statement that writes rows with these columns over claims, not results."""
    statement = insert(dialect, UNITS)
    return statement.on_conflict_do_update(
        index_elements=_UNIT_KEY,
        set_={name: statement.excluded[name] for name in columns if name not in _UNIT_KEY},
        where=UNITS.c.done.is_(False),
    ).execution_options(preserve_rowcount=True)
