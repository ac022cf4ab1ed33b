//! Type names as `format_type` prints them.

/// Packed into the modifier of `interval`: every field, full precision.
const INTERVAL_FULL_RANGE: i32 = 0x7fff;
const INTERVAL_FULL_PRECISION: i32 = 0xffff;

/// The length that `varchar(n)` and `char(n)` pack into their modifier.
pub(super) fn max_chars(typmod: i32) -> Option<u32> {
    typmod.checked_sub(4).filter(|&n| n > 0).and_then(|n| u32::try_from(n).ok())
}

/// The name of a built-in scalar type with its modifier.
pub(super) fn scalar_name(name: &'static str, typmod: i32) -> String {
    if typmod < 0 {
        return name.to_owned();
    }
    match name {
        "\"bit\"" => format!("bit({typmod})"),
        "bit varying" => format!("bit varying({typmod})"),
        "bpchar" | "character varying" => match max_chars(typmod) {
            Some(n) => format!("{}({n})", if name == "bpchar" { "character" } else { name }),
            None => name.to_owned(),
        },
        "numeric" => match typmod.checked_sub(4).filter(|&packed| packed >= 0) {
            Some(packed) => {
                let precision = packed >> 16 & 0xffff;
                // Eleven bits, signed.
                let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
                format!("numeric({precision},{scale})")
            }
            None => name.to_owned(),
        },
        "interval" => interval_name(typmod),
        _ => match name.split_once(' ') {
            Some((head, zone)) if zone.ends_with("time zone") => {
                format!("{head}({typmod}) {zone}")
            }
            _ => name.to_owned(),
        },
    }
}

fn interval_name(typmod: i32) -> String {
    const MONTH: i32 = 1 << 1;
    const YEAR: i32 = 1 << 2;
    const DAY: i32 = 1 << 3;
    const HOUR: i32 = 1 << 10;
    const MINUTE: i32 = 1 << 11;
    const SECOND: i32 = 1 << 12;
    const NAMES: [(i32, &str); 13] = [
        (YEAR, " year"),
        (MONTH, " month"),
        (DAY, " day"),
        (HOUR, " hour"),
        (MINUTE, " minute"),
        (SECOND, " second"),
        (YEAR | MONTH, " year to month"),
        (DAY | HOUR, " day to hour"),
        (DAY | HOUR | MINUTE, " day to minute"),
        (DAY | HOUR | MINUTE | SECOND, " day to second"),
        (HOUR | MINUTE, " hour to minute"),
        (HOUR | MINUTE | SECOND, " hour to second"),
        (MINUTE | SECOND, " minute to second"),
    ];
    let range = typmod >> 16 & INTERVAL_FULL_RANGE;
    let fields = NAMES.iter().find(|(fields, _)| *fields == range).map_or("", |(_, name)| name);
    match typmod & INTERVAL_FULL_PRECISION {
        INTERVAL_FULL_PRECISION => format!("interval{fields}"),
        precision => format!("interval{fields}({precision})"),
    }
}
