"""Tables of a study database, the same on SQLite and PostgreSQL."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

__all__ = ["APPLICATION", "EVALUATIONS", "META", "METADATA", "NOTES", "SCHEMA", "STUDIES", "UNITS"]

APPLICATION = "headrace study database"
SCHEMA = 1
"""Raised whenever an older headrace could not read what a newer one has written."""

METADATA = MetaData()

META = Table(
    "headrace_meta",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

STUDIES = Table(
    "headrace_studies",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("versions", Text, nullable=False),
)


def _study() -> Column[int]:
    return Column("study", Integer, ForeignKey(STUDIES.c.id), primary_key=True)


# A row is a claim (`done` false, `lease` in seconds since 1970) or a result, never half of one.
UNITS = Table(
    "headrace_units",
    METADATA,
    _study(),
    Column("rung", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("done", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease", Double),
    Column("evaluated", BigInteger),
    Column("feasible", BigInteger),
    Column("broken", Text),
    Column("kept_count", BigInteger),
    Column("kept", LargeBinary),
    Column("seconds", Double),
)

EVALUATIONS = Table(
    "headrace_evaluations",
    METADATA,
    _study(),
    Column("rung", Text, primary_key=True),
    Column("point", BigInteger, primary_key=True, autoincrement=False),
    Column("unit", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    Column("feasible", Boolean, nullable=False),
    Column("agrees", Boolean, nullable=False),
    Column("figures", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("artefacts", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
)

NOTES = Table(
    "headrace_notes",
    METADATA,
    _study(),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
