//! Text, from the character set of its column.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use crate::charset::Charset;

/// `CHAR`, `VARCHAR` and `TEXT`.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) charset: Charset,
    /// So many characters a value has at most, where the type says so.
    pub(super) max_chars: Option<u32>,
}

impl Decode for Text {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = self.charset.to_utf8(raw);
        let text = text.map_err(|_| ValueError::Malformed("text of the column's character set"))?;
        if let Some(max) = self.max_chars.and_then(|max| usize::try_from(max).ok())
            // No character is shorter than a byte.
            && text.len() > max
            && text.chars().count() > max
        {
            return Err(ValueError::Malformed("text of the column's length"));
        }
        out.utf8_string(text.as_bytes())?;
        Ok(Written::Form)
    }
}
