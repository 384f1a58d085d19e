"""Studies in a database: SQLite in one file, or PostgreSQL by URL."""

from headrace.search.store.records import Evaluation, StudyInfo, UnitResult
from headrace.search.store.store import Store, open_store
from headrace.search.store.study import Study

__all__ = ["Evaluation", "Store", "Study", "StudyInfo", "UnitResult", "open_store"]
