//! Percent-encoding in the URLs of databases.

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a part of a URL cannot be decoded. Quotes nothing of it: it may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EscapeError {
    /// A percent sign that begins no escape.
    #[error("has a % that is not followed by two hexadecimal digits")]
    Percent,
    /// Escapes of bytes that are no text.
    #[error("has escapes (such as %FF) that are no UTF-8 text together")]
    NotUtf8,
    /// A NUL, which no server takes.
    #[error("has %00, which no name and no password can hold")]
    Nul,
}

impl EscapeError {
    /// What mends it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Percent => "write a % itself as %25",
            Self::NotUtf8 => "escape the bytes of its UTF-8 form: ä is %C3%A4",
            Self::Nul => "take the %00 out",
        }
    }
}

/// A part of a URL without its escapes.
///
/// # Errors
/// Where a percent sign is no escape, or what they stand for is no text.
pub fn unescaped(text: &str) -> Result<String, EscapeError> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return Err(EscapeError::Percent);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| EscapeError::NotUtf8)?;
    if decoded.contains('\0') {
        return Err(EscapeError::Nul);
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_or_refused() {
        for (text, plain) in [("", ""), ("a%25b", "a%b"), ("%C3%A4", "ä"), ("ä%2f", "ä/")] {
            assert_eq!(unescaped(text).as_deref(), Ok(plain));
        }
        for text in ["%", "50%off", "a%2", "%zz", "%%25", "%ä1"] {
            assert_eq!(unescaped(text), Err(EscapeError::Percent), "{text}");
        }
        assert_eq!(unescaped("%ff"), Err(EscapeError::NotUtf8));
        assert_eq!(unescaped("a%00"), Err(EscapeError::Nul));
    }
}
