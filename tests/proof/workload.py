"""The load of the proofs: writers whose every committed change is listed in a ledger.

Every captured row carries `ver`, a counter of its key that only a holder of the key's lock raises,
and `op_id`, unique for ever. The ledger is written in the transaction that it lists, so that after
the run it holds exactly what was committed, whatever became of a session.
"""

import json
import random
import re
import threading
import time

KEYS = 400
"""Keys that any transaction may touch; those above are for long transactions alone."""
LONG_KEYS = 40
LARGE_EVERY_S = 4
TABLES = ["items", "items_full"]
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


class Writer(threading.Thread):
    """A session that runs transactions at random until it is told to stop."""

    def __init__(self, postgres, number, seed, folder, pause, big):
        super().__init__(daemon=True)
        self.random = random.Random(f"{seed}/{number}")
        self.number = number
        self.pause = pause
        self.big = big
        self.next_large = time.monotonic() + 1
        self.batch = number * 1_000_000
        self.batches = []
        self.log = folder / f"writer-{number}.log"
        self.psql = postgres.psql(log=self.log)
        self.is_over = threading.Event()
        self.failure = None
        self.transactions = 0

    def run(self):
        try:
            self.psql.run(f"select setseed({self.random.random()});")
            while not self.is_over.is_set():
                if self.big and time.monotonic() >= self.next_large:
                    self.psql.run(self.large())
                    self.next_large = time.monotonic() + LARGE_EVERY_S
                else:
                    self.psql.run(self.transaction())
                self.transactions += 1
                self.is_over.wait(self.random.random() * 2 * self.pause)
            self.psql.close()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def transaction(self):
        """One transaction's statements."""
        pick = self.random
        table = pick.choice(TABLES)
        kind = pick.random()
        some = f"select ops('{table}', {pick.randint(1, 12)}, 1, {KEYS});"
        if kind < 0.30:
            return f"select ops('{table}', 1, 1, {KEYS});"
        if kind < 0.60:
            return f"begin; {some} commit;"
        if kind < 0.68:
            return f"begin; {some} rollback;"
        if kind < 0.76:
            return f"begin; {some} savepoint s; {some} rollback to s; {some} commit;"
        if kind < 0.84:
            first = pick.randint(1, KEYS - 30)
            return f"select sweep('{table}', {first}, {first + pick.randint(1, 30)});"
        if kind < 0.90:
            return self.copy()
        if kind < 0.95:
            first = KEYS + 1 + self.number % 8 * 5
            long = f"select ops('{table}', 3, {first}, {first + 4});"
            wait = f"select pg_sleep({pick.random() * 0.4:.3f});"
            return f"begin; {long} {wait} {some} {long} commit;"
        if self.batches and pick.random() < 0.5:
            return f"select forget({self.batches.pop(0)});"
        return f"select many({pick.randint(2, 100)}, {self.next_batch()});"

    def large(self):
        """A transaction of many rows, now and then given up at its end."""
        end = "rollback" if self.random.random() < 0.2 else "commit"
        some = f"select ops('items', 5, 1, {KEYS});"
        return f"begin; select many({self.big}, {self.next_batch()}); {some} {end};"

    def copy(self):
        """Rows by COPY, listed in the ledger in the same transaction."""
        batch = self.next_batch()
        rows = "".join(f"{batch}\tcopied {n}\n" for n in range(self.random.randint(2, 60)))
        return (
            f"begin;\ncopy bulk (batch, note) from stdin;\n{rows}\\.\n"
            "insert into ledger (tbl, k, ver, op, op_id)\n"
            f"  select 'bulk', id, 1, 'c', id from bulk where batch = {batch};\ncommit;"
        )

    def next_batch(self):
        """A number for rows that come and go together."""
        self.batch += 1
        self.batches.append(self.batch)
        return self.batch

    def stop(self):
        """Ends after the transaction of now; gives what went wrong beyond the expected."""
        self.is_over.set()
        self.join(60)
        wrong = [f"{self.failure}"] if self.failure else []
        for line in self.log.read_text(errors="replace").splitlines():
            if re.search(r"(ERROR|FATAL|PANIC):", line) and not EXPECTED_ERRORS.search(line):
                wrong.append(line)
        return wrong


class Load:
    """Several writers at once."""

    def __init__(self, postgres, seed, folder, writers=4, pause=0.02, big=20_000):
        self.writers = [
            Writer(postgres, number, seed, folder, pause, big if number == 0 else 0)
            for number in range(writers)
        ]
        self.began = time.monotonic()
        for writer in self.writers:
            writer.start()

    def check(self):
        """Raises when a writer has failed: then the proof would prove less than it says."""
        for writer in self.writers:
            if writer.failure:
                raise RuntimeError(f"writer {writer.number}: {writer.failure}")

    def stop(self):
        """Ends all of them; gives the number of transactions."""
        for writer in self.writers:
            writer.is_over.set()
        wrong = [line for writer in self.writers for line in writer.stop()]
        if wrong:
            raise RuntimeError("the load itself went wrong:\n" + "\n".join(wrong[:10]))
        return sum(writer.transactions for writer in self.writers)


def truth(psql):
    """What was committed: changes in the order of each key, and the tables as they are now."""
    ledger = {}
    for line in psql.run("select tbl, k, op, op_id from ledger order by tbl, k, ver, seq;"):
        table, key, op, op_id = line.split("|")
        ledger.setdefault((table, int(key)), []).append((op, int(op_id)))
    state = {}
    for table in TABLES:
        rows = psql.run(
            "select json_build_object('k', k, 'ver', ver, 'op_id', op_id, 'note', note, "
            "'big', big, 'amount', amount::text, 'at', "
            "to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')) "
            f"from {table};"
        )
        for row in map(json.loads, rows):
            state[(table, row["k"])] = row
    bulk = "select json_build_object('id', id, 'batch', batch, 'note', note) from bulk;"
    for row in map(json.loads, psql.run(bulk)):
        state[("bulk", row["id"])] = row
    return ledger, state
