"""Types of PostgreSQL with values of each, for the workload of the differential test.

A type is known by the name in SQL. `form` says how its text becomes JSON (see forms.py); `draw` gives
the SQL of a value, from the rows of the type table and at random.
"""

import base64
import json
import struct
from dataclasses import dataclass
from typing import Callable

from kit import ROOT

TABLE = ROOT / "connectors/postgres/tests/data/pg_types.jsonl"

SETUP = """
create extension hstore; create extension ltree; create extension citext; create extension cube;
create extension isn;
create type cdc_mood as enum ('sad', 'so so', 'happy');
create domain cdc_posint as int check (value > 0);
create domain cdc_posint2 as cdc_posint check (value < 100);
create type cdc_addr as (street text, city text, n int);
create type cdc_frange as range (subtype = float8);
create domain cdc_email as citext;
create domain cdc_intarr as int[];
create type "Odd Name" as ("A" cdc_posint2, "a" text, docs json[], moods cdc_mood[]);
"""

ADDR = ("composite", (("street", ("text",)), ("city", ("text",)), ("n", ("int",))))
ODD = ("composite", (
    ("A", ("int",)), ("a", ("text",)), ("docs", ("array", ("json",), ",")),
    ("moods", ("array", ("text",), ",")),
))


@dataclass(frozen=True)
class Type:
    """A type, and how a value of it is drawn."""

    name: str
    form: tuple
    draw: Callable
    since: int = 14
    """The first version of the server that has all of its values."""


def quoted(text):
    """A text constant."""
    return "'" + text.replace("'", "''") + "'"


def _rows():
    """The type table's literals, as SQL expressions, by type."""
    literals = {}
    for line in TABLE.read_text().splitlines():
        row = json.loads(line)
        if row["validated"] is None:
            continue
        literals.setdefault(row["type"], []).append(f"({_sql(row['literal'])})")
    return literals


def _sql(literal):
    plain = literal in ("true", "false") or "::" in literal
    try:
        float(literal)
        plain = plain or literal[-1].isdigit()
    except ValueError:
        pass
    return literal if plain or any(mark in literal for mark in "'([") else quoted(literal)


LITERALS = _rows()

WORDS = [
    "", "a", "NULL", "null", "x y", "é", "😀", "\"", "\\", "{", "}", "(", ")", ",", ";", "'",
    "\n", "\t", "\r", "\x01", "\x7f", "\u2028", "=>", "]:", "[", "]", "unchanged-toast-datum",
    "new-tuple:", "B'1'", "$1", "--", "\ufeff", "\uffff", "Ünï", "ß", "0",
]


def text(rng, longest=6):
    """Text of characters that mean something somewhere."""
    return "".join(rng.choice(WORDS) for _ in range(rng.randint(0, longest)))


def big_text(rng):
    """Text that is stored out of line: it does not compress."""
    return base64.b64encode(rng.randbytes(rng.choice([1900, 2300, 4000, 9000]))).decode()


def whole(low, high):
    """Integers, at the ends of their range more often."""
    def draw(rng):
        value = rng.choice([low, high, 0, 1, -1, rng.randint(low, high), rng.randint(low, high)])
        return f"({max(low, min(high, value))})"
    return draw


def number(rng):
    """A numeric of any size and scale."""
    digits = rng.choice([1, 3, 9, 20, 60])
    whole_part = str(rng.randrange(10 ** digits))
    scale = rng.choice([0, 0, 2, 7, 30])
    fraction = "." + "".join(rng.choice("0123456789") for _ in range(scale)) if scale else ""
    return f"'{rng.choice(['', '-'])}{whole_part}{fraction}'::numeric"


def scaled(limit, scale):
    """A numeric below a limit."""
    return lambda rng: f"({rng.uniform(-limit, limit):.{scale}f})"


def binary(code, bits, cast):
    """A float of any bits."""
    def draw(rng):
        value, = struct.unpack(code, rng.getrandbits(bits).to_bytes(bits // 8, "little"))
        return f"'{value!r}'::{cast}"
    return draw


def calendar(rng, years=(1, 9999)):
    """A date, of any year."""
    return f"{rng.randint(*years):04}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def era(rng, middle=""):
    """A date with something after it, in either era."""
    if rng.random() < 0.5:
        return f"{calendar(rng)}{middle}"
    return f"{calendar(rng, (1, 4000))}{middle} BC"


def clock(rng):
    """A time of day."""
    fraction = rng.choice(["", ".5", f".{rng.randrange(10**6):06}"])
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{fraction}"


def zone(rng):
    """An offset from UTC."""
    return f"{rng.choice('+-')}{rng.randrange(15):02}:{rng.choice(['00', '30', '45'])}"


def interval(rng):
    """An interval of up to three signs."""
    return (f"'{rng.randint(-99, 99)} mons {rng.randint(-99, 99)} days "
            f"{rng.choice(['', '-'])}{clock(rng)}'::interval")


def document(rng, depth=3):
    """A JSON text with spaces between its tokens."""
    space = rng.choice(["", "", " ", "\n "])
    pick = rng.random()
    if depth == 0 or pick < 0.4:
        leaf = rng.choice([
            "null", "true", "false", "0", "-0", "1.0", "1.00", "12345678901234567890123",
            "-1.5e10", json.dumps(text(rng, 3)), json.dumps(text(rng, 3), ensure_ascii=False),
        ])
        return f"{space}{leaf}{space}"
    inner = [document(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if pick < 0.7:
        return f"[{space}{','.join(inner)}]"
    members = [f"{space}{json.dumps(rng.choice(['a', 'b', 'é', 'k ' + str(at), '']))}{space}:{value}"
               for at, value in enumerate(inner)]
    return f"{{{space}{','.join(members)}}}"


def any_json(rng):
    """A json value; now and then one that strict parsers refuse."""
    odd = ['"\\ud800"', '{"a":1,"a":2}', "[" * 130 + "]" * 130, '"\\u0000"', '"\\ud83d\\ude00"']
    return quoted(rng.choice(odd) if rng.random() < 0.15 else document(rng)) + "::json"


def some_jsonb(rng):
    """A jsonb value."""
    return quoted(document(rng)) + "::jsonb"


def array(element, cast):
    """An array of up to two dimensions, now and then with bounds of its own."""
    def draw(rng):
        items = [element(rng) if rng.random() > 0.15 else "NULL"
                 for _ in range(rng.choice([0, 1, 2, 4]))]
        if not items:
            return f"'{{}}'::{cast}"
        flat = f"array[{','.join(items)}]"
        kind = rng.random()
        if kind < 0.2:
            return f"array[{flat},{flat}]::{cast}"
        if kind < 0.3:
            plain = cast.split("(", maxsplit=1)[0].removesuffix("[]")
            return (f"array_fill(({element(rng)})::{plain}, array[{rng.randint(1, 3)}], "
                    f"array[{rng.randint(-2, 4)}])::{cast}")
        return f"{flat}::{cast}"
    return draw


def address(rng):
    """A composite."""
    parts = [quoted(text(rng, 3)) if rng.random() > 0.2 else "null" for _ in range(2)]
    return f"row({parts[0]}, {parts[1]}, {rng.choice(['null', rng.randint(-9, 9)])})::cdc_addr"


def odd_composite(rng):
    """A composite of arrays and documents."""
    docs = array(any_json, "json[]")(rng)
    return (f'row({rng.randint(1, 99)}, {quoted(text(rng, 3))}, {docs}, '
            f"array['so so', null]::cdc_mood[])::\"Odd Name\"")


def pairs(rng):
    """An hstore."""
    made = [f"hstore({quoted(text(rng, 2))}, {quoted(text(rng, 2)) if rng.random() > 0.2 else 'null'})"
            for _ in range(rng.randint(1, 3))]
    return "(" + "||".join(made) + ")"


def span(cast, bounds):
    """A range between two texts."""
    def draw(rng):
        low, high = sorted((bounds(rng), bounds(rng)))
        low, high = rng.choice([(low, high), ("", high), (low, ""), ("", "")])
        mark = rng.choice(["[)", "[]", "()", "(]"])
        return quoted(f"{mark[0]}{low},{high}{mark[1]}") + f"::{cast}"
    return draw


def several(cast, one):
    """A multirange of up to three ranges."""
    def draw(rng):
        return f"{cast}({','.join(one(rng) for _ in range(rng.randint(0, 3)))})"
    return draw


def fixed_width(low, high):
    """Integers as texts that sort as numbers."""
    return lambda rng: f"{rng.randint(low, high)}"


def from_text(cast, make):
    """A constant of a type, from text."""
    return lambda rng: quoted(make(rng)) + f"::{cast}"


def _ordinary():
    """Types whose values are drawn at random beside those of the type table."""
    points = lambda rng: f"({rng.randint(-99, 99)},{rng.uniform(-9, 9)!r})"
    moods = lambda rng: f"'{rng.choice(['sad', 'so so', 'happy'])}'::cdc_mood"
    integers = fixed_width(10, 99)
    days = lambda rng: calendar(rng, (1900, 2100))
    moments = lambda rng: f"{calendar(rng, (1900, 2100))} {rng.randrange(24):02}:00:00"
    hexes = lambda rng: "\\x" + rng.randbytes(rng.choice([0, 1, 2, 3, 50, 300])).hex()
    bits = lambda rng, most=80: "".join(rng.choice("01") for _ in range(rng.randint(0, most)))
    rows = [
        ("boolean", "bool", lambda rng: rng.choice(["true", "false"])),
        ("smallint", "int", whole(-2**15, 2**15 - 1)),
        ("integer", "int", whole(-2**31, 2**31 - 1)),
        ("bigint", "int", whole(-2**63, 2**63 - 1)),
        ("oid", "int", lambda rng: f"{rng.randrange(2**32)}::oid"),
        ("xid", "int", lambda rng: f"'{rng.randrange(2**32)}'::xid"),
        ("xid8", "int", lambda rng: f"'{rng.getrandbits(64)}'::xid8"),
        ("numeric", "decimal", number),
        ("numeric(10,2)", "decimal", scaled(9e7, 2)),
        ("numeric(38,18)", "decimal", scaled(9e15, 18)),
        ("real", "float", binary("<f", 32, "real")),
        ("double precision", "float", binary("<d", 64, "float8")),
        ("money", "money", scaled(9e9, 2)),
        ("char(5)", "text", lambda rng: quoted(rng.choice(["ab", "a b", "é😀", "     ", "12345"]))),
        ("varchar", "text", lambda rng: quoted(text(rng))),
        ("varchar(3)", "text", lambda rng: quoted(text(rng)[:3])),
        ("text", "text", lambda rng: quoted(text(rng))),
        ("name", "text", lambda rng: quoted(text(rng, 3)) + "::name"),
        ("bytea", "bytes", from_text("bytea", hexes)),
        ("date", "date", from_text("date", era)),
        ("time", "time", from_text("time", clock)),
        ("timetz", "timetz", lambda rng: f"'{clock(rng)}{zone(rng)}'::timetz"),
        ("timestamp", "timestamp",
         from_text("timestamp", lambda rng: era(rng, f" {clock(rng)}"))),
        ("timestamptz", "timestamptz",
         lambda rng: f"'{calendar(rng)} {clock(rng)}{zone(rng)}'::timestamptz"),
        ("interval", "text", interval),
        ("bit(8)", "text", lambda rng: f"B'{rng.randrange(256):08b}'"),
        ("bit varying", "text", lambda rng: f"B'{bits(rng)}'"),
        ("bit varying(10)", "text", lambda rng: f"B'{bits(rng, 10)}'"),
        ("uuid", "text", from_text("uuid", lambda rng: rng.randbytes(16).hex())),
        ("inet", "text", from_text("inet", lambda rng: rng.choice([
            f"10.{rng.randrange(256)}.0.1/{rng.randint(8, 32)}", "::1", "fe80::1/64"]))),
        ("cidr", "text", from_text("cidr", lambda rng: f"10.{rng.randrange(256)}.0.0/16")),
        ("macaddr", "text", from_text("macaddr", lambda rng: rng.randbytes(6).hex(":"))),
        ("macaddr8", "text", from_text("macaddr8", lambda rng: rng.randbytes(8).hex(":"))),
        ("json", "json", any_json),
        ("jsonb", "json", some_jsonb),
        ("jsonpath", "text", from_text("jsonpath", lambda rng: f"$.\"a {rng.randrange(9)}\"[*]")),
        ("point", "text", from_text("point", points)),
        ("lseg", "text", lambda rng: f"'[{points(rng)},{points(rng)}]'::lseg"),
        ("box", "text", lambda rng: f"'{points(rng)},{points(rng)}'::box"),
        ("path", "text", lambda rng: f"'[{points(rng)},{points(rng)}]'::path"),
        ("polygon", "text", lambda rng: f"'({points(rng)},{points(rng)},{points(rng)})'::polygon"),
        ("circle", "text", lambda rng: f"'<{points(rng)},{rng.randint(0, 9)}>'::circle"),
        ("line", "text", lambda rng: f"'{{1,{rng.randint(-9, 9)},{rng.uniform(-9, 9)!r}}}'::line"),
        ("tsvector", "text", from_text("tsvector", lambda rng: f"a:{rng.randint(1, 9)}A fat:2 'x y'")),
        ("tsquery", "text", from_text("tsquery", lambda rng: rng.choice(["fat & !rat", "a <-> b"]))),
        ("pg_lsn", "text", lambda rng: f"'{rng.getrandbits(32):X}/{rng.getrandbits(32):X}'::pg_lsn"),
        ("pg_snapshot", "text", lambda rng: f"'10:2{rng.randrange(9)}:10,14'::pg_snapshot"),
        ("tid", "text", lambda rng: f"'({rng.randrange(99)},{rng.randrange(99)})'::tid"),
        ("oidvector", "text", lambda rng: f"'23 {rng.randrange(99)}'::oidvector"),
        ("regtype", "text", lambda rng: f"'{rng.choice(['int4', 'text', 'float8[]'])}'::regtype"),
        ("int4range", "text", span("int4range", integers)),
        ("int8range", "text", span("int8range", integers)),
        ("numrange", "text", span("numrange", integers)),
        ("daterange", "text", span("daterange", days)),
        ("tsrange", "text", span("tsrange", moments)),
        ("tstzrange", "text", span("tstzrange", moments)),
        ("int4multirange", "text", several("int4multirange", span("int4range", integers))),
        ("nummultirange", "text", several("nummultirange", span("numrange", integers))),
        ("tstzmultirange", "text", several("tstzmultirange", span("tstzrange", moments))),
        ("cdc_mood", "text", moods),
        ("cdc_posint2", "int", lambda rng: f"{rng.randint(1, 99)}"),
        ("cdc_email", "text", lambda rng: quoted(text(rng, 3)) + "::cdc_email"),
        ("citext", "text", lambda rng: quoted(text(rng, 3)) + "::citext"),
        ("cdc_frange", "text", span("cdc_frange", integers)),
        ("ltree", "text", from_text("ltree", lambda rng: f"Top.n{rng.randrange(99)}.x_y")),
        ("cube", "text", from_text("cube", lambda rng: f"({rng.randint(0, 9)},2),(3,4)")),
    ]
    made = [Type(name, (form,), draw) for name, form, draw in rows]
    char = lambda rng: f"({rng.randint(-128, 127)})::\"char\""
    arrays = [
        ("integer[]", ("int",), whole(-2**31, 2**31 - 1)),
        ("text[]", ("text",), lambda rng: quoted(text(rng, 3))),
        ("numeric[]", ("decimal",), number),
        ("bytea[]", ("bytes",), from_text("bytea", hexes)),
        ("float8[]", ("float",), binary("<d", 64, "float8")),
        ("timestamptz[]", ("timestamptz",), lambda rng: f"'{moments(rng)}+00'::timestamptz"),
        ("boolean[]", ("bool",), lambda rng: rng.choice(["true", "false"])),
        ("varchar(3)[]", ("text",), lambda rng: quoted(text(rng)[:3]) + "::varchar"),
        ("jsonb[]", ("json",), some_jsonb),
        ("json[]", ("json",), any_json),
        ("cdc_mood[]", ("text",), moods),
        ("cdc_addr[]", ADDR, address),
        ("cdc_posint2[]", ("int",), lambda rng: f"{rng.randint(1, 99)}::cdc_posint2"),
        ("int4range[]", ("text",), span("int4range", integers)),
    ]
    made += [Type(name, ("array", form, ","), array(draw, name)) for name, form, draw in arrays]
    made += [
        Type("box[]", ("array", ("text",), ";"),
             array(lambda rng: f"'{points(rng)},{points(rng)}'::box", "box[]")),
        Type("cdc_intarr", ("array", ("int",), ","), array(whole(-9, 9), "int[]")),
        Type("cdc_addr", ADDR, address),
        Type('"Odd Name"', ODD, odd_composite),
        Type("hstore", ("hstore",), pairs),
        Type('"char"', ("char",), char),
        Type("numeric(3,-2)", ("decimal",), lambda rng: f"{rng.randint(-99949, 99949)}", since=15),
        Type("numeric(2,4)", ("decimal",), lambda rng: f"0.00{rng.randint(0, 99):02}", since=15),
    ]
    return made


NOT_DRAWN = {"isbn": "text", "txid_snapshot": "text", "int2vector": "text", "refcursor": "text",
             "time(0)": "time", "bit(1)": "text"}
"""Types whose only values are those of the type table."""

FORM_OF = {"bool[]": "boolean[]"}
"""Other names for types that are drawn."""

# Before 16 the byte is written as a backslash and digits by nobody.
NEWER = {'"char"': 16}


def _all():
    types = {}
    for made in _ordinary():
        rows = LITERALS.get(made.name, [])
        types[made.name] = Type(made.name, made.form, _mixed(made.name, rows, made.draw), made.since)
    for name, form in NOT_DRAWN.items():
        rows = LITERALS[name]
        types[name] = Type(name, (form,), lambda rng, rows=rows: rng.choice(rows))
    for name, same in FORM_OF.items():
        rows = LITERALS[name]
        types[name] = Type(name, types[same].form, lambda rng, rows=rows: rng.choice(rows))
    unknown = set(LITERALS) - set(types) - {"xml"}
    if unknown:
        raise RuntimeError(f"types of the type table without a form here: {unknown}")
    return types


def _mixed(name, rows, draw):
    version_bound = NEWER.get(name, 0)

    def value(rng):
        return rng.choice(rows) if rows and rng.random() < 0.3 else draw(rng)
    return draw if version_bound else value


TYPES = _all()

KEY_TYPES = {
    "integer": lambda n: f"{n}", "bigint": lambda n: f"{n + 2**40}",
    "text": lambda n: quoted(f"k'{n}\" é"), "uuid": lambda n: f"'{n:032x}'::uuid",
    "numeric": lambda n: f"{n}.50", "varchar(20)": lambda n: quoted(f"v {n}"),
    "date": lambda n: f"(date '2000-01-01' + {n})", "bytea": lambda n: f"'\\x{n:08x}'::bytea",
    "timestamptz": lambda n: f"(timestamptz '2000-01-01 00:00:00+00' + {n} * interval '1 hour')",
}
"""Types of keys, with the key of each number."""

DEFAULTS = {
    "integer": ("7", "7"), "text": ("'d''ef'", "d'ef"), "numeric(10,2)": ("1.5", "1.50"),
    "boolean": ("true", "t"), "date": ("'2020-02-29'", "2020-02-29"),
    "integer[]": ("'{1,NULL}'", "{1,NULL}"), "jsonb": ("'{\"a\":1}'", '{"a": 1}'),
}
"""Defaults of columns that are added: the SQL, and the text the server prints of it."""

RETYPES = {
    "integer": ["bigint", "text"], "smallint": ["integer", "bigint"], "varchar(3)": ["text", "varchar"],
    "numeric(10,2)": ["numeric"], "date": ["timestamp"], "varchar": ["text"], "text": ["varchar"],
}
"""Changes of type that keep every value, as forms.retyped does."""


def known(version):
    """The names of the types that a server has."""
    return [name for name, made in TYPES.items() if made.since <= version]


def form_of(name):
    """How a type's text becomes JSON."""
    return KEY_FORMS.get(name) or TYPES[name].form


KEY_FORMS = {"varchar(20)": ("text",)}
