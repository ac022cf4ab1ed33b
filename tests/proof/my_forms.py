"""Values of MySQL and MariaDB: what a column is, by the text that describes its type, what mysqlbinlog
prints of a value, and what SQL reads.

Written from the servers' manuals, with nothing of the product's own code. A value is the JSON of an
event, read exactly (forms.py). The tool's text is compared in its own form: what the JSON would be
there.
"""

import base64
import re
import struct
from dataclasses import dataclass

import forms
from forms import Num, Obj

CODECS = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "ascii", "latin1": "",
    "latin2": "iso8859_2", "greek": "iso8859_7", "hebrew": "iso8859_8", "cp1250": "cp1250",
    "cp1251": "cp1251", "koi8r": "koi8_r", "cp850": "cp850", "utf16": "utf_16_be",
    "utf16le": "utf_16_le", "ucs2": "utf_16_be", "utf32": "utf_32_be", "gbk": "gbk", "big5": "big5",
    "sjis": "shift_jis", "ujis": "euc_jp", "euckr": "euc_kr", "gb2312": "gb2312", "gb18030": "gb18030",
}
"""Python's names of character sets. Those of several bytes differ in corners, which are not drawn here:
charset/probes.rs asks the servers for every character."""

CLOSED = "".join(chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
"""What cp1252 has no characters for, and the servers' latin1 keeps as it is."""


def encoded(text, charset):
    """A text's bytes in a character set of the server."""
    codec = CODECS[charset]
    if charset != "latin1":
        return text.encode(codec)
    return b"".join(
        bytes([ord(char)]) if char in CLOSED else char.encode("cp1252") for char in text)


def decoded(raw, charset):
    """The other way round."""
    if charset != "latin1":
        return raw.decode(CODECS[charset])
    return "".join(
        chr(byte) if chr(byte) in CLOSED else bytes([byte]).decode("cp1252") for byte in raw)


@dataclass(frozen=True)
class Form:
    """What a column is."""

    kind: str
    size: int = 0
    """Bits of integers and BIT, digits of a fraction, bytes of BINARY."""
    charset: str = ""
    labels: tuple = ()


INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
GEOMETRIES = {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
              "multipolygon", "geometrycollection", "geomcollection"}
BLOBS = {"tinyblob", "blob", "mediumblob", "longblob"}
ADDRESSES = {"uuid": 16, "inet6": 16, "inet4": 4}
"""MariaDB's, which its log has as bytes; columns of them begin with the type's name in the plan."""

TYPE = re.compile(rb"(\w+)\s*(?:\((.*)\))?")


def form_of(name, described):
    """The form of a column by its name and the description of its type, in the log's or the catalog's
    words: `TINYINT UNSIGNED`, `VARCHAR(20) CHARSET utf8mb4 COLLATE …`, `enum('a','b')`.
    """
    words, _, more = described.partition(b" CHARSET ")
    charset = more.split(b" ")[0].decode()
    charset = {"utf8": "utf8mb3"}.get(charset, charset)
    found = TYPE.match(words)
    base, inside = found[1].lower().decode(), found[2]
    address = name.split("_")[0]
    if address in ADDRESSES:
        return Form(address, ADDRESSES[address])
    if base in INTEGERS:
        return Form("int", INTEGERS[base])
    if base in ("time", "datetime", "timestamp"):
        return Form(base, int(inside or 0))
    if base == "bit":
        return Form("bit", int(inside or 1))
    if base in ("enum", "set"):
        labels = re.findall(rb"'((?:[^']|'')*)'", inside)
        labels = tuple(decoded(label.replace(b"''", b"'"), charset or "utf8mb4") for label in labels)
        return Form(base, labels=labels)
    if base in GEOMETRIES:
        return Form("geometry")
    if base in BLOBS or base == "varbinary":
        return Form("bytes")
    if base == "binary":
        return Form("bytes", int(inside or 1))
    if base in ("float", "double", "decimal", "year", "date", "json", "vector"):
        return Form(base)
    if base in ("char", "varchar", "tinytext", "text", "mediumtext", "longtext"):
        return Form("text", charset=charset or "utf8mb4")
    raise ValueError(f"a type that is not known here: {described!r}")


# What mysqlbinlog prints

def single(value):
    """A number as a float of four bytes."""
    return struct.unpack("<f", struct.pack("<f", float(value)))[0]


def cut(text, digits):
    """A moment with so many digits of its second; None where it has more."""
    whole, _, fraction = text.partition(".")
    if len(fraction) != 6 or fraction[digits:].strip("0"):
        return None
    return f"{whole}.{fraction[:digits]}" if digits else whole


DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def seconds(text):
    """Seconds since 1970 of a UTC moment without its fraction, in a calendar of one's own."""
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", text)
    year, month, day, hour, minute, second = map(int, found.groups())
    days = 0
    for past in range(1970, year):
        days += 366 if is_leap(past) else 365
    for past in range(1, month):
        days += 29 if past == 2 and is_leap(year) else DAYS[past - 1]
    return ((days + day - 1) * 24 + hour) * 3600 + minute * 60 + second


def is_leap(year):
    """Whether a year has 366 days."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def quoted(raw):
    """Text as MariaDB's tool prints it. Neither quotes nor backslashes are marked, so that it cannot be
    read back: what a value would be is compared.
    """
    return b"'" + b"".join(
        b"\\x%02x" % byte if byte < 0x20 else bytes([byte]) for byte in raw) + b"'"


ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a",
           b"0": b"\0", b"\\": b"\\", b"'": b"'", b'"': b'"', b"Z": b"\x1a"}


def unquoted(text):
    """The bytes of a text of MySQL's tool."""
    if text[:1] != b"'" or text[-1:] != b"'":
        raise ValueError("no text")

    def plain(found):
        escape = found[1]
        return bytes.fromhex(escape[1:].decode()) if escape[:1] == b"x" else ESCAPES[escape]
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", plain, text[1:-1], flags=re.DOTALL)


def raw_of(form, value):
    """A value's bytes in the log, of forms that are bytes there."""
    if form.kind == "text":
        return encoded(value, form.charset)
    if form.kind == "bytes":
        raw = base64.b64decode(value, validate=True)
        return raw.rstrip(b"\0") if form.size else raw
    if form.kind == "geometry":
        parts = dict(value.pairs)
        wkb = base64.b64decode(parts["wkb"], validate=True)
        return int(parts["srid"].text).to_bytes(4, "little") + wkb
    if form.kind == "uuid":
        return bytes.fromhex(value.replace("-", "")).rstrip(b"\0")
    if form.kind == "inet4":
        return bytes(map(int, value.split("."))).rstrip(b"\0")
    return packed_inet6(value).rstrip(b"\0")


def packed_inet6(text):
    """The sixteen bytes of an address."""
    if "." in text:
        head, _, tail = text.rpartition(":")
        a, b, c, d = map(int, tail.split("."))
        text = f"{head}:{a * 256 + b:x}:{c * 256 + d:x}"
    first, gap, last = text.partition("::")
    before = [int(part, 16) for part in first.split(":") if part]
    after = [int(part, 16) for part in last.split(":") if part]
    middle = [0] * (8 - len(before) - len(after)) if gap else []
    return b"".join(word.to_bytes(2, "big") for word in before + middle + after)


def integer(form, value):
    """An integer: as a signed one, and if that is negative also as an unsigned one. Which of them it is,
    the tool does not know for sure: MariaDB's takes the sign of another column behind a YEAR.
    """
    number = int(value.text)
    if number >= 1 << (form.size - 1):
        number -= 1 << form.size
    return f"{number} ({number + (1 << form.size)})" if number < 0 else str(number)


def bits_of_set(form, value):
    """A SET: its bytes, the lowest first, each with its highest bit first."""
    chosen = value.split(",") if value else []
    if [label for label in form.labels if label in chosen] != chosen:
        return "not in order"
    number = sum(1 << form.labels.index(label) for label in chosen)
    count = len(form.labels)
    width = 8 if count > 32 else (count + 7) // 8
    return "b'" + "".join(f"{byte:08b}" for byte in number.to_bytes(width, "little")) + "'"


def timestamp(form, value):
    """A TIMESTAMP: seconds since 1970."""
    text = cut(value.removesuffix("Z"), form.size)
    whole, _, fraction = text.partition(".")
    number = 0 if whole == "0000-00-00T00:00:00" else seconds(whole)
    return f"{number}.{fraction}" if fraction else str(number)


PRINTED = {
    "int": integer,
    "decimal": lambda form, value: value,
    # Six digits, which is less than there are: the fold compares the others.
    "float": lambda form, value: f"{single(value.text):g}",
    "double": lambda form, value: f"{float(value.text):.20g}",
    "bit": lambda form, value: f"b'{value}'" if len(value) == form.size else "another length",
    "year": lambda form, value: value.text if value.text != "0" else "1900",
    "date": lambda form, value: f"'{value.replace('-', ':')}'",
    "time": lambda form, value: f"'{cut(value, form.size)}'",
    "datetime": lambda form, value: f"'{cut(value.replace('T', ' '), form.size)}'",
    "timestamp": timestamp,
    "enum": lambda form, value: str(form.labels.index(value) + 1 if value else 0),
    "set": bits_of_set,
    # Six digits here too.
    "vector": lambda form, value: "[" + ",".join(f"{single(n.text):.5e}" for n in value) + "]",
}


class Said:
    """A value as mysqlbinlog prints it. It is equal to the JSON that a value must become."""

    def __init__(self, text, form, is_mysql):
        self.text, self.form, self.is_mysql = text, form, is_mysql

    def __repr__(self):
        return f"{self.text.decode(errors='backslashreplace')} ({self.form.kind})"

    def __eq__(self, value):
        if value is None:
            # A document that is null is null too.
            is_json = self.form.kind == "json"
            return self.text == b"NULL" or (is_json and self.text.strip(b"'") == b"null")
        if self.text == b"NULL":
            return False
        try:
            return self.is_of(value)
        except (ValueError, KeyError, AttributeError, TypeError, forms.NotStrict):
            return False

    __hash__ = None

    def is_of(self, value):
        """Whether the text is that of a value other than null."""
        kind = self.form.kind
        if kind == "json":
            return self.is_document(value)
        if kind in PRINTED:
            return PRINTED[kind](self.form, value).encode() == self.text
        raw = raw_of(self.form, value)
        return unquoted(self.text) == raw if self.is_mysql else quoted(raw) == self.text

    def is_document(self, value):
        """Whether the document is this one. The tool prints a document that is a string as the string
        alone: a string that is the text of another document is not told from that.
        """
        if isinstance(value, str) and self.text[:1] == b"'":
            return unquoted(self.text).decode() == value
        return self.document() == value

    def document(self):
        """The JSON document that MySQL's text is of."""
        text = (unquoted(self.text) if self.text[:1] == b"'" else self.text).decode()
        try:
            return forms.strict_json(text)
        except forms.NotStrict:
            return text


class Anything:
    """What the tool does not print."""

    def __eq__(self, _other):
        return True

    def __repr__(self):
        return "not printed"

    __hash__ = None


ANYTHING = Anything()


# What SQL reads

def cell_of(name, form):
    """The SQL of a column's value as text that holds no white space and no NULL of its own."""
    kind = form.kind
    if kind == "bit":
        return f"lpad(bin({name} + 0), {form.size}, '0')"
    if kind == "year":
        return f"{name} + 0"
    if kind == "float":
        return f"cast({name} as double)"
    if kind in ("bytes", "geometry", "vector"):
        return f"hex({name})"
    if kind in ("text", "enum", "set", "json"):
        return f"hex(convert(concat({name}) using utf8mb4))"
    if kind in ("int", "decimal", "double"):
        return name
    return f"replace(cast({name} as char), ' ', 'T')"


def padded(text):
    """A moment with six digits of its second."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<6}"


def stored_geometry(raw):
    """A geometry by the server's own bytes."""
    wkb = base64.b64encode(raw[4:]).decode()
    return Obj((("srid", Num(str(int.from_bytes(raw[:4], "little")))), ("wkb", wkb)))


STORED = {
    "int": Num,
    "decimal": str,
    "float": single,
    "double": float,
    "bit": str,
    "year": lambda cell: Num(str(int(cell))),
    "date": str,
    "time": padded,
    "datetime": padded,
    "timestamp": lambda cell: padded(cell) + "Z",
    "text": lambda cell: bytes.fromhex(cell).decode(),
    "enum": lambda cell: bytes.fromhex(cell).decode(),
    "set": lambda cell: bytes.fromhex(cell).decode(),
    "json": lambda cell: forms.strict_json(bytes.fromhex(cell).decode()),
    "bytes": lambda cell: base64.b64encode(bytes.fromhex(cell)).decode(),
    "geometry": lambda cell: stored_geometry(bytes.fromhex(cell)),
    "vector": lambda cell: [single(n) for (n,) in struct.iter_unpack("<f", bytes.fromhex(cell))],
    "uuid": str, "inet4": str, "inet6": str,
}


def stored(form, cell):
    """A cell as a value that compares with `folded`."""
    return None if cell == "NULL" else STORED[form.kind](cell)


def folded(form, value):
    """An event's value as one that compares with `stored`: floats as numbers."""
    if value is None:
        return None
    if form.kind == "float":
        return single(value.text)
    if form.kind == "double":
        return float(value.text)
    if form.kind == "vector":
        return [single(number.text) for number in value]
    return value


def retyped(value, before, after):
    """A JSON value after its column's type was changed."""
    if value is None or before == after:
        return value
    if isinstance(value, Num) and after.startswith("varchar"):
        return value.text
    if before == "date":
        return f"{value}T00:00:00.000000"
    if before.startswith("decimal"):
        scale = int(after.rstrip(")").split(",")[1])
        whole, _, fraction = value.partition(".")
        return f"{whole}.{fraction:0<{scale}}"
    return value
