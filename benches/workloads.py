"""What is written before each measurement: tables, and the load as one script of SQL."""

from dataclasses import dataclass

NARROW = """
create table narrow (id bigint primary key, customer int not null, amount numeric(12,2) not null,
  status text not null, note text, created_at timestamptz not null);
"""
NARROW_ROWS = """
  select g, g % 100000, (g % 1000000) / 100.0, (array['new','paid','sent','done'])[g % 4 + 1],
         'order number ' || g || ' of the day', now() + g * interval '1 ms'
  from generate_series({first}, {last}) g"""

# Forty columns: eight each of integers, numbers, text, times and the rest.
WIDE_COLUMNS = [
    *[(f"i{n}", "int", f"(g * {n} % 100000)::int") for n in range(1, 5)],
    *[(f"b{n}", "bigint", f"g * {n} * 1000003") for n in range(1, 5)],
    *[(f"f{n}", "float8", f"g * {n} / 7.0") for n in range(1, 5)],
    *[(f"n{n}", "numeric(14,4)", f"(g % 1000000) * {n} / 9.0") for n in range(1, 5)],
    *[(f"t{n}", "text", f"'some text in column {n} of row ' || g") for n in range(1, 9)],
    *[(f"z{n}", "timestamptz", f"now() + g * interval '{n} ms'") for n in range(1, 5)],
    *[(f"d{n}", "date", f"date '2020-01-01' + (g * {n} % 3000)::int") for n in range(1, 4)],
    *[(f"u{n}", "uuid", f"md5(g::text || {n})::uuid") for n in range(1, 4)],
    *[(f"j{n}", "jsonb", f"jsonb_build_object('a', g, 'b', 'text {n}', 'c', array[1, 2, {n}])")
      for n in range(1, 3)],
    *[(f"x{n}", "boolean", f"g % {n + 1} = 0") for n in range(1, 4)],
]
WIDE = "create table wide (id bigint primary key, {});".format(
    ", ".join(f"{name} {kind}" for name, kind, _ in WIDE_COLUMNS)
)


NARROW_LAST = "(id, customer, amount, status, created_at) values ({}, 1, 1, 'end', now())"

LARGE_BYTES = 100_000
LARGE = """
create table {name} (id bigint primary key, note text, body {kind});
alter table {name} alter column body set storage external;
"""


@dataclass(frozen=True)
class Workload:
    """A table and what is done to it while the slots of all contenders wait."""

    name: str
    events: int
    schema: str
    before: str
    """Written before the slots exist."""
    load: str
    last: str = "(id) values ({})"
    """The columns and values of one row more, by its key."""
    bytes: int = 0
    """Of large values in all rows together; 0 where there are none."""
    is_large: bool = False
    """One transaction that the server does not hold in memory at its default settings."""
    space: str = "public"
    """The schema, or the database, that the table is in."""
    is_packed: bool = False
    """The log has it compressed."""

    @property
    def table(self):
        """The captured table."""
        return f"{self.space}.{self.name}"

    @property
    def label(self):
        """The name of its case."""
        return self.name.removesuffix("_rows")


def _narrow(events):
    rows = NARROW_ROWS.format(first=1, last=events)
    load = f"insert into narrow {rows};"
    return Workload("narrow", events, NARROW, "", load, NARROW_LAST, is_large=True)


def _single(events):
    load = f"""do $$ begin for i in 1..{events} loop
      insert into single {NARROW_ROWS.format(first="i", last="i")};
      commit;
    end loop; end $$;"""
    schema = NARROW.replace("table narrow", "table single")
    return Workload("single", events, schema, "", load, NARROW_LAST)


def _wide(events):
    values = ", ".join(value for _, _, value in WIDE_COLUMNS)
    load = f"""do $$ begin for i in 0..{events // 1000 - 1} loop
      insert into wide select g, {values}
        from generate_series(i * 1000::bigint + 1, i * 1000::bigint + 1000) g;
      commit;
    end loop; end $$;"""
    return Workload("wide", events // 1000 * 1000, WIDE, "", load)


def _full(events):
    schema = NARROW.replace("table narrow", "table full_rows")
    schema += "alter table full_rows replica identity full;"
    before = f"insert into full_rows {NARROW_ROWS.format(first=1, last=events)}; checkpoint;"
    load = "update full_rows set amount = amount + 1, status = 'again';"
    return Workload("full_rows", events, schema, before, load, NARROW_LAST, is_large=True)


def _large(name, kind, events):
    # Pieces of one long value of hexadecimal digits, each from another place on.
    hexadecimal = "(select string_agg(md5(n::text), '') from generate_series(1, 8000) n)"
    value = hexadecimal if kind == "text" else f"decode({hexadecimal}, 'hex')"
    load = f"""insert into {name}
      select g, 'value ' || g, substr(v, g * 17 % 20000 + 1, {LARGE_BYTES})
      from (select {value} as v offset 0) one, generate_series(1, {events}) g;"""
    schema = LARGE.format(name=name, kind=kind)
    return Workload(name, events, schema, "", load, bytes=events * LARGE_BYTES, is_large=True)


def scaled(events, size):
    """So many events, for a size; not too few to measure anything."""
    return max(int(events * size), 1000)


def all_workloads(size):
    """The workloads, scaled."""
    return [
        _narrow(scaled(1_000_000, size)),
        _single(scaled(500_000, size)),
        _wide(scaled(400_000, size)),
        _full(scaled(1_000_000, size)),
        _large("toast", "text", scaled(10_000, size)),
        _large("toast_bytea", "bytea", scaled(10_000, size)),
    ]
