"""Types of MySQL and MariaDB with values of each, for the workload of the differential test.

A type is known by its name in SQL. `draw` gives the SQL of a value.
"""

import json
import struct
from dataclasses import dataclass
from typing import Callable

from my_forms import INTEGERS, encoded
from samples import document

BOTH = ("mysql", "mariadb")


@dataclass(frozen=True)
class Type:
    """A type, and how a value of it is drawn."""

    name: str
    draw: Callable
    servers: tuple = BOTH


WORDS = {
    "utf8mb4": ["", "a", "NULL", "x y", "é", "😀", "'", '"', "\\", "\n", "\t", "\r", "\0", "\x1a",
                "\x7f", "/* INT */", "###", "\\x0a", "ß", "\u2028", "%"],
    "latin1": ["", "a", "é", "'", "\\", "\n", "\0", "€", "\x81", "\x9d", "ÿ"],
    "ascii": ["", "a", "'", "\\n", "\t", "0"],
    "latin2": ["", "a", "ł", "ő", "'"],
    "greek": ["", "a", "α", "Ω"],
    "cp1251": ["", "a", "я", "Ж", "\\"],
    "koi8r": ["", "a", "я", "Ж"],
    "utf16": ["", "a", "é", "😀", "\n", "'"],
    "utf16le": ["", "a", "é", "😀"],
    "ucs2": ["", "a", "é", "你"],
    "utf32": ["", "a", "é", "😀"],
    "gbk": ["", "a", "你", "好", "'"],
    "big5": ["", "a", "我", "許", "功"],
    "sjis": ["", "a", "ソ", "表", "あ"],
    "ujis": ["", "a", "あ", "漢"],
    "euckr": ["", "a", "한", "글"],
    "gb2312": ["", "a", "你", "好"],
    "gb18030": ["", "a", "你", "😀"],
    "utf8mb3": ["", "a", "é", "你", "\n"],
}


def text(charset, longest=6):
    """Text of characters that mean something somewhere; at most so many characters."""
    def draw(rng):
        out = ""
        for _ in range(rng.randint(0, longest)):
            word = rng.choice(WORDS[charset])
            if len(out) + len(word) <= longest:
                out += word
        return literal(out, charset)
    return draw


def literal(plain, charset="utf8mb4"):
    """A text constant, whatever the session's character set and modes are."""
    raw = encoded(plain, charset)
    return f"_{charset} x'{raw.hex()}'" if raw else f"_{charset} ''"


def big_text(rng):
    """A text that goes to pages of its own now and then."""
    return f"repeat('{rng.randrange(10**6)} ', {rng.choice([1, 50, 300, 1500])})"


def whole(bits, is_unsigned):
    """Integers, at the ends of their range more often."""
    low, high = (0, 2**bits - 1) if is_unsigned else (-2**(bits - 1), 2**(bits - 1) - 1)

    def draw(rng):
        value = rng.choice([low, high, 0, 1, max(low, -1), rng.randint(low, high), 2**(bits - 1) - 1])
        return str(value)
    return draw


def decimal(precision, scale):
    """A decimal of any number of digits."""
    def draw(rng):
        before = rng.randint(0, precision - scale)
        head = "".join(rng.choice("0123456789") for _ in range(before)) or "0"
        tail = "".join(rng.choice("0123456789") for _ in range(rng.randint(0, scale))) or "0"
        return f"'{rng.choice(['', '-'])}{head}.{tail}'"
    return draw


def floating(code, size):
    """A float of any bits, but no NaN and no infinity, and simple ones."""
    def draw(rng):
        if rng.random() < 0.4:
            return rng.choice(["0", "1.5e0", "-1.1e0", "1e10", "16777216e0", "0.1e0 + 0.2e0", "-0e0"])
        value, = struct.unpack(code, rng.getrandbits(size * 8).to_bytes(size, "little"))
        # No infinity, and nothing that becomes zero on its way through SQL.
        low, high = (1e-37, 3e38) if size == 4 else (1e-307, 1e308)
        return f"{value!r}" if low < abs(value) < high else "3.25e0"
    return draw


def bits(count):
    """Binary digits."""
    return lambda rng: f"b'{rng.getrandbits(count):b}'"


def raw(longest):
    """Bytes, zeros at their end too."""
    def draw(rng):
        made = rng.randbytes(rng.randint(0, longest)) + b"\0" * rng.randint(0, 2)
        made = made[:longest]
        return f"x'{made.hex()}'" if made else "''"
    return draw


def day(rng):
    """A date, now and then none or a part of one."""
    if rng.random() < 0.25:
        return rng.choice(["0000-00-00", "2024-00-00", "2024-05-00", "1000-01-01", "9999-12-31"])
    return f"{rng.randint(1000, 9999)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def clock(rng, hours=24):
    """A time with a fraction of any length."""
    fraction = rng.choice(["", ".5", f".{rng.randrange(10**6):06}", ".999999", ".000001"])
    return f"{rng.randrange(hours):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{fraction}"


def length_of_time(rng):
    """TIME: either way, beyond a day."""
    return rng.choice([f"'{rng.choice(['', '-'])}{clock(rng, 838)}'", "'-00:00:00.5'", "'838:59:59'",
                       "'-838:59:59'", "'-00:00:00.000001'"])


def moment(rng):
    """DATETIME."""
    return f"'{day(rng)} {clock(rng)}'"


def stamp(rng):
    """TIMESTAMP."""
    if rng.random() < 0.2:
        return rng.choice(["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"])
    return f"'{rng.randint(1971, 2037)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {clock(rng)}'"


def chosen(labels):
    """ENUM: a label, or the number of none."""
    return lambda rng: rng.choice([*(literal(label) for label in labels), "0"])


def several(labels):
    """SET: labels."""
    def draw(rng):
        return literal(",".join(label for label in labels if rng.random() < 0.4))
    return draw


def json_text(rng):
    """A document's text."""
    return literal(document(rng))


def json_made(rng):
    """A document whose values are not all of JSON's own types."""
    return rng.choice([
        "json_array(cast('2020-01-02 03:04:05.6' as datetime(6)), cast('-10:11:12' as time(2)))",
        "json_array(cast(1.50 as decimal(10,4)), cast(x'00ff' as char(2) character set binary), true)",
        "json_object('a', cast(18446744073709551615 as unsigned), 'b', 1e100, 'c', -0e0)",
        "json_array(date '2020-02-29', 12345678901234567890.5, null)",
    ])


def point(rng):
    """A point's text, which may be one on Earth."""
    return f"{rng.randint(-80, 80)} {rng.uniform(-9, 9)!r}"


def shape(rng):
    """Any geometry."""
    a, b, c = (point(rng) for _ in range(3))
    return rng.choice([
        f"ST_GeomFromText('POINT({a})')", f"ST_GeomFromText('LINESTRING({a}, {b})', 4326)",
        f"ST_GeomFromText('POLYGON(({a}, {b}, {c}, {a}))')", f"ST_GeomFromText('MULTIPOINT({a}, {b})')",
        f"ST_GeomFromText('GEOMETRYCOLLECTION(POINT({a}),LINESTRING({b}, {c}))')",
    ])


def uuid(rng):
    """A UUID, now and then one that ends in zeros."""
    return f"'{rng.randbytes(16).hex() if rng.random() < 0.7 else '12' + '0' * 30}'"


def inet6(rng):
    """An address."""
    return rng.choice(["'::1'", "'2001:db8::'", "'::ffff:1.2.3.4'", "'1:0:0:2::3'", "'fe80::1:2'",
                       "'::'"])


def vector(rng):
    """Three numbers."""
    numbers = [rng.choice([0, 1.5, -2.25e10, rng.uniform(-9, 9)]) for _ in range(3)]
    return f"string_to_vector('{json.dumps(numbers)}')"


LETTERS = [chr(97 + at) for at in range(10)]
MANY = [f"label {at}" for at in range(300)]


def listed(labels):
    """Labels as a type has them."""
    return ", ".join(f"'{label}'" for label in labels)


def _types():
    made = []
    for name, size in INTEGERS.items():
        made += [Type(name, whole(size, False)), Type(f"{name} unsigned", whole(size, True))]
    made += [
        Type("tinyint(1)", whole(8, False)),
        Type("decimal(65,30)", decimal(65, 30)), Type("decimal(10,2)", decimal(10, 2)),
        Type("decimal(5,0)", decimal(5, 0)), Type("decimal(30,30)", decimal(30, 30)),
        Type("float", floating("<f", 4)), Type("double", floating("<d", 8)),
        Type("bit(1)", bits(1)), Type("bit(10)", bits(10)), Type("bit(64)", bits(64)),
        Type("year", lambda rng: str(rng.choice([0, 1901, 2155, rng.randint(1970, 2069)]))),
        Type("date", lambda rng: f"'{day(rng)}'"),
        Type("enum('a', 'b c', 'é')", chosen(["a", "b c", "é"])),
        Type("enum('é', 'ü') character set latin1", chosen(["é", "ü"])),
        Type(f"enum({listed(MANY)})", lambda rng: str(rng.randint(0, 300))),
        Type(f"set({listed(LETTERS)})", several(LETTERS)),
        Type("set('p', 'q', 'r')", several(list("pqr"))),
        Type("char(5)", text("utf8mb4", 5)), Type("char(200)", text("utf8mb4", 60)),
        Type("varchar(20)", text("utf8mb4", 20)), Type("varchar(300)", text("utf8mb4", 40)),
        Type("text", text("utf8mb4")), Type("tinytext", text("utf8mb4")),
        Type("mediumtext", text("utf8mb4")),
        Type("longtext", text("utf8mb4")), Type("text character set latin1", text("latin1")),
        Type("char(5) character set latin1", text("latin1", 5)),
        Type("binary(6)", raw(6)), Type("varbinary(10)", raw(10)), Type("varbinary(300)", raw(60)),
        Type("blob", raw(60)), Type("tinyblob", raw(20)), Type("mediumblob", raw(300)),
        Type("longblob", raw(9)), Type("json", json_text),
        # Another name for the same type, whose space is SQL's.
        Type("json ", json_made, ("mysql",)),
        Type("vector(3)", vector, ("mysql",)),
        Type("geometry", shape, ("mariadb",)),
        Type("point", lambda rng: f"ST_GeomFromText('POINT({point(rng)})')", ("mariadb",)),
        Type("uuid", uuid, ("mariadb",)), Type("inet6", inet6, ("mariadb",)),
        Type("inet4", lambda rng: f"'{rng.randrange(256)}.0.{rng.randrange(256)}.0'", ("mariadb",)),
    ]
    for digits in range(7):
        size = f"({digits})" if digits else ""
        made += [Type(f"time{size}", length_of_time), Type(f"datetime{size}", moment)]
        if digits in (0, 2, 3, 6):
            made.append(Type(f"timestamp{size} null", stamp))
    for charset in WORDS:
        servers = ("mysql",) if charset == "gb18030" else BOTH
        made.append(Type(f"varchar(12) character set {charset}", text(charset, 12), servers))
    return {one.name: one for one in made}


TYPES = _types()

ADDRESSES = {"uuid", "inet6", "inet4"}
GEOMETRIES = {"geometry", "point"}

KEY_TYPES = {
    "int": str, "bigint unsigned": lambda n: str(n + 2**63),
    "varchar(40)": lambda n: literal(f"k'{n}\\ é"), "varchar(30) character set latin1":
    lambda n: literal(f"ü{n}", "latin1"), "decimal(20,5)": lambda n: f"{n}.50000",
    "date": lambda n: f"date_add('2000-01-01', interval {n} day)",
    "datetime(3)": lambda n: f"timestamp('2000-01-01 00:00:00.125') + interval {n} hour",
    "binary(8)": lambda n: f"x'{n:08x}ff00ff01'", "mediumint unsigned": str,
}
"""Types of keys, with the SQL of the key of each number."""

DEFAULTS = {
    "int": ("7", "7"), "varchar(20)": ("'d''ef'", "d'ef"), "decimal(10,2)": ("1.5", "1.50"),
    "date": ("'2020-02-29'", "2020-02-29"), "tinyint unsigned": ("200", "200"),
    "enum('a', 'b c', 'é')": ("'b c'", "b c"), "datetime(3)": ("'2020-01-01 00:00:00.5'",
                                                              "2020-01-01T00:00:00.500000"),
}
"""Defaults of columns that are added: the SQL, and what stands in events for it."""

RETYPES = {
    "int": ["bigint", "varchar(20)"], "tinyint": ["smallint", "int"],
    "smallint unsigned": ["int unsigned"],
    "decimal(10,2)": ["decimal(20,6)"], "date": ["datetime"], "varchar(20)": ["varchar(300)", "text"],
    "text": ["mediumtext"], "blob": ["longblob"], "tinytext": ["text"],
    "enum('a', 'b c', 'é')": ["enum('a', 'b c', 'é', 'later')"],
    "varchar(12) character set latin1": ["varchar(12)"],
}
"""Changes of type that keep every value, as my_forms.retyped does."""

TYPES_LATER = {"enum('a', 'b c', 'é', 'later')": Type("", chosen(["a", "b c", "é", "later"])),
               "decimal(20,6)": Type("", decimal(20, 6)), "varchar(12)": Type("", text("utf8mb4", 12))}


def draw(name, rng):
    """The SQL of a value of a type."""
    found = TYPES.get(name) or TYPES_LATER[name]
    return found.draw(rng)


def known(server):
    """The names of the types that a server has."""
    return [name for name, made in TYPES.items() if server in made.servers]
