"""Opening one of the small files that stand beside the shards in a spool folder; what each is stands in its own module.

Blocking.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw

from mcmt.spool.folder import create_file, prepare_folder
from mcmt.spool.schema import check_sqlite, configure, prepare, unusable


class StoreFile(NamedTuple):
    """What a file is."""

    name: str
    application: int
    """SQLite's application_id."""
    version: int
    tables: str
    cache: int
    """Of SQLite's cache_size."""

    def open(self, folder: Path, finish: Callable[[apsw.Connection], object] = lambda _: None) -> apsw.Connection:
        """The file in a spool folder, made if there is none. *finish*: what else is done with it before it is used.

        Raises SpoolUnusable.
        """
        check_sqlite()
        prepare_folder(folder)
        path = folder / self.name
        create_file(path)
        try:
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            configure(connection, self.cache)
            prepare(connection, path, self.application, self.version, self.tables)
            finish(connection)
        except apsw.Error as error:
            raise unusable(path, error) from error
        return connection
