"""A database of studies: opened, checked, and never trusted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from headrace.errors import InputError
from headrace.search.spec import Spec
from headrace.search.store.database import Database, connect
from headrace.search.store.records import StudyInfo, to_json
from headrace.search.store.study import Study, insert
from headrace.search.store.tables import (
    APPLICATION,
    EVALUATIONS,
    META,
    METADATA,
    SCHEMA,
    STUDIES,
    UNITS,
)
from headrace.search.store.versions import tool_versions

__all__ = ["Store", "open_store"]

_CREATION_LOCK = 0x68656164  # any number will do, as long as all processes take the same
_MOST_NAME = 200


def open_store(where: str, *, create: bool = False) -> "Store":
    """Open a database of studies.

    Parameters
    ----------
    where : str
        A path (``study.db``), ``sqlite:///path``, ``sqlite://`` (in memory) or
        ``postgresql://user:password@host:port/name``.
    create : bool
        Whether a file that is missing, or a database without our tables, is set up.

    Returns
    -------
    Store
        Also a context manager.

    Raises
    ------
    InputError
        It cannot be reached, read or set up, is damaged, or belongs to something else.
    """
    database = connect(where, create=create)
    try:
        with database.read() as connection:
            ready = _check(database, connection)
        if not ready and not create:
            raise InputError(f"{database.url}: it holds no studies")
        if not ready:
            _set_up(database)
    except BaseException:
        database.close()
        raise
    return Store(database)


class Store:
    """An open database of studies, see `open_store`."""

    def __init__(self, database: Database):
        self._database = database
        self.url = database.url

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close(tidy=True)

    def studies(self) -> list[StudyInfo]:
        """Return what is stored, the oldest first.

        Raises
        ------
        InputError
            A row is damaged.
        """
        done = UNITS.c.done
        units = sa.select(UNITS.c.study, sa.func.count()).where(done).group_by(UNITS.c.study)
        points = EVALUATIONS.c.study
        evaluations = sa.select(points, sa.func.count()).group_by(points)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(STUDIES).order_by(STUDIES.c.id)).mappings().all()
            finished = {study: count for study, count in connection.execute(units)}
            evaluated = {study: count for study, count in connection.execute(evaluations)}
        found = []
        for row in rows:
            study = Study(self._database, dict(row))
            found.append(
                StudyInfo(
                    name=study.name,
                    created=study.created,
                    spec=study.spec,
                    units=finished.get(row["id"], 0),
                    evaluations=evaluated.get(row["id"], 0),
                )
            )
        return found

    def create(self, name: str, spec: Spec) -> Study:
        """Begin a study, or open the one that has the same name and specification.

        Raises
        ------
        InputError
            The name is not acceptable, or belongs to a study with another specification.
        """
        if not name.isprintable() or not 1 <= len(name) <= _MOST_NAME or name != name.strip():
            raise InputError(
                f"study name {name!r} is not allowed: 1 to {_MOST_NAME} printable characters"
            )
        row = {
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "spec": spec.to_json(),
            "versions": to_json(tool_versions()),
        }
        with self._database.write() as connection:
            connection.execute(
                insert(connection.dialect.name, STUDIES).on_conflict_do_nothing(), [row]
            )
        study = self.open(name)
        if study.spec.to_json() != row["spec"]:
            differences = "; ".join(study.spec.differences(spec)[:3])
            raise InputError(
                f"{study.where} has another specification: {differences}; take another name"
            )
        return study

    def open(self, name: str | None = None) -> Study:
        """Open a study; without a name the only one.

        Raises
        ------
        InputError
            No such study, several to choose from, or a damaged row.
        """
        query = sa.select(STUDIES).order_by(STUDIES.c.id)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        names = ", ".join(str(row["name"]) for row in rows[:10]) or "none yet"
        fitting = [row for row in rows if name in (None, row["name"])]
        if name is not None and not fitting:
            raise InputError(f"{self.url}: no study {name!r}; there is {names}")
        if len(fitting) != 1:
            raise InputError(f"{self.url}: which study? A name is needed, one of: {names}")
        return Study(self._database, fitting[0])


def _set_up(database: Database) -> None:
    with database.write() as connection:
        if not database.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
        if _check(database, connection):
            return  # another process was faster
        METADATA.create_all(connection)
        meta = {"application": APPLICATION, "schema": str(SCHEMA)}
        rows = [{"key": key, "value": value} for key, value in meta.items()]
        connection.execute(sa.insert(META), rows)


def _check(database: Database, connection: Connection) -> bool:
    """Return whether our tables are there; refuse a database that is not ours to use."""
    where = database.url
    if database.sqlite and not _check_schema(connection, where):
        return False
    if not sa.inspect(connection).has_table(META.name):
        return False
    rows = connection.execute(sa.select(META.c.key, META.c.value)).all()
    meta: Mapping[Any, Any] = {key: value for key, value in rows}
    if meta.get("application") != APPLICATION:
        raise InputError(f"{where}: it belongs to another application")
    schema = str(meta.get("schema"))
    if schema.isdecimal() and int(schema[:9]) > SCHEMA:
        raise InputError(
            f"{where}: written by a newer headrace (schema {schema[:9]}, this one reads "
            f"{SCHEMA}): update headrace"
        )
    if schema != str(SCHEMA):
        raise InputError(f"{where}: the database is damaged: schema {schema[:20]!r}")
    return True


def _check_schema(connection: Connection, where: str) -> bool:
    """Return whether a SQLite file has tables; they must be ours and nothing but tables.

    A view or a trigger in a hostile file would run with our queries.
    """
    query = "SELECT type, name, sql FROM sqlite_master"
    found = connection.exec_driver_sql(query).all()
    if not found:
        return False
    names = {name for kind, name, _ in found if kind == "table"}
    if not names & set(METADATA.tables):
        raise InputError(f"{where}: it belongs to another application")
    ours = {*METADATA.tables}
    for kind, name, sql in found:
        table = kind == "table" and name in ours and str(sql).startswith(f"CREATE TABLE {name} ")
        index = kind == "index" and sql is None and str(name).startswith("sqlite_autoindex_")
        if not table and not index and not str(name).startswith("sqlite_stat"):
            raise InputError(f"{where}: it holds {kind} {name!r}, which headrace did not write")
    if missing := ours - names:
        raise InputError(f"{where}: the database is damaged: {min(missing)} is missing")
    return True
