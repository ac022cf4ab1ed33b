//! What applications say of a statement in a comment, as sqlcommenter writes it:
//! `/*key='value',traceparent='00-…'*/`, keys and values URL-encoded.

use percent_encoding::percent_decode;

use super::Session;
use super::lexer::{Lexer, Token};
use super::reading::lexed;

/// Where the context of a trace is.
const TRACEPARENT: &str = "traceparent";

/// The keys and values of a statement's last such comment, in its order. Nothing else of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Those of a statement, which may come from a QUERY, ROWS_QUERY or ANNOTATE_ROWS event; the session
    /// says how to tell comments from strings. A `traceparent` that is none is left out.
    pub fn of(statement: &[u8], session: &Session<'_>) -> Option<Self> {
        // The usual place, which is found without reading a large statement from its start.
        last_comment(statement).and_then(parse).or_else(|| {
            if is_uncertain(statement) {
                return None;
            }
            let (text, charset) = lexed(statement, session.charset)?;
            memchr::memmem::find(&text, b"/*")?;
            let mut lexer = Lexer::new(&text, charset, session);
            let mut found = None;
            while let Some(token) = lexer.next() {
                if let Token::Comment(comment) = token {
                    found = parse(comment).or(found);
                }
            }
            found
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// The keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The context of the trace that the statement was part of, by W3C's Trace Context.
    pub fn traceparent(&self) -> Option<&str> {
        self.get(TRACEPARENT)
    }
}

/// Whether it depends on the session where a string of the statement ends: on its `sql_mode`
/// (NO_BACKSLASH_ESCAPES) and on its character set, of which a backslash may be a second byte. The log does
/// not tell what either was at this statement, and in a string may be what its writer made look like a comment.
fn is_uncertain(statement: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', statement)
        .any(|at| matches!(statement.get(at + 1), Some(b'\'' | b'"' | b'\\')))
}

/// The inside of the comment that the statement ends with.
fn last_comment(statement: &[u8]) -> Option<&[u8]> {
    let is_behind = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';';
    let end = statement.iter().rposition(|byte| !is_behind(byte))?;
    let inside = statement.get(..=end)?.strip_suffix(b"*/")?;
    let start = memchr::memmem::rfind(inside, b"/*")?;
    inside.get(start + 2..)
}

/// The tags of the inside of a comment; `None` where it holds anything else.
fn parse(comment: &[u8]) -> Option<Tags> {
    // Hints, and comments that are executed.
    if comment.starts_with(b"+") || comment.starts_with(b"!") || comment.starts_with(b"M!") {
        return None;
    }
    let mut rest = comment.trim_ascii();
    let mut tags = Vec::new();
    loop {
        let (key, behind) = rest.split_at_checked(memchr::memchr(b'=', rest)?)?;
        let behind = behind.strip_prefix(b"=")?.trim_ascii_start().strip_prefix(b"'")?;
        let end = value_end(behind)?;
        let (value, behind) = behind.split_at_checked(end)?;
        let key = decoded(key.trim_ascii())?;
        if key.is_empty() || key.contains(['\'', '"']) {
            return None;
        }
        match decoded(value) {
            Some(value) if key != TRACEPARENT || is_traceparent(&value) => tags.push((key, value)),
            _ => {}
        }
        let behind = behind.strip_prefix(b"'")?.trim_ascii_start();
        if behind.is_empty() {
            break;
        }
        rest = behind.strip_prefix(b",")?.trim_ascii_start();
    }
    (!tags.is_empty()).then_some(Tags(tags))
}

/// Where the quote is that ends a value; one behind a backslash does not.
fn value_end(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match value.get(at)? {
            b'\'' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Without backslashes and URL encoding; `None` where that is no UTF-8.
fn decoded(encoded: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    Some(percent_decode(&plain).decode_utf8().ok()?.into_owned())
}

/// `version-trace-parent-flags` in small hexadecimal digits. Later versions may have more behind.
fn is_traceparent(value: &str) -> bool {
    let mut parts = value.split('-');
    let mut part = |len: usize| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == len && part.bytes().all(is_hex))
    };
    let (version, trace, parent, flags) = (part(2), part(32), part(16), part(2));
    let is_set = |id: Option<&str>| id.is_some_and(|id| id.bytes().any(|byte| byte != b'0'));
    let is_last = parts.next().is_none();
    is_set(trace)
        && is_set(parent)
        && flags.is_some()
        && version.is_some_and(|version| version != "ff" && (is_last || version != "00"))
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;
    use crate::charset::Charset;

    const PARENT: &str = "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01";

    fn tags(statement: &str) -> Option<Vec<(String, String)>> {
        let session = Session {
            dialect: Dialect::Mysql,
            sql_mode: 0,
            charset: Some(Charset::Utf8mb4),
            database: "",
        };
        Tags::of(statement.as_bytes(), &session).map(|tags| tags.0)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_last_comment_with_pairs_is_read() {
        let one = pairs(&[("a", "b")]);
        for statement in [
            "UPDATE t SET a = 1 /*a='b'*/",
            "UPDATE t SET a = 1 /* a = 'b' */ ;\n",
            "/*a='b'*/ UPDATE t SET a = 1",
            "UPDATE t /*a='x'*/ SET c = '/*a=''y''*/' /*a='b'*/ WHERE id = 1",
            "UPDATE t SET a = 1 /*a='b'*/ /* generated by server */",
            "UPDATE t SET a = 'C:\\d /*c=1*/', b = 2 -- it's\n/*a='b'*/ + 1",
            "UPDATE t SET a = '\\' /*c=1*/' /*a='b'*/",
        ] {
            assert_eq!(tags(statement), one, "{statement}");
        }
        for statement in [
            "UPDATE t SET a = '/*a=\\'b\\'*/'",
            "UPDATE t SET a = \"/*a='b'*/\"",
            "UPDATE t SET a = 1 -- /*a='b'\n",
            "UPDATE t SET a = 1 /* note */",
            "UPDATE t SET a = 1 /*a='b' c*/",
            "UPDATE t SET a = 1 /*a=b*/",
            "UPDATE t SET a = 1 /*='b'*/",
            "UPDATE t SET a = 1 /*+ a='b' */ /*a='b",
            "UPDATE t SET a = 1 /*!a='b'*/",
            "UPDATE t SET a = 1 /*+a='b'*/",
            // A string of its own or the end of one, as the session has it.
            "INSERT INTO t VALUES (2, 'C:\\', \"'/*card='1'*/\")",
            "INSERT INTO t VALUES (2, '\\\\', '/*card=\\'1\\'*/', 3)",
            "",
        ] {
            assert_eq!(tags(statement), None, "{statement}");
        }
    }

    #[test]
    fn keys_and_values_are_decoded() {
        let found = tags(
            "DELETE FROM t /*route%20parameter='%2Fparam*d',name='FOO%20\\'BAR',e='',bad='%FF',plus='a+b',k='gr%C3%BC%C3%9Fe'*/",
        );
        let expected = [
            ("route parameter", "/param*d"),
            ("name", "FOO 'BAR"),
            ("e", ""),
            ("plus", "a+b"),
            ("k", "grüße"),
        ];
        assert_eq!(found, pairs(&expected));
    }

    #[test]
    fn a_traceparent_is_one_or_left_out() {
        let with = |parent: &str| tags(&format!("DELETE FROM t /*a='b',traceparent='{parent}'*/"));
        assert_eq!(with(PARENT), pairs(&[("a", "b"), ("traceparent", PARENT)]));
        assert!(is_traceparent(&PARENT.replacen("00", "cc", 1)));
        assert!(is_traceparent(&format!("{}-more", PARENT.replacen("00", "01", 1))));
        for wrong in [
            String::new(),
            PARENT.to_ascii_uppercase(),
            format!("{PARENT}-more"),
            PARENT.replacen("00", "ff", 1),
            PARENT.replacen("00", "0", 1),
            PARENT.replace("5bd66ef5095369c7b0d1f8f4bd33716a", &"0".repeat(32)),
            PARENT.replace("c532cb4098ac3dd2", &"0".repeat(16)),
            PARENT.replace("-01", ""),
            PARENT.replace('-', "_"),
        ] {
            assert_eq!(with(&wrong), pairs(&[("a", "b")]), "{wrong}");
        }
    }
}
