"""A connection to SQLite or PostgreSQL whose every failure is one clear line."""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from headrace.errors import InputError

__all__ = ["LOCK_TIMEOUT_S", "Database", "connect"]

LOCK_TIMEOUT_S = 30.0
"""How long to wait for another process to finish its transaction."""

_HEADER = b"SQLite format 3\0"
_MOST_BYTES = 1 << 28
_SECRETS = ("password", "passfile", "sslpassword")

_BUSY = "another process has kept it locked for too long: try again when that one is done"
_FULL = "the disk is full: nothing of this step was stored; make room and go on"
_READ_ONLY = "it cannot be written: the file, its folder or its disk is read-only"
_DAMAGED = "the database is damaged: go on with a copy, or begin a new study in another file"
_REFUSED = "user or password refused"
_RIGHTS = "this user may not do that: rights to create, read and write tables are needed"
# By the beginning of SQLite's error name or of PostgreSQL's SQLSTATE.
_REASONS = (
    ("SQLITE_BUSY", _BUSY),
    ("SQLITE_LOCKED", _BUSY),
    ("SQLITE_FULL", _FULL),
    ("SQLITE_READONLY", _READ_ONLY),
    ("SQLITE_PERM", _READ_ONLY),
    ("SQLITE_NOTADB", "it is not a SQLite database"),
    ("SQLITE_CORRUPT", _DAMAGED),
    ("SQLITE_TOOBIG", _DAMAGED),
    ("SQLITE_MISMATCH", _DAMAGED),
    ("SQLITE_ERROR", _DAMAGED),
    ("SQLITE_IOERR", "reading or writing failed: check the disk, quotas and file size limits"),
    ("SQLITE_CANTOPEN", "it cannot be opened: check that file and folder may be read and written"),
    ("28", _REFUSED),
    ("3D000", "the server has no such database: create it first (createdb)"),
    ("3F000", _RIGHTS),
    ("42501", _RIGHTS),
    ("42", "its tables are not those of headrace: give it a database of its own"),
    ("25006", "the server is read-only"),
    ("53100", _FULL),
    ("53", "the server has no connection or memory left: try again later"),
    ("55P03", _BUSY),
    ("40", _BUSY),
    ("57", "the server is going down: go on when it is back"),
)


class Database:
    """Transactions on one database; safe to share between threads.

    Parameters
    ----------
    engine : Engine
    url : str
        For messages: without password.
    """

    def __init__(self, engine: Engine, url: str):
        self.url = url
        self.sqlite = engine.dialect.name == "sqlite"
        self._engine = engine
        self._writer = engine.execution_options(headrace_write=True)
        self._lock = threading.Lock()
        driver: Any = engine.dialect.loaded_dbapi
        # A damaged file may hold names that are no UTF-8, which sqlite3 fails to put in words.
        self._errors = (SQLAlchemyError, driver.Error, UnicodeDecodeError)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that sees one state of the database."""
        with self._transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is stored whole, or not at all.

        On SQLite no other writer is let in from the start; on PostgreSQL the caller locks the
        row of the study.
        """
        with self._transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with self._lock, engine.begin() as connection:
                yield connection
        except self._errors as error:
            raise InputError(f"{self.url}: {_reason(error)}") from error

    def now(self, connection: Connection) -> float:
        """Return the time that leases are measured with: the server's, where there is one."""
        if self.sqlite:
            return time.time()
        clock = sa.func.extract("epoch", sa.func.clock_timestamp())
        return float(connection.execute(sa.select(clock)).scalar_one())

    def close(self, *, tidy: bool = False) -> None:
        """Close all connections; with `tidy`, a SQLite study is then one plain file again.

        Else a file that has been in use keeps asking for files beside it, which a read-only
        folder refuses. SQLite does not allow it while others use the file.
        """
        if tidy and self.sqlite:
            with suppress(*self._errors), self._lock, self._engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA busy_timeout=0")
                if raw.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                    raw.execute("PRAGMA journal_mode=DELETE")
        self._engine.dispose()


def connect(where: str, *, create: bool = False) -> Database:
    """Prepare a connection; nothing is read yet.

    Parameters
    ----------
    where : str
        A path, ``sqlite:///path``, ``sqlite://`` (in memory) or ``postgresql://...``.
    create : bool
        Whether a file that is missing may be made.

    Raises
    ------
    InputError
        No such place, or nothing that could be a database.
    """
    if not where.isprintable() or not where:
        raise InputError(f"database {where!r} is not allowed: a path or a URL needed")
    if "://" not in where:
        return _open_file(where, create)
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise InputError(
            "the database URL is not allowed: sqlite:///path or "
            "postgresql://user:password@host:port/name needed"
        ) from error
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):
            return _open_memory()
        return _open_file(str(url.database), create, dict(url.query))
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return _open_server(url)
    raise InputError(
        f"database {url.drivername!r} is not allowed: sqlite or postgresql needed, as in "
        "sqlite:///path or postgresql://user:password@host:port/name"
    )


def _open_file(name: str, create: bool, query: dict[str, Any] | None = None) -> Database:
    query = query or {}
    if set(query) - {"mode"} or query.get("mode", "rw") not in ("ro", "rw"):
        raise InputError(f"{name}: only mode=ro or mode=rw may follow a SQLite path")
    exists = _check_file(Path(name), create)
    mode = query.get("mode", "rw" if exists or not create else "rwc")
    target = URL.create(
        "sqlite",
        database="file:" + quote(os.path.abspath(name)),
        query={"mode": mode, "uri": "true"},
    )
    engine = sa.create_engine(target, poolclass=QueuePool, connect_args={"timeout": LOCK_TIMEOUT_S})
    _prepare_sqlite(engine)
    return Database(engine, name)


def _check_file(path: Path, create: bool) -> bool:
    """Return whether `path` exists; refuse what cannot be a database without opening a pipe."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if not path.absolute().parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.absolute().parent}") from None
        if not create:
            raise InputError(f"{path}: no such file, a study database is needed") from None
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)!r} cannot be opened: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError(f"{path}: it is {kind}, a study database is needed")
    if status.st_size == 0:  # what SQLite leaves if it is killed before the first transaction
        if not create:
            raise InputError(f"{path}: it is empty, a study database is needed")
        return True
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if header != _HEADER:
        raise InputError(f"{path}: it is not a SQLite database, a study database is needed")
    return True


def _open_memory() -> Database:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    _prepare_sqlite(engine)
    return Database(engine, "sqlite://")


def _open_server(url: URL) -> Database:
    query = {key: value for key, value in url.query.items() if key not in _SECRETS}
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={} if "connect_timeout" in url.query else {"connect_timeout": 10},
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
        )
    except ModuleNotFoundError as error:
        raise InputError("PostgreSQL needs psycopg: pip install 'headrace[postgresql]'") from error

    @event.listens_for(engine, "connect")
    def limit_waiting(connection: Any, record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}")
        connection.commit()

    return Database(engine, shown.render_as_string())


def _prepare_sqlite(engine: Engine) -> None:
    """Take transactions into our own hands and trust nothing that a file's schema asks for."""

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:
        connection.isolation_level = None  # no BEGIN behind our back
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("headrace_write"):
            connection.exec_driver_sql("BEGIN")
            return
        if not connection.info.get("wal"):
            # Refused where another process is reading at this instant: then the journal stays
            # as it is, which is as safe, and the next transaction tries again.
            with suppress(DBAPIError):
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.info["wal"] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _reason(error: BaseException) -> str:
    """Return why a driver failed, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return _DAMAGED
    origin: Any = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None) or ""
    for prefix, reason in _REASONS:
        if code.startswith(prefix):
            return reason
    text = " ".join(str(origin).split())[:300]
    if "password authentication failed" in text or "no password supplied" in text:
        return _REFUSED
    if isinstance(origin, sqlite3.Error):  # no code: the driver itself could not read a value
        return _DAMAGED
    return f"the database cannot be reached: {text}"
