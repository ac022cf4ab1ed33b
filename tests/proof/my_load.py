"""The load of the proofs in MySQL and MariaDB: see workload.py.

Nothing here commits by itself (`autocommit` is off), so that what follows in a transaction that failed
is again in one.
"""

import json
import re

from workload import KEYS, LONG_KEYS, TABLES

CAPTURED = ["proof.items", "proof.items_full", "proof.bulk"]

TABLES_SQL = """
create database proof character set utf8mb4;
use proof;
create table items (
  k int primary key, ver bigint not null, op_id bigint unsigned not null, note text, big text,
  amount decimal(12,2), at timestamp(6) null);
create table items_full like items;
create table bulk (
  id bigint unsigned primary key, batch bigint, note varchar(200), index (batch));
create table counters (tbl varchar(20), k int, ver bigint not null, primary key (tbl, k));
create table ledger (
  seq bigint auto_increment primary key, tbl varchar(20) not null, k bigint unsigned not null,
  ver bigint not null, op char(1) not null, op_id bigint unsigned not null);
create table numbers (n int primary key);
"""

BY_TABLE = """
-- One change of one key: create it where it is missing, else update, delete or re-key it.
create procedure op_{t}(one int, other int)
begin
  declare v, w, old, taken bigint;
  declare o bigint unsigned default uuid_short();
  declare dice double default rand();
  declare is_big bool default rand() < 0.03;
  update counters set ver = ver + 1 where tbl = '{t}' and k = one;
  select ver into v from counters where tbl = '{t}' and k = one;
  select max(op_id) into old from {t} where k = one;
  if old is null then
    insert into {t} values (one, v, o, concat('note "', o, '"\\n\\\\ é😀'),
      if(is_big, repeat(sha2(o, 256), 80), null), rand() * 100000, sysdate(6));
    insert into ledger (tbl, k, ver, op, op_id) values ('{t}', one, v, 'c', o);
  elseif dice < 0.15 then
    delete from {t} where k = one;
    insert into ledger (tbl, k, ver, op, op_id) values ('{t}', one, v, 'd', old);
  elseif dice < 0.25 and other <> one then
    update counters set ver = ver + 1 where tbl = '{t}' and k = other;
    select ver into w from counters where tbl = '{t}' and k = other;
    select max(op_id) into taken from {t} where k = other;
    if taken is null then
      update {t} set k = other, ver = w, op_id = o where k = one;
      insert into ledger (tbl, k, ver, op, op_id)
        values ('{t}', one, v, 'd', old), ('{t}', other, w, 'c', o);
    end if;
  else
    update {t} set ver = v, op_id = o, note = concat('again ', o), at = sysdate(6) where k = one;
    insert into ledger (tbl, k, ver, op, op_id) values ('{t}', one, v, 'u', o);
  end if;
end //

-- One statement that updates every row of a range of keys.
create procedure sweep_{t}(low int, high int)
begin
  update counters set ver = ver + 1 where tbl = '{t}' and k between low and high;
  update {t} i join counters c on c.tbl = '{t}' and c.k = i.k
    set i.ver = c.ver, i.op_id = uuid_short(), i.note = 'swept' where i.k between low and high;
  insert into ledger (tbl, k, ver, op, op_id)
    select '{t}', k, ver, 'u', op_id from {t} where k between low and high;
end //
"""

PROCEDURES = """
-- n changes at random; of some, part is undone by a savepoint.
create procedure ops(t varchar(20), n int, low int, high int)
begin
  declare i int default 0;
  declare one, other int;
  while i < n do
    savepoint part;
    set one = low + floor(rand() * (high - low + 1)), other = low + floor(rand() * (high - low + 1));
    if t = 'items' then call op_items(one, other); else call op_items_full(one, other); end if;
    if rand() < 0.1 then rollback to part; end if;
    set i = i + 1;
  end while;
end //

create procedure sweep(t varchar(20), low int, high int)
begin
  if t = 'items' then call sweep_items(low, high); else call sweep_items_full(low, high); end if;
end //

create procedure many(count int, b bigint)
begin
  insert into bulk select uuid_short(), b, concat('row ', n) from numbers where n <= count;
  insert into ledger (tbl, k, ver, op, op_id) select 'bulk', id, 1, 'c', id from bulk where batch = b;
end //

create procedure forget(b bigint)
begin
  insert into ledger (tbl, k, ver, op, op_id) select 'bulk', id, 2, 'd', id from bulk where batch = b;
  delete from bulk where batch = b;
end //
"""

# What the load itself provokes: two sessions that lock the same keys the other way round (1213, and
# 1614 in XA transactions), a savepoint that went with the transaction, and the end of an XA transaction
# that is over (1397, 1399, on MariaDB 1400).
EXPECTED_ERRORS = re.compile(r"ERROR (1213|1614|1397|1399|1400) |SAVEPOINT s does not exist")
IS_ERROR = re.compile(r"^ERROR ")


def session(server, log=None):
    """A client of its own."""
    return server.session(log)


def prepare(client, biggest):
    """The tables and what changes them; no transaction has more rows than `biggest`."""
    tables = "".join(BY_TABLE.replace("{t}", table) for table in TABLES)
    counters = ", ".join(
        f"('{table}', {k}, 0)" for table in TABLES for k in range(1, KEYS + LONG_KEYS + 1))
    client.run(f"{TABLES_SQL}\ndelimiter //\n{tables}{PROCEDURES}\ndelimiter ;\n"
               f"insert into counters values {counters};")
    for first in range(1, max(biggest, 100) + 1, 5000):
        numbers = range(first, min(first + 5000, max(biggest, 100) + 1))
        client.run(f"insert into numbers values {', '.join(f'({n})' for n in numbers)};")


def seeded(number):
    """What a writer's session begins with; `number` is from 0 to 1. Each logs in its own way."""
    low = int(number * 2**30)
    image = ["full", "full", "minimal", "noblob"][low % 4]
    packed = low // 4 % 2
    return (f"use proof; set autocommit = 0, rand_seed1 = {low}, rand_seed2 = {low * 40503 % 2**30};"
            f" set binlog_row_image = {image};"
            f" /*!80020 set binlog_transaction_compression = {packed} */;")


def call(function, *arguments):
    """Runs one of the procedures as a statement of an open transaction."""
    return f"call {function}({', '.join(map(repr, arguments))});"


def alone(statement):
    """A statement that is a transaction of its own."""
    return f"{statement} commit;"


def nap(seconds):
    """The session waits."""
    return f"do sleep({seconds:.3f});"


def several(batch, count):
    """Rows by one statement, listed in the ledger in the same transaction."""
    rows = ", ".join(f"(uuid_short(), {batch}, 'given {n}')" for n in range(count))
    return (
        f"begin; insert into bulk values {rows};"
        " insert into ledger (tbl, k, ver, op, op_id)"
        f" select 'bulk', id, 1, 'c', id from bulk where batch = {batch}; commit;"
    )


def special(pick, name, some):
    """What only these servers have: now and then an XA transaction."""
    if pick.random() > 0.08:
        return None
    xid = f"'{name}'"
    begun = f"commit; xa start {xid}; {some} xa end {xid};"
    # The last statement ends what a deadlock left open.
    if pick.random() < 0.2:
        return f"{begun} xa commit {xid} one phase; xa rollback {xid};"
    end = "rollback" if pick.random() < 0.25 else "commit"
    return f"{begun} xa prepare {xid}; {nap(pick.random() * 0.5)} xa {end} {xid}; xa rollback {xid};"


def ledger_rows(client):
    """(table, key, operation, op_id) of every committed change, each key's in its order."""
    query = "select tbl, k, op, op_id from proof.ledger order by tbl, k, ver, seq;"
    return [line.split("\t") for line in client.run(query)]


def table_rows(client):
    """(table, key, row) of every row there is."""
    for table in TABLES:
        rows = client.run(
            "set time_zone = '+00:00'; select json_object('k', k, 'ver', ver, 'op_id', op_id,"
            " 'note', note, 'big', big, 'amount', cast(amount as char),"
            f" 'at', date_format(at, '%Y-%m-%dT%H:%i:%s.%fZ')) from proof.{table};"
        )
        for row in map(json.loads, rows):
            yield table, row["k"], row
    bulk = "select json_object('id', id, 'batch', batch, 'note', note) from proof.bulk;"
    for row in map(json.loads, client.run(bulk)):
        yield "bulk", row["id"], row
