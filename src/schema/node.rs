//! JSON text as instances for the `jsonschema` crate, without a tree.
//!
//! The encoder's output is validated where it lies: a [`TextNode`] is a slice that starts at a value,
//! and a [`RowView`] is a row whose value slices are already known. Text comes from our own writer
//! and is well-formed; on anything else the scanner stays total and reads `null`.

use std::borrow::Cow;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object};
use serde_json::{Number, Value};

/// The representation: JSON text in place.
#[derive(Debug)]
pub struct TextJson;

/// A row by columns: names beside the JSON text of the values, absent columns left out.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    /// Column names.
    pub names: &'a [Box<str>],
    /// For each column of the row: index into `names`, start and end in `data`.
    pub spans: &'a [(u32, u32, u32)],
    /// The encoded text.
    pub data: &'a [u8],
}

impl<'a> RowView<'a> {
    fn value(&self, start: u32, end: u32) -> TextNode<'a> {
        TextNode::Text(self.data.get(start as usize..end as usize).unwrap_or(b"null"))
    }

    fn name(&self, index: u32) -> &'a str {
        self.names.get(index as usize).map_or("", |name| name)
    }
}

/// One JSON value.
#[derive(Debug, Clone, Copy)]
pub enum TextNode<'a> {
    /// Text whose first byte starts the value; it may go on behind it.
    Text(&'a [u8]),
    /// A row.
    Row(&'a RowView<'a>),
    /// An unescaped string (property names).
    Str(&'a str),
}

/// The length of the JSON value at the start of `text`.
fn value_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_len(text),
        Some(b'{' | b'[') => container_len(text),
        Some(_) => {
            let is_token =
                |byte: &u8| matches!(byte, b'a'..=b'z' | b'E' | b'0'..=b'9' | b'-' | b'+' | b'.');
            text.iter().position(|byte| !is_token(byte)).unwrap_or(text.len())
        }
        None => 0,
    }
}

fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

fn container_len(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at += text.get(at..).map_or(1, string_len);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn unquote(text: &[u8]) -> Cow<'_, str> {
    let len = string_len(text);
    let inner = text.get(1..len.saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner).is_none() {
        return match std::str::from_utf8(inner) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(inner),
        };
    }
    let quoted = text.get(..len).unwrap_or_default();
    serde_json::from_slice::<String>(quoted).map_or(Cow::Borrowed(""), Cow::Owned)
}

/// Whether a byte of UTF-8 goes on with a character.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Json for TextJson {
    type Node<'a> = TextNode<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = String;

    fn prepare_key(key: &str) -> Self::PreparedKey {
        key.into()
    }

    fn with_string_node<T>(
        buffer: &mut String,
        string: &str,
        f: impl FnOnce(TextNode<'_>) -> T,
    ) -> T {
        buffer.clear();
        buffer.push_str(string);
        f(TextNode::Str(buffer))
    }
}

impl<'a> TextNode<'a> {
    fn first(&self) -> u8 {
        match self {
            TextNode::Text(text) => text.first().copied().unwrap_or(b'n'),
            TextNode::Row(_) => b'{',
            TextNode::Str(_) => b'"',
        }
    }

    /// The text of exactly this value.
    fn exact(text: &'a [u8]) -> &'a [u8] {
        text.get(..value_len(text)).unwrap_or_default()
    }
}

/// A number as it is written.
#[derive(Debug)]
pub struct TextNumber<'a>(&'a str);

impl JsonNumber for TextNumber<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn to_number(&self) -> Cow<'_, Number> {
        // A number beyond the range of f64 has no exact counterpart here; the largest stands in, so
        // that bounds are still judged on the right side.
        let number = serde_json::from_str(self.0).ok().or_else(|| {
            let limit = if self.0.starts_with('-') { f64::MIN } else { f64::MAX };
            Number::from_f64(limit)
        });
        Cow::Owned(number.unwrap_or_else(|| Number::from(0)))
    }

    fn is_integer(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
            || self.0.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
    }

    fn is_written_as_integer(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
    }
}

impl<'a> Node<'a, TextJson> for TextNode<'a> {
    type Object = TextObject<'a>;
    type Array = TextArray<'a>;
    type Number = TextNumber<'a>;

    fn as_object(&self) -> Option<TextObject<'a>> {
        match self {
            TextNode::Row(row) => Some(TextObject::Row(row)),
            TextNode::Text(text) if text.first() == Some(&b'{') => Some(TextObject::Text(text)),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<TextArray<'a>> {
        match self {
            TextNode::Text(text) if text.first() == Some(&b'[') => Some(TextArray(text)),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            TextNode::Str(text) => Some(Cow::Borrowed(text)),
            TextNode::Text(text) if text.first() == Some(&b'"') => Some(unquote(text)),
            _ => None,
        }
    }

    fn string_length(&self) -> Option<u64> {
        let TextNode::Text(text @ [b'"', rest @ ..]) = self else {
            return self.as_string().map(|text| text.chars().count() as u64);
        };
        match memchr::memchr2(b'"', b'\\', rest).and_then(|end| rest.get(..=end)) {
            // Nothing is escaped: every byte that continues no character begins one.
            Some([inner @ .., b'"']) => {
                Some(inner.iter().filter(|byte| !is_continuation(**byte)).count() as u64)
            }
            _ => Some(unquote(text).chars().count() as u64),
        }
    }

    fn as_number(&self) -> Option<TextNumber<'a>> {
        match self {
            TextNode::Text(text) if matches!(self.first(), b'-' | b'0'..=b'9') => {
                // Text cut short may end in a sign or a point; it is no number then.
                let exact = Self::exact(text);
                let is_whole = exact.last().is_some_and(u8::is_ascii_digit);
                std::str::from_utf8(exact).ok().filter(|_| is_whole).map(TextNumber)
            }
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self.first() {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.json_type() == JsonType::Null
    }

    fn json_type(&self) -> JsonType {
        match self.first() {
            b'{' => JsonType::Object,
            b'[' => JsonType::Array,
            b'"' => JsonType::String,
            b't' | b'f' => JsonType::Boolean,
            _ if self.is_number() => JsonType::Number,
            _ => JsonType::Null,
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        let value = match self {
            TextNode::Str(text) => Some(Value::String((*text).to_owned())),
            TextNode::Text(text) => serde_json::from_slice(Self::exact(text)).ok(),
            TextNode::Row(row) => Some(Value::Object(
                row.spans
                    .iter()
                    .map(|&(name, start, end)| {
                        (row.name(name).to_owned(), row.value(start, end).to_value().into_owned())
                    })
                    .collect(),
            )),
        };
        Cow::Owned(value.unwrap_or(Value::Null))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        let address = match self {
            TextNode::Text(text) => text.as_ptr().addr(),
            TextNode::Row(row) => std::ptr::from_ref::<RowView<'_>>(row).addr(),
            TextNode::Str(text) => text.as_ptr().addr(),
        };
        Some(NodeIdentity::new(address))
    }
}

/// An object.
#[derive(Debug, Clone, Copy)]
pub enum TextObject<'a> {
    /// Text from its opening brace.
    Text(&'a [u8]),
    /// A row.
    Row(&'a RowView<'a>),
}

/// Walks the members of an object.
#[derive(Debug)]
pub enum Members<'a> {
    /// The text behind the opening brace or the last member.
    Text(&'a [u8]),
    /// A row and the next of its columns.
    Row(&'a RowView<'a>, usize),
}

/// Skips white space and the given punctuation.
fn skip<'a>(mut text: &'a [u8], punctuation: &[u8]) -> &'a [u8] {
    while let Some((byte, rest)) = text.split_first() {
        if !byte.is_ascii_whitespace() && !punctuation.contains(byte) {
            break;
        }
        text = rest;
    }
    text
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, TextNode<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Members::Row(row, at) => {
                let &(name, start, end) = row.spans.get(*at)?;
                *at += 1;
                Some((Cow::Borrowed(row.name(name)), row.value(start, end)))
            }
            Members::Text(rest) => {
                let at_name = skip(rest, b",");
                if at_name.first() != Some(&b'"') {
                    return None;
                }
                let name = unquote(at_name);
                let at_value = skip(at_name.get(string_len(at_name)..)?, b":");
                *rest = at_value.get(value_len(at_value)..)?;
                Some((name, TextNode::Text(at_value)))
            }
        }
    }
}

impl<'a> Object<'a, TextJson> for TextObject<'a> {
    type Node = TextNode<'a>;
    type MemberName = Cow<'a, str>;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        match self {
            TextObject::Row(row) => row.spans.len(),
            TextObject::Text(_) => self.members().count(),
        }
    }

    fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    fn get(&self, key: &Box<str>) -> Option<TextNode<'a>> {
        match self {
            TextObject::Row(row) => row
                .spans
                .iter()
                .find(|&&(name, _, _)| row.name(name) == &**key)
                .map(|&(_, start, end)| row.value(start, end)),
            TextObject::Text(_) => {
                self.members().find(|(name, _)| name == &**key).map(|(_, value)| value)
            }
        }
    }

    fn members(&self) -> Members<'a> {
        match self {
            TextObject::Row(row) => Members::Row(row, 0),
            TextObject::Text(text) => Members::Text(text.get(1..).unwrap_or_default()),
        }
    }
}

/// An array, as text from its opening bracket.
#[derive(Debug, Clone, Copy)]
pub struct TextArray<'a>(&'a [u8]);

/// Walks the elements of an array.
#[derive(Debug)]
pub struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = TextNode<'a>;

    fn next(&mut self) -> Option<TextNode<'a>> {
        let at = skip(self.0, b",");
        if matches!(at.first(), None | Some(b']')) {
            return None;
        }
        self.0 = at.get(value_len(at)..)?;
        Some(TextNode::Text(at))
    }
}

impl<'a> Array<'a, TextJson> for TextArray<'a> {
    type Node = TextNode<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.elements().count()
    }

    fn elements(&self) -> Elements<'a> {
        Elements(self.0.get(1..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schemas() -> Vec<Value> {
        let texts = [
            r#"{"type":"object","required":["a"],"properties":{"a":{"type":"integer","minimum":0}},"additionalProperties":{"type":["string","null","number","array","object","boolean"]}}"#,
            r#"{"type":"array","items":{"type":["string","integer"]},"uniqueItems":true}"#,
            r#"{"anyOf":[{"type":"string","maxLength":3,"pattern":"^[a-z\"]*$"},{"type":"number","multipleOf":2},{"const":null},{"enum":[true,[1,2.0],{"a":1}]}]}"#,
            r#"{"type":"object","propertyNames":{"maxLength":2},"minProperties":1,"patternProperties":{"^a":{"type":"string"}}}"#,
            r##"{"$ref":"#/$defs/tree","$defs":{"tree":{"type":["array","integer"],"items":{"$ref":"#/$defs/tree"}}}}"##,
        ];
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    fn arbitrary_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            (0..6_i64).prop_map(Value::from),
            "[ab\"\\\\\n,:\\]}{é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[ab\"\\\\,:}é]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_and_tree_agree_on_any_document(document in arbitrary_json(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_vec_pretty(&document).unwrap()
            } else {
                serde_json::to_vec(&document).unwrap()
            };
            prop_assert_eq!(&*TextNode::Text(&text).to_value(), &document);
            for schema in schemas() {
                let by_tree = jsonschema::options().build(&schema).unwrap();
                let by_text = jsonschema::options_for::<TextJson>().build(&schema).unwrap();
                prop_assert_eq!(
                    by_tree.is_valid(&document),
                    by_text.is_valid(TextNode::Text(&text)),
                    "{} against {}", document, schema
                );
            }
        }

        #[test]
        fn text_cut_anywhere_reads_without_panic(
            document in arbitrary_json(), cut in any::<prop::sample::Index>()
        ) {
            let text = serde_json::to_vec(&document).unwrap();
            let cut = &text[..cut.index(text.len() + 1)];
            for schema in schemas() {
                let by_text = jsonschema::options_for::<TextJson>().build(&schema).unwrap();
                let _verdict = by_text.is_valid(TextNode::Text(cut));
            }
        }
    }
}
