//! Text, from the character set of its column.

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

use crate::charset::Charset;

/// `CHAR`, `VARCHAR` and `TEXT`.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) charset: Charset,
}

impl Decode for Text {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = self.charset.to_utf8(raw);
        let text = text.map_err(|_| ValueError::Malformed("text of the column's character set"))?;
        out.utf8_string(text.as_bytes())?;
        Ok(Written::Form)
    }
}
