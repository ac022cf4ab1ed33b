//! How values are decoded: one decoder per type, chosen when a table is learned.
//!
//! A decoder reads the server's text form under the settings that the connection pins (`DateStyle`
//! ISO, `IntervalStyle` postgres, `TimeZone` UTC, `extra_float_digits` 3, `bytea_output` hex,
//! `lc_monetary` C, UTF-8) and proves while it writes that the value has the column's form. The
//! forms are listed in `TYPES.md`. Nothing here does I/O or panics on any bytes.

mod array;
pub(crate) mod binary;
mod builtin;
mod composite;
mod json;
mod names;
mod number;
mod scratch;
mod text;
mod time;

use std::sync::Arc;

use rowtide_sdk::{Decode, Form, JsonWriter, StringKind, ValueError, Written};

use binary::Binary;
use builtin::{BUILTINS, Builtin};

/// The array type of the pseudo-type `cstring`.
const CSTRING_ARRAY: u32 = 1263;

/// Levels of JSON arrays and objects that a column's type may make, so that events stay far below
/// what parsers take. What is deeper passes as text.
pub(crate) const MAX_LEVELS: u32 = 60;

/// How a type's values become JSON.
#[derive(Debug, Clone)]
pub struct Decoding {
    /// The JSON form of the values.
    pub form: Form,
    /// Writes the values.
    pub decode: Arc<dyn Decode>,
    /// Whether the server may store values out of line and leave them out of an update's log.
    pub may_be_unchanged: bool,
    /// How values that come in the server's binary form become its text; `None` where that cannot be.
    pub(crate) binary: Option<Binary>,
}

impl Decoding {
    /// The text that the server would have sent for a value in its binary form; `None` where the type
    /// has none that is understood here, or the bytes are not of the type.
    pub fn text_of(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        self.binary.as_ref()?.write(value, &mut text).map(|()| text)
    }

    /// Whether values may come in binary.
    pub fn has_binary(&self) -> bool {
        self.binary.is_some()
    }
}

/// The decoding of a built-in type (a scalar, a range, or an array of one) by its oid and modifier;
/// `None` where the oid is not a fixed one and the catalog must be asked.
pub fn builtin(oid: u32, typmod: i32) -> Option<Decoding> {
    builtin_at(oid, typmod, 0)
}

/// [`builtin`] for a value with `levels` JSON arrays and objects around it in its column.
pub(crate) fn builtin_at(oid: u32, typmod: i32, levels: u32) -> Option<Decoding> {
    if let Some(scalar) = Builtin::find(oid) {
        return Some(scalar.decoding(typmod, levels));
    }
    if oid == CSTRING_ARRAY {
        return Some(array(text(), b','));
    }
    let scalar = Builtin::find_by_array(oid)?;
    let element = scalar.decoding(typmod, levels.saturating_add(array::MAX_DIMENSIONS));
    Some(array(element, scalar.delimiter()))
}

/// Whether [`builtin`] knows the type.
pub fn is_builtin(oid: u32) -> bool {
    Builtin::find(oid).is_some() || Builtin::find_by_array(oid).is_some() || oid == CSTRING_ARRAY
}

/// The name of a built-in type with its modifier, as `format_type` prints it.
pub fn builtin_name(oid: u32, typmod: i32) -> Option<String> {
    if let Some(scalar) = Builtin::find(oid) {
        return Some(names::scalar_name(scalar.name, typmod));
    }
    if oid == CSTRING_ARRAY {
        return Some("cstring[]".to_owned());
    }
    let scalar = Builtin::find_by_array(oid)?;
    Some(format!("{}[]", names::scalar_name(scalar.name, typmod)))
}

/// The oids of all built-in types that are not arrays, in ascending order.
pub fn builtin_scalars() -> impl Iterator<Item = u32> {
    BUILTINS.iter().map(|builtin| builtin.oid)
}

/// The oids of all built-in array types.
pub fn builtin_arrays() -> impl Iterator<Item = u32> {
    BUILTINS.iter().map(|builtin| builtin.array_oid).filter(|&oid| oid != 0).chain([CSTRING_ARRAY])
}

/// Writes JSON text as a `json` column of its own is written: compact, or as a string of the text
/// where a strict parser refuses it.
///
/// # Errors
/// Where the text is not UTF-8.
pub(crate) fn write_json(raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
    json::Json { max_depth: json::MAX_DEPTH, unique_keys: false }.write(raw, out)
}

/// The server's text as it is: for types without a JSON counterpart, and for unknown ones.
pub fn opaque() -> Decoding {
    let form = Form::String(StringKind::Opaque);
    Decoding { form, decode: Arc::new(text::Text), may_be_unchanged: true, binary: None }
}

/// The server's text of a type whose binary form is a version and that text.
pub(crate) fn versioned() -> Decoding {
    Decoding { binary: Some(Binary::Versioned), ..opaque() }
}

/// A range, or several, of bounds that are decoded like this.
pub(crate) fn range(bound: Decoding, is_multiple: bool) -> Decoding {
    let kind = if is_multiple { Binary::Multirange } else { Binary::Range };
    Decoding { binary: bound.binary.map(|bound| kind(Box::new(bound))), ..opaque() }
}

/// Text without a length.
pub(crate) fn text() -> Decoding {
    let form = Form::String(StringKind::Text { max_chars: None });
    let binary = Some(Binary::Text);
    Decoding { form, decode: Arc::new(text::Text), may_be_unchanged: true, binary }
}

/// Text of the extension hstore.
pub(crate) fn hstore() -> Decoding {
    let decode = Arc::new(composite::Hstore);
    Decoding { form: Form::Map, decode, may_be_unchanged: true, binary: Some(Binary::hstore()) }
}

/// The levels that an array may add.
pub(crate) fn array_levels() -> u32 {
    array::MAX_DIMENSIONS
}

/// An array of a type.
pub(crate) fn array(element: Decoding, delimiter: u8) -> Decoding {
    let binary =
        element.binary.map(|element| Binary::Array { element: Box::new(element), delimiter });
    Decoding {
        binary,
        form: Form::Array(Box::new(element.form)),
        decode: Arc::new(array::Array { element: element.decode, delimiter }),
        may_be_unchanged: true,
    }
}

/// A composite of named attributes, each with its type's oid.
pub(crate) fn composite(attributes: Vec<(String, u32, Decoding)>) -> Decoding {
    let fields = attributes.iter().map(|(name, _, field)| (name.as_str(), field.decode.clone()));
    let decode = Arc::new(composite::Composite::new(fields));
    let binary = |(_, oid, field): &(String, u32, Decoding)| Some((*oid, field.binary.clone()?));
    let binary = attributes.iter().map(binary).collect::<Option<_>>().map(Binary::Composite);
    let field = |(name, _, field): (String, u32, Decoding)| (name, field.form);
    let form = Form::Object(attributes.into_iter().map(field).collect());
    Decoding { form, decode, may_be_unchanged: true, binary }
}
