"""What only a server can do wrong; all else is in test_store.py, which runs on both."""

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.search.store import Evaluation, UnitResult, database, open_store

_UNIT = UnitResult(
    number=3, evaluated=2, feasible=1, broken=(1,), kept=np.array([7]), seconds=1.0, owner="me"
)


def _refused(url, **options):
    with pytest.raises(InputError) as caught:
        open_store(url, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "sesame" not in message
    assert message.startswith("postgresql://headrace@127.0.0.1:")
    return message


def test_url_is_shown_without_password(postgresql):
    with open_store(postgresql, create=True) as store:
        assert store.url == postgresql.replace(":open%20sesame", "")


def test_wrong_password(postgresql):
    assert "user or password refused" in _refused(postgresql.replace("sesame", "sesames"))


def test_no_such_database(postgresql):
    assert 'database "none" does not exist' in _refused(postgresql.rsplit("/", 1)[0] + "/none")


def test_server_not_reachable(postgresql):
    host, name = postgresql.rsplit(":", 1)[0], postgresql.rsplit("/", 1)[1]
    assert "cannot be reached" in _refused(f"{host}:1/{name}")


def test_password_as_parameter_is_not_shown(postgresql):
    plain = postgresql.replace(":open%20sesame", "")
    with open_store(f"{plain}?password=open%20sesame", create=True) as store:
        assert store.url == plain


def test_database_without_studies(postgresql):
    assert "holds no studies" in _refused(postgresql)


def test_tables_of_others_may_be_in_the_same_database(postgresql, spec):
    import psycopg

    with psycopg.connect(postgresql, autocommit=True) as raw:
        raw.execute("CREATE TABLE photos (name TEXT)")
        with open_store(postgresql, create=True) as store:
            store.create("s", spec)
        raw.execute("UPDATE headrace_meta SET value = '2' WHERE key = 'schema'")
        assert "newer headrace" in _refused(postgresql)
        raw.execute("DROP TABLE headrace_meta")
        raw.execute("CREATE TABLE headrace_meta (colour TEXT)")
        assert "not those of headrace" in _refused(postgresql)


def test_a_user_without_rights(postgresql):
    import psycopg

    with psycopg.connect(postgresql, autocommit=True) as raw:
        raw.execute("DROP ROLE IF EXISTS guest")
        raw.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    url = postgresql.replace("headrace:open%20sesame", "guest:guest")
    with pytest.raises(InputError, match="rights to create, read and write tables are needed"):
        open_store(url, create=True)


def test_a_connection_that_is_cut_is_one_line_and_the_next_works(postgresql, spec):
    import psycopg

    with open_store(postgresql, create=True) as store:
        study = store.create("s", spec)

        def results():  # drawn inside the transaction
            with psycopg.connect(postgresql, autocommit=True) as raw:
                query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> %s"
                raw.execute(query, [raw.info.backend_pid])
            yield _UNIT, "me", ()

        with pytest.raises(InputError) as caught:
            study.commit_all("analytic", results())
        assert "\n" not in str(caught.value)
        assert study.units("analytic") == []
        assert study.commit("analytic", 3, "me", _UNIT)


def test_a_study_that_somebody_keeps_locked(postgresql, spec, monkeypatch):
    import psycopg

    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.2)
    with open_store(postgresql, create=True) as store:
        study = store.create("s", spec)
        with psycopg.connect(postgresql) as raw:
            raw.execute("SELECT * FROM headrace_studies FOR UPDATE")
            assert study.units("analytic") == []
            with pytest.raises(InputError, match="another process has kept it locked"):
                study.claim("analytic", [0], "me")
        assert study.claim("analytic", [0], "me") == [0]


def test_a_study_that_is_deleted_meanwhile(postgresql, spec):
    import psycopg

    with open_store(postgresql, create=True) as store:
        study = store.create("s", spec)
        with psycopg.connect(postgresql, autocommit=True) as raw:
            raw.execute("DELETE FROM headrace_studies")
        with pytest.raises(InputError, match="study s: it is gone from the database"):
            study.claim("analytic", [0], "me")


def test_a_study_moves_between_both_databases(postgresql, spec, tmp_path):
    from headrace.search.transfer import Merged, merge

    point = Evaluation(
        rung="analytic", index=7, hash="ab", feasible=True, agrees=True, unit=3, owner="me",
        figures={"lut": float("inf")}, artefacts={"a": "b"},
    )  # fmt: skip
    with (
        open_store(postgresql, create=True) as server,
        open_store(str(tmp_path / "study.db"), create=True) as file,
    ):
        study = server.create("s", spec)
        study.commit("analytic", 3, "me", _UNIT, [point])
        assert merge(study, file) == Merged(units=1, evaluations=1, conflicts=0)
        assert file.open().evaluations() == [point]
        assert merge(file.open(), server, "back") == Merged(units=1, evaluations=1, conflicts=0)
        assert repr(server.open("back").units("analytic")) == repr([_UNIT])
