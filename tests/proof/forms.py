"""What the JSON of a value must be, from the server's text of it.

Written from TYPES.md and the server's manual, with nothing of the product's own code, so that the two
can disagree. JSON is read exactly: numbers keep their digits, objects the order of their members.
"""

import base64
import json
import re
import sys
from dataclasses import dataclass

sys.setrecursionlimit(10_000)

DEEPEST = 124
"""Levels of a JSON value that an event holds as such."""


@dataclass(frozen=True)
class Num:
    """A JSON number by its digits."""

    text: str


@dataclass(frozen=True)
class Obj:
    """A JSON object by its members in their order."""

    pairs: tuple


class NotStrict(Exception):
    """JSON that strict parsers refuse or shorten."""


class Malformed(Exception):
    """Text that is not of its type, as far as this reader knows."""


def exact(text):
    """The value of a JSON text."""
    return json.loads(
        text, parse_int=Num, parse_float=Num, parse_constant=_no_constant,
        object_pairs_hook=lambda pairs: Obj(tuple(pairs)),
    )


def _no_constant(name):
    raise NotStrict(f"{name} is no JSON")


def _checked(value, depth):
    if depth < 0:
        raise NotStrict("too deep")
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise NotStrict("half a surrogate pair")
    if isinstance(value, list):
        for item in value:
            _checked(item, depth - 1)
    if isinstance(value, Obj):
        names = [name for name, _ in value.pairs]
        if len(set(names)) != len(names):
            raise NotStrict("a repeated key")
        for name, item in value.pairs:
            _checked(name, depth)
            _checked(item, depth - 1)
    if depth == 0 and isinstance(value, (list, Obj)):
        raise NotStrict("too deep")


def strict_json(text, deepest=DEEPEST):
    """A json or jsonb value."""
    try:
        value = exact(text)
    except (ValueError, RecursionError) as error:
        raise NotStrict(str(error)) from error
    _checked(value, deepest)
    return value


def array(text, element, delimiter):
    """`{1,NULL,{…}}`; with bounds of its own the text."""
    if text.startswith("["):
        return text
    value, rest = _array(text, 0, element, delimiter)
    if rest != len(text):
        raise Malformed("text after an array")
    return value


def _array(text, at, element, delimiter):
    if text[at] != "{":
        raise Malformed("no array")
    at += 1
    items = []
    if text[at] == "}":
        return items, at + 1
    while True:
        if text[at] == "{":
            item, at = _array(text, at, element, delimiter)
        elif text[at] == '"':
            inner, at = _quoted(text, at + 1, doubled=False)
            item = value(inner, element)
        else:
            end = at
            while text[end] not in (delimiter, "}"):
                end += 1
            inner, at = text[at:end], end
            item = None if inner == "NULL" else value(inner, element)
        items.append(item)
        if text[at] == "}":
            return items, at + 1
        if text[at] != delimiter:
            raise Malformed("no delimiter")
        at += 1


def _quoted(text, at, doubled):
    """The text up to the closing quote, and where it ends."""
    out = []
    while True:
        char = text[at]
        if char == "\\":
            out.append(text[at + 1])
            at += 2
        elif char == '"' and doubled and text[at + 1:at + 2] == '"':
            out.append('"')
            at += 2
        elif char == '"':
            return "".join(out), at + 1
        else:
            out.append(char)
            at += 1


def composite(text, fields):
    """`(a,"b",)`; with another number of fields than the type has, the text."""
    found, at = [], 1
    if text[0] != "(" or text[-1] != ")":
        raise Malformed("no composite")
    while True:
        if text[at] in ",)":
            found.append(None)
        elif text[at] == '"':
            inner, at = _quoted(text, at + 1, doubled=True)
            found.append(inner)
        else:
            end = at
            while text[end] not in ",)":
                end += 1
            found.append(text[at:end])
            at = end
        if text[at] == ")":
            break
        at += 1
    if len(found) != len(fields):
        return text
    return Obj(tuple(
        (name, None if inner is None else value(inner, form))
        for inner, (name, form) in zip(found, fields)
    ))


def hstore(text):
    """`"a"=>"1", "b"=>NULL`."""
    pairs, at = [], 0
    while at < len(text):
        name, at = _quoted(text, at + 1, doubled=False)
        if text[at:at + 2] != "=>":
            raise Malformed("no hstore")
        at += 2
        if text.startswith("NULL", at):
            item, at = None, at + 4
        else:
            item, at = _quoted(text, at + 1, doubled=False)
        pairs.append((name, item))
        if text[at:at + 2] == ", ":
            at += 2
    return Obj(tuple(pairs))


MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(\+00)?( BC)?")
CLOCK = re.compile(r"(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?([+-][\d:]+)?")


def moment(text, is_zoned):
    """A timestamp, with all six digits of its second."""
    if text in ("infinity", "-infinity"):
        return text
    found = MOMENT.fullmatch(text)
    if not found or bool(found[4]) != is_zoned:
        raise Malformed("no timestamp")
    mark = "Z" if is_zoned else ""
    return f"{found[1]}T{found[2]}.{(found[3] or ''):0<6}{mark}{found[5] or ''}"


def clock(text, is_zoned):
    """A time of day, likewise."""
    found = CLOCK.fullmatch(text)
    if not found or bool(found[3]) != is_zoned:
        raise Malformed("no time")
    return f"{found[1]}.{(found[2] or ''):0<6}{found[3] or ''}"


def one_byte(text):
    """The type "char": bytes above 127 in octal digits, whatever the server prints."""
    if len(text) == 1 and "\udc80" <= text <= "\udcff":
        return f"\\{ord(text) - 0xdc00:03o}"
    return text


PLAIN = {
    "int": Num,
    "float": lambda text: text if text in ("NaN", "Infinity", "-Infinity") else Num(text),
    "bool": lambda text: {"t": True, "f": False, "true": True, "false": False}[text],
    "text": str,
    "decimal": str,
    "date": str,
    "money": lambda text: text.replace("$", "").replace(",", ""),
    "bytes": lambda text: base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode(),
    "time": lambda text: clock(text, False),
    "timetz": lambda text: clock(text, True),
    "timestamp": lambda text: moment(text, False),
    "timestamptz": lambda text: moment(text, True),
    "json": strict_json,
    "hstore": hstore,
    "char": one_byte,
}


def value(text, form):
    """The JSON that a text must become. `NotStrict` where a JSON inside it cannot stand as such."""
    kind = form[0]
    if kind == "array":
        return array(text, form[1], form[2])
    if kind == "composite":
        return composite(text, form[1])
    return PLAIN[kind](text)


def retyped(old, before, after):
    """A JSON value after its column's type was changed."""
    if old is None or before == after:
        return old
    if before in ("integer", "smallint") and after == "text":
        return old.text
    if before == "date":
        day, era = (old[:-3], " BC") if old.endswith(" BC") else (old, "")
        return old if "infinity" in old else f"{day}T00:00:00.000000{era}"
    return old
