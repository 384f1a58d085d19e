"""Databases for the tests of studies."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from headrace.search.spec import Spec
from headrace.sim.workload import Workload

PASSWORD = "open sesame"


@pytest.fixture
def spec():
    """A specification; stores do not care whether there is such a network."""
    return Spec(
        design="tellme",
        device="kv260",
        network="tiny-bitnet",
        network_hash="0" * 64,
        workload=Workload(),
        objective="max decode_tok_per_s, min lut",
        strategy="nsga2",
        samples=1000,
        fixed={"tl_tables": (8, 16)},
        fidelities=("analytic", "cycle"),
        budgets={"cycle": 16},
    )


def _tools() -> Path:
    """Return the folder of initdb and pg_ctl."""
    places = [Path(found).parent] if (found := shutil.which("initdb")) else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    pytest.skip("PostgreSQL is not installed: neither in PATH nor in /usr/lib/postgresql")


def _account() -> dict[str, object]:
    """Return whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no other account to run it")


@pytest.fixture(scope="session")
def postgresql_server():
    """Yield the URL of a private server, without a database."""
    pytest.importorskip("psycopg")
    tools, account = _tools(), _account()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not below pytest's own folder, which only its user may enter.
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgresql-"))
    (folder / "password").write_text(PASSWORD)
    if account:
        for path in (folder, folder / "password"):
            os.chown(path, account["user"], account["group"])
    settings = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"

    def run(tool, *words):
        command = [str(tools / tool), "-D", str(folder / "data"), *words]
        done = subprocess.run(
            command,
            cwd=folder,
            timeout=60,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account,
        )
        return done.returncode == 0

    try:
        made = run("initdb", "-U", "headrace", "-A", "scram-sha-256", "--no-sync",
                   f"--pwfile={folder / 'password'}")  # fmt: skip
        if not made or not run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start"):
            pytest.skip("PostgreSQL is installed, but a private server does not start here")
        yield f"postgresql://headrace:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}"
        run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server):
    """Return the URL of an empty database on the private server."""
    import psycopg

    url = f"{postgresql_server}/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """Return where an empty study database may be made, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "study.db")
    return request.getfixturevalue("postgresql")
