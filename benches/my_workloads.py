"""The same for MySQL and MariaDB. Rows are made of the numbers in a table that the log knows nothing of."""

from workloads import Workload, scaled

NARROW = """
create table {name} (id bigint primary key, customer int not null, amount decimal(12,2) not null,
  status varchar(20) not null, note varchar(100), created_at timestamp(6) not null);
"""
NARROW_ROWS = """
insert into {name}
  select g, g % 100000, (g % 1000000) / 100, elt(g % 4 + 1, 'new', 'paid', 'sent', 'done'),
         concat('order number ', g, ' of the day'), now(6) + interval g * 1000 microsecond
  from numbers where g <= {last};
"""
# By server: the load before which and after which the session or the server is told to compress.
PACKED = {
    "mysql": ("set binlog_transaction_compression = on;", "set binlog_transaction_compression = off;"),
    # The smallest rows too; their size counts, not that of the event.
    "mariadb": ("set global log_bin_compress = on; set global log_bin_compress_min_len = 10;",
                "set global log_bin_compress = off;"),
}

# Forty columns: eight each of integers, numbers, text, times and the rest.
WIDE_COLUMNS = [
    *[(f"i{n}", "int", f"g * {n} % 100000") for n in range(1, 5)],
    *[(f"b{n}", "bigint", f"g * {n} * 1000003") for n in range(1, 5)],
    *[(f"f{n}", "double", f"g * {n} / 7e0") for n in range(1, 5)],
    *[(f"n{n}", "decimal(14,4)", f"(g % 1000000) * {n} / 9") for n in range(1, 5)],
    *[(f"t{n}", kind, f"concat('some text in column {n} of row ', g)")
      for n, kind in enumerate(["varchar(100)"] * 4 + ["text"] * 4, 1)],
    *[(f"z{n}", kind, f"now(6) + interval g * {n} * 1000 microsecond")
      for n, kind in enumerate(["timestamp(6) null"] * 2 + ["datetime(6)"] * 2, 1)],
    *[(f"d{n}", "date", f"date '2020-01-01' + interval g * {n} % 3000 day") for n in range(1, 4)],
    *[(f"u{n}", "binary(16)", f"unhex(left(sha2(concat(g, {n}), 256), 32))") for n in range(1, 4)],
    *[(f"j{n}", "json", f"json_object('a', g, 'b', 'text {n}', 'c', json_array(1, 2, {n}))")
      for n in range(1, 3)],
    *[(f"x{n}", "boolean", f"g % {n + 1} = 0") for n in range(1, 4)],
]


def _workload(name, events, schema, load, before="", is_packed=False):
    return Workload(name, events, schema, before, load, space="bench", is_packed=is_packed)


def _narrow(events):
    rows = NARROW_ROWS.format(name="narrow", last=events)
    return _workload("narrow", events, NARROW.format(name="narrow"), rows)


def _full(events):
    before = NARROW_ROWS.format(name="full_rows", last=events)
    load = "update full_rows set amount = amount + 1, status = 'again';"
    return _workload("full_rows", events, NARROW.format(name="full_rows"), load, before)


def _wide(events):
    columns = ", ".join(f"{name} {kind}" for name, kind, _ in WIDE_COLUMNS)
    values = ", ".join(value for _, _, value in WIDE_COLUMNS)
    load = "".join(
        f"insert into wide select g, {values} from numbers"
        f" where g between {first} and {first + 999};\n"
        for first in range(1, events, 1000)
    )
    schema = f"create table wide (id bigint primary key, {columns});"
    return _workload("wide", events, schema, load)


def _compressed(events, flavor):
    rows = NARROW_ROWS.format(name="compressed", last=events)
    schema = NARROW.format(name="compressed")
    return _workload("compressed", events, schema, rows.join(PACKED[flavor]), is_packed=True)


def all_workloads(size, flavor):
    """The workloads, scaled."""
    return [
        _narrow(scaled(3_000_000, size)),
        _full(scaled(1_000_000, size)),
        _wide(scaled(400_000, size) // 1000 * 1000),
        _compressed(scaled(1_000_000, size), flavor),
    ]
