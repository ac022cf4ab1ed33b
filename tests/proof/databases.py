"""The server that the kill loop writes to: PostgreSQL, MySQL or MariaDB, behind one set of names."""

import os

import my_load
import pg_load
from kit import Mysql, Postgres, behind_gtids, connector, die, lsn


class PostgresDatabase:
    """A PostgreSQL of the version PG (18)."""

    sql = pg_load
    topics = "public."

    def __init__(self, folder):
        self.version = os.environ.get("PG", "18")
        # Deadlocks of the load are part of it, but must not hold it up.
        settings = ["deadlock_timeout=20ms", "max_wal_size=4GB"]
        self.server = Postgres(folder / "postgres", self.version, settings)
        self.client = self.server.psql()

    def connector(self, name, sink):
        """The connector's section."""
        return connector(self.server.url_by("tcp"), name, name, pg_load.CAPTURED, sink)

    def end(self):
        """What a saved position passes once all is delivered that is committed now. Where nothing is
        left to deliver, the position follows the server's log by itself.
        """
        return lsn(self.client.one("select pg_current_wal_insert_lsn()"))

    def told(self):
        """What the server was told to be done with."""
        return lsn(self.client.one("select confirmed_flush_lsn from pg_replication_slots"))

    @staticmethod
    def moved(before, after):
        """How far a position moved, in words."""
        return f"+{(after - before) >> 10} KiB of log"

    def close(self):
        """Ends it."""
        self.client.close()
        self.server.stop()


class MysqlDatabase:
    """A MySQL or MariaDB."""

    sql = my_load
    topics = "proof."

    def __init__(self, folder, flavor):
        # Statements of a transaction see what is committed, and deadlocks undo all of it; the log is
        # cut into several files.
        settings = ["binlog_row_metadata=FULL", "transaction_isolation=READ-COMMITTED",
                    "innodb_rollback_on_timeout=ON", "max_binlog_size=16M",
                    # Sessions log in their own way; what they leave out must not be promised.
                    "binlog_row_image=MINIMAL"]
        if flavor == "mariadb":
            settings += ["log_bin_compress=ON"]
        self.flavor = flavor
        self.server = Mysql(folder / flavor, flavor, settings)
        self.client = self.server.session()

    def connector(self, _name, sink):
        """The connector's section."""
        source = {"type": "mysql", "url": self.server.url, "tables": {"include": my_load.CAPTURED}}
        return {"source": source, "snapshot": "never", "sink": sink}

    def end(self):
        """What a saved position passes once all is delivered that is committed now."""
        variable = "gtid_executed" if self.flavor == "mysql" else "gtid_binlog_pos"
        return behind_gtids(self.client.one(f"select @@global.{variable}"))

    @staticmethod
    def told():
        """What the server was told to be done with: it keeps no such thing."""
        return 0

    @staticmethod
    def moved(before, after):
        """How far a position moved, in words."""
        return f"+{after - before} transactions"

    def close(self):
        """Ends it."""
        self.client.close()
        self.server.stop()


def chosen():
    """The class of DB (postgres), as a function of the folder."""
    name = os.environ.get("DB") or "postgres"
    if name == "postgres":
        return PostgresDatabase
    if name in ("mysql", "mariadb"):
        return lambda folder: MysqlDatabase(folder, name)
    return die(f"DB is postgres, mysql or mariadb, not {name}")
