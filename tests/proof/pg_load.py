"""The load of the proofs in PostgreSQL: see workload.py."""

import json
import re

from workload import KEYS, LONG_KEYS, TABLES

CAPTURED = ["public.items", "public.items_full", "public.bulk"]

SCHEMA = f"""
create sequence op_ids;
create table items (
  k int primary key, ver bigint not null, op_id bigint not null, note text, big text,
  amount numeric(12,2), at timestamptz);
alter table items alter column big set storage external;
create table items_full (like items including all);
alter table items_full replica identity full;
create table bulk (id bigint primary key default nextval('op_ids'), batch bigint, note text);
create table counters (tbl text, k int, ver bigint not null, primary key (tbl, k));
create table ledger (
  seq bigserial, tbl text not null, k bigint not null, ver bigint not null, op "char" not null,
  op_id bigint not null);
insert into counters select t, k, 0
  from unnest(array{TABLES}) t, generate_series(1, {KEYS + LONG_KEYS}) k;

-- One change of one key: create it where it is missing, else update, delete or re-key it.
create function op(t text, key int, other int) returns void language plpgsql as $$
declare
  v bigint; w bigint; o bigint := nextval('op_ids'); old bigint; taken bigint;
  dice float8 := random(); is_big bool := random() < 0.03;
begin
  update counters set ver = ver + 1 where tbl = t and k = key returning ver into v;
  execute format('select op_id from %I where k = $1', t) into old using key;
  if old is null then
    execute format('insert into %I values ($1, $2, $3, $4, $5, $6, clock_timestamp())', t)
      using key, v, o, 'note "' || o || E'"\\n\\\\ \\u00e9\\U0001F600',
        case when is_big then (select string_agg(md5(i::text || o), '')
                               from generate_series(1, 160) i) end,
        (random() * 100000)::numeric(12,2);
    insert into ledger (tbl, k, ver, op, op_id) values (t, key, v, 'c', o);
  elsif dice < 0.15 then
    execute format('delete from %I where k = $1', t) using key;
    insert into ledger (tbl, k, ver, op, op_id) values (t, key, v, 'd', old);
  elsif dice < 0.25 and other <> key then
    update counters set ver = ver + 1 where tbl = t and k = other returning ver into w;
    execute format('select op_id from %I where k = $1', t) into taken using other;
    if taken is null then
      execute format('update %I set k = $1, ver = $2, op_id = $3 where k = $4', t)
        using other, w, o, key;
      insert into ledger (tbl, k, ver, op, op_id)
        values (t, key, v, 'd', old), (t, other, w, 'c', o);
    end if;
  else
    execute format('update %I set ver = $1, op_id = $2, note = $3, at = clock_timestamp()
                    where k = $4', t) using v, o, 'again ' || o, key;
    insert into ledger (tbl, k, ver, op, op_id) values (t, key, v, 'u', o);
  end if;
end $$;

-- n changes at random; of some, part is undone by a subtransaction that fails.
create function ops(t text, n int, first int, last int) returns void language plpgsql as $$
begin
  for i in 1..n loop
    begin
      perform op(t, first + (random() * (last - first))::int,
                 first + (random() * (last - first))::int);
      if random() < 0.1 then raise exception using errcode = 'P0099'; end if;
    exception when sqlstate 'P0099' then null;
    end;
  end loop;
end $$;

-- One statement that updates every row of a range of keys.
create function sweep(t text, first int, last int) returns void language plpgsql as $$
begin
  execute format('with c as (
      update counters set ver = ver + 1 where tbl = %1$L and k between $1 and $2 returning k, ver),
    u as (update %1$I i set ver = c.ver, op_id = nextval(''op_ids''), note = ''swept''
          from c where i.k = c.k returning i.k, i.ver, i.op_id)
    insert into ledger (tbl, k, ver, op, op_id) select %1$L, k, ver, ''u'', op_id from u', t)
    using first, last;
end $$;

create function many(n int, b bigint) returns void language sql as $$
  with i as (insert into bulk (batch, note) select b, 'row ' || g from generate_series(1, n) g
             returning id)
  insert into ledger (tbl, k, ver, op, op_id) select 'bulk', id, 1, 'c', id from i;
$$;

create function forget(b bigint) returns void language sql as $$
  with d as (delete from bulk where batch = b returning id)
  insert into ledger (tbl, k, ver, op, op_id) select 'bulk', id, 2, 'd', id from d;
$$;
"""

# What the load itself provokes: two sessions that lock the same keys the other way round, and what
# follows in a transaction that has failed.
EXPECTED_ERRORS = re.compile(
    r'deadlock detected|current transaction is aborted|savepoint "s" does not exist'
)
IS_ERROR = re.compile(r"(ERROR|FATAL|PANIC):")


def session(server, log=None):
    """A client of its own."""
    return server.psql(log)


def prepare(client, _biggest):
    """The tables and what changes them."""
    client.run(SCHEMA)


def seeded(number):
    """What a writer's session begins with; `number` is from 0 to 1."""
    return f"select setseed({number});"


def call(function, *arguments):
    """Runs one of the functions as a statement of an open transaction."""
    return f"select {function}({', '.join(map(repr, arguments))});"


def alone(statement):
    """A statement that is a transaction of its own."""
    return statement


def nap(seconds):
    """The session waits."""
    return f"select pg_sleep({seconds:.3f});"


def several(batch, count):
    """Rows by COPY, listed in the ledger in the same transaction."""
    rows = "".join(f"{batch}\tcopied {n}\n" for n in range(count))
    return (
        f"begin;\ncopy bulk (batch, note) from stdin;\n{rows}\\.\n"
        "insert into ledger (tbl, k, ver, op, op_id)\n"
        f"  select 'bulk', id, 1, 'c', id from bulk where batch = {batch};\ncommit;"
    )


def special(_pick, _name, _some):
    """What only this server has: nothing."""
    return None


def ledger_rows(client):
    """(table, key, operation, op_id) of every committed change, each key's in its order."""
    query = "select tbl, k, op, op_id from ledger order by tbl, k, ver, seq;"
    return [line.split("|") for line in client.run(query)]


def table_rows(client):
    """(table, key, row) of every row there is."""
    for table in TABLES:
        rows = client.run(
            "select json_build_object('k', k, 'ver', ver, 'op_id', op_id, 'note', note, "
            "'big', big, 'amount', amount::text, 'at', "
            "to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) "
            f"from {table};"
        )
        for row in map(json.loads, rows):
            yield table, row["k"], row
    bulk = "select json_build_object('id', id, 'batch', batch, 'note', note) from bulk;"
    for row in map(json.loads, client.run(bulk)):
        yield "bulk", row["id"], row
