//! The types with fixed oids (`pg_type.dat` of PostgreSQL 14 to 18) and their decoders.

use std::sync::Arc;

use rowtide_sdk::{Decode, Form, StringKind};

use super::binary::Binary;
use super::names::max_chars;
use super::{Decoding, json, number, text, time};

/// How a built-in scalar is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Unsigned, 32 bits: oid, xid, cid.
    Oid,
    /// Unsigned, 64 bits.
    Xid8,
    Float,
    Numeric,
    Money,
    Text,
    LimitedText,
    Char,
    Opaque,
    Bits,
    Uuid,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Json,
    Jsonb,
}

/// A scalar type with a fixed oid.
#[derive(Debug)]
pub(super) struct Builtin {
    pub(super) oid: u32,
    /// As `format_type` prints it without a modifier.
    pub(super) name: &'static str,
    /// The oid of its array type, or 0.
    pub(super) array_oid: u32,
    /// Whether the server may store values out of line.
    pub(super) toastable: bool,
    pub(super) kind: Kind,
}

const fn t(oid: u32, name: &'static str, array_oid: u32, toastable: bool, kind: Kind) -> Builtin {
    Builtin { oid, name, array_oid, toastable, kind }
}

impl Builtin {
    /// The type with this oid.
    pub(super) fn find(oid: u32) -> Option<&'static Self> {
        BUILTINS
            .binary_search_by_key(&oid, |builtin| builtin.oid)
            .ok()
            .and_then(|index| BUILTINS.get(index))
    }

    /// The type whose array type has this oid.
    pub(super) fn find_by_array(array_oid: u32) -> Option<&'static Self> {
        BUILTINS.iter().find(|builtin| builtin.array_oid == array_oid && array_oid != 0)
    }

    /// What stands between the elements of its arrays.
    pub(super) fn delimiter(&self) -> u8 {
        if self.oid == BOX { b';' } else { b',' }
    }

    /// Form and decoder of a value with `levels` JSON arrays and objects around it in its column.
    pub(super) fn decoding(&self, typmod: i32, levels: u32) -> Decoding {
        let (form, decode) = self.kind.form_and_decoder(typmod, levels);
        let binary = Binary::of(self.oid);
        Decoding { form, decode, may_be_unchanged: self.toastable, binary }
    }
}

/// The form and decoder of an integer type.
fn integer(name: &'static str, max_negative: u64, max: u64) -> (Form, Arc<dyn Decode>) {
    let form = Form::Integer { min: -i128::from(max_negative), max: i128::from(max) };
    (form, Arc::new(number::Integer { name, max_negative, max }))
}

fn signed(name: &'static str, max: u64) -> (Form, Arc<dyn Decode>) {
    integer(name, max.saturating_add(1), max)
}

impl Kind {
    fn form_and_decoder(self, typmod: i32, levels: u32) -> (Form, Arc<dyn Decode>) {
        let string = |kind: StringKind, decode: Arc<dyn Decode>| (Form::String(kind), decode);
        let chars = |max_chars| StringKind::Text { max_chars };
        match self {
            Bool => (Form::Boolean, Arc::new(number::Bool)),
            Int2 => signed("smallint", 0x7fff),
            Int4 => signed("integer", 0x7fff_ffff),
            Int8 => signed("bigint", 0x7fff_ffff_ffff_ffff),
            Oid => integer("unsigned 32-bit integer", 0, u64::from(u32::MAX)),
            Xid8 => integer("unsigned 64-bit integer", 0, u64::MAX),
            Float => (Form::Float, Arc::new(number::Float)),
            Numeric => string(StringKind::Decimal, Arc::new(number::Numeric)),
            Money => string(StringKind::Decimal, Arc::new(number::Money)),
            Text => string(chars(None), Arc::new(text::Text)),
            LimitedText => match max_chars(typmod) {
                Some(n) => string(chars(Some(n)), Arc::new(text::LimitedText { max_chars: n })),
                None => string(chars(None), Arc::new(text::Text)),
            },
            Char => string(chars(None), Arc::new(text::Char)),
            Opaque => string(StringKind::Opaque, Arc::new(text::Text)),
            Bits => string(StringKind::Bits, Arc::new(text::Bits)),
            Uuid => string(StringKind::Uuid, Arc::new(text::Uuid)),
            Bytea => string(StringKind::Bytes, Arc::new(text::Bytea)),
            Date => string(StringKind::Date, Arc::new(time::Date)),
            Time => string(StringKind::Time, Arc::new(time::Time)),
            TimeTz => string(StringKind::TimeTz, Arc::new(time::TimeTz)),
            Timestamp => string(StringKind::Timestamp, Arc::new(time::Timestamp::WITHOUT_ZONE)),
            TimestampTz => string(StringKind::TimestampTz, Arc::new(time::Timestamp::WITH_ZONE)),
            Interval => string(StringKind::Interval, Arc::new(time::Interval)),
            Json => (Form::Json, json(levels, false)),
            Jsonb => (Form::Json, json(levels, true)),
        }
    }
}

fn json(levels: u32, unique_keys: bool) -> Arc<dyn Decode> {
    Arc::new(json::Json { max_depth: json::MAX_DEPTH.saturating_sub(levels), unique_keys })
}

/// `box`, whose arrays have a delimiter of their own.
const BOX: u32 = 603;

use Kind::{
    Bits, Bool, Bytea, Char, Date, Float, Int2, Int4, Int8, Interval, Json, Jsonb, LimitedText,
    Money, Numeric, Oid, Opaque, Text, Time, TimeTz, Timestamp, TimestampTz, Uuid, Xid8,
};

/// Every built-in scalar, by oid.
pub(super) const BUILTINS: &[Builtin] = &[
    t(16, "boolean", 1000, false, Bool),
    t(17, "bytea", 1001, true, Bytea),
    t(18, "\"char\"", 1002, false, Char),
    t(19, "name", 1003, false, Text),
    t(20, "bigint", 1016, false, Int8),
    t(21, "smallint", 1005, false, Int2),
    t(22, "int2vector", 1006, false, Opaque),
    t(23, "integer", 1007, false, Int4),
    t(24, "regproc", 1008, false, Opaque),
    t(25, "text", 1009, true, Text),
    t(26, "oid", 1028, false, Oid),
    t(27, "tid", 1010, false, Opaque),
    t(28, "xid", 1011, false, Oid),
    t(29, "cid", 1012, false, Oid),
    t(30, "oidvector", 1013, false, Opaque),
    t(114, "json", 199, true, Json),
    t(142, "xml", 143, true, Text),
    t(194, "pg_node_tree", 0, true, Opaque),
    t(600, "point", 1017, false, Opaque),
    t(601, "lseg", 1018, false, Opaque),
    t(602, "path", 1019, true, Opaque),
    t(603, "box", 1020, false, Opaque),
    t(604, "polygon", 1027, true, Opaque),
    t(628, "line", 629, false, Opaque),
    t(650, "cidr", 651, true, Opaque),
    t(700, "real", 1021, false, Float),
    t(701, "double precision", 1022, false, Float),
    t(718, "circle", 719, false, Opaque),
    t(774, "macaddr8", 775, false, Opaque),
    t(790, "money", 791, false, Money),
    t(829, "macaddr", 1040, false, Opaque),
    t(869, "inet", 1041, true, Opaque),
    t(1033, "aclitem", 1034, false, Opaque),
    t(1042, "bpchar", 1014, true, LimitedText),
    t(1043, "character varying", 1015, true, LimitedText),
    t(1082, "date", 1182, false, Date),
    t(1083, "time without time zone", 1183, false, Time),
    t(1114, "timestamp without time zone", 1115, false, Timestamp),
    t(1184, "timestamp with time zone", 1185, false, TimestampTz),
    t(1186, "interval", 1187, false, Interval),
    t(1266, "time with time zone", 1270, false, TimeTz),
    t(1560, "\"bit\"", 1561, true, Bits),
    t(1562, "bit varying", 1563, true, Bits),
    t(1700, "numeric", 1231, true, Numeric),
    t(1790, "refcursor", 2201, true, Text),
    t(2202, "regprocedure", 2207, false, Opaque),
    t(2203, "regoper", 2208, false, Opaque),
    t(2204, "regoperator", 2209, false, Opaque),
    t(2205, "regclass", 2210, false, Opaque),
    t(2206, "regtype", 2211, false, Opaque),
    t(2950, "uuid", 2951, false, Uuid),
    t(2970, "txid_snapshot", 2949, true, Opaque),
    t(3220, "pg_lsn", 3221, false, Opaque),
    t(3361, "pg_ndistinct", 0, true, Opaque),
    t(3402, "pg_dependencies", 0, true, Opaque),
    t(3614, "tsvector", 3643, true, Opaque),
    t(3615, "tsquery", 3645, false, Opaque),
    t(3642, "gtsvector", 3644, false, Opaque),
    t(3734, "regconfig", 3735, false, Opaque),
    t(3769, "regdictionary", 3770, false, Opaque),
    t(3802, "jsonb", 3807, true, Jsonb),
    t(3904, "int4range", 3905, true, Opaque),
    t(3906, "numrange", 3907, true, Opaque),
    t(3908, "tsrange", 3909, true, Opaque),
    t(3910, "tstzrange", 3911, true, Opaque),
    t(3912, "daterange", 3913, true, Opaque),
    t(3926, "int8range", 3927, true, Opaque),
    t(4072, "jsonpath", 4073, true, Opaque),
    t(4089, "regnamespace", 4090, false, Opaque),
    t(4096, "regrole", 4097, false, Opaque),
    t(4191, "regcollation", 4192, false, Opaque),
    t(4451, "int4multirange", 6150, true, Opaque),
    t(4532, "nummultirange", 6151, true, Opaque),
    t(4533, "tsmultirange", 6152, true, Opaque),
    t(4534, "tstzmultirange", 6153, true, Opaque),
    t(4535, "datemultirange", 6155, true, Opaque),
    t(4536, "int8multirange", 6157, true, Opaque),
    t(4600, "pg_brin_bloom_summary", 0, true, Opaque),
    t(4601, "pg_brin_minmax_multi_summary", 0, true, Opaque),
    t(5017, "pg_mcv_list", 0, true, Opaque),
    t(5038, "pg_snapshot", 5039, true, Opaque),
    t(5069, "xid8", 271, false, Xid8),
];
