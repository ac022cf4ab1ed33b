//! The words of a statement, told apart as the servers' own lexers do it: by bytes, with an eye on
//! characters whose second byte looks like a quote or a backslash.

use std::borrow::Cow;

use super::{Dialect, Session};
use crate::charset::Charset;

/// `sql_mode`: double quotes are around identifiers.
const ANSI_QUOTES: u64 = 1 << 2;
/// `sql_mode` of MariaDB: brackets are around identifiers.
const MSSQL: u64 = 1 << 10;
/// `sql_mode`: a backslash is a character as others are.
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Letters, digits and what else needs no quotes: a keyword, a name or a number.
    Word(&'a [u8]),
    /// A name in quotes, without them.
    Quoted(Cow<'a, [u8]>),
    /// A string as it stands between its quotes, of this kind.
    Text(&'a [u8], u8),
    /// What stands between the quotes of `X'…'`.
    Hex(&'a [u8]),
    /// What stands between the quotes of `B'…'`.
    Bits(&'a [u8]),
    /// What stands between `/*` and `*/`.
    Comment(&'a [u8]),
    /// Any other byte.
    Symbol(u8),
    /// A quote or a comment that does not end. Nothing follows.
    Bad,
}

/// Where the statement is read, and how.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    charset: Charset,
    ansi_quotes: bool,
    brackets: bool,
    backslash: bool,
    is_mariadb: bool,
    /// How many executable comments are open.
    executable: u32,
}

impl<'a> Lexer<'a> {
    /// Begins at the start of `text`, which is in a character set that holds ASCII.
    pub(super) fn new(text: &'a [u8], charset: Charset, session: &Session<'_>) -> Self {
        let is_mariadb = session.dialect == Dialect::Mariadb;
        Self {
            rest: text,
            charset,
            ansi_quotes: session.sql_mode & ANSI_QUOTES != 0,
            brackets: is_mariadb && session.sql_mode & MSSQL != 0,
            backslash: session.sql_mode & NO_BACKSLASH_ESCAPES == 0,
            is_mariadb,
            executable: 0,
        }
    }

    /// The next part, comments among them; `None` at the end, which a semicolon is too.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.rest.first()?;
            let second = self.rest.get(1).copied();
            match (byte, second) {
                (b';', _) => {
                    self.rest = &[];
                    return None;
                }
                (b'#', _) => self.skip_line(),
                (b'-', Some(b'-')) if self.is_line_comment() => self.skip_line(),
                (b'/', Some(b'*')) => {
                    if let Some(comment) = self.comment() {
                        return Some(comment);
                    }
                }
                (b'*', Some(b'/')) if self.executable > 0 => {
                    self.executable -= 1;
                    self.skip(2);
                }
                _ if is_space(self.charset, byte) => self.skip(1),
                _ => return Some(self.token(byte)),
            }
        }
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn skip_line(&mut self) {
        let end = memchr::memchr(b'\n', self.rest);
        self.skip(end.map_or(usize::MAX, |end| end.saturating_add(1)));
    }

    /// Whether two dashes begin a comment: a space or control character follows, or nothing.
    fn is_line_comment(&self) -> bool {
        let after = self.rest.get(2).copied();
        after.is_none_or(|byte| byte.is_ascii_control() || is_space(self.charset, byte))
    }

    /// Passes the start of a comment that is executed, or the whole of another, which is given.
    ///
    /// The version that an executable comment asks for is not compared: a server that does not execute
    /// one makes a plain comment of it before it writes the statement to its binlog.
    fn comment(&mut self) -> Option<Token<'a>> {
        let is_executable = self.rest.starts_with(b"/*!");
        if is_executable || self.is_mariadb && self.rest.starts_with(b"/*M!") {
            self.skip(if is_executable { 3 } else { 4 });
            let digits = self.rest.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
            if digits >= 5 {
                self.skip(digits);
            }
            self.executable = self.executable.saturating_add(1);
            return None;
        }
        self.skip(2);
        let Some(end) = memchr::memmem::find(self.rest, b"*/") else { return Some(self.bad()) };
        let inside = self.rest.get(..end).unwrap_or_default();
        self.skip(end.saturating_add(2));
        Some(Token::Comment(inside))
    }

    fn bad(&mut self) -> Token<'a> {
        self.rest = &[];
        Token::Bad
    }

    /// The part that begins with `byte` and is neither space nor comment.
    fn token(&mut self, byte: u8) -> Token<'a> {
        match byte {
            b'`' => self.identifier(b'`'),
            b'"' if self.ansi_quotes => self.identifier(b'"'),
            b'[' if self.brackets => self.identifier(b']'),
            b'\'' | b'"' => {
                self.text(byte).map_or_else(|| self.bad(), |text| Token::Text(text, byte))
            }
            _ if is_of_word(byte) => self.word(),
            _ => {
                self.skip(1);
                Token::Symbol(byte)
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let mut len = 0;
        while let Some(byte) = self.rest.get(len) {
            if !is_of_word(*byte) || is_space(self.charset, *byte) {
                break;
            }
            len += self.character(len);
        }
        let (word, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        let quoted = if let [letter] = word
            && rest.first() == Some(&b'\'')
        {
            letter.to_ascii_lowercase()
        } else {
            0
        };
        let kind: fn(&'a [u8]) -> Token<'a> = match quoted {
            b'x' => Token::Hex,
            b'b' => Token::Bits,
            b'n' => |text| Token::Text(text, b'\''),
            _ => return Token::Word(word),
        };
        self.text(b'\'').map_or_else(|| self.bad(), kind)
    }

    /// How many bytes the character at `at` has, as far as it matters: those of two whose second byte
    /// may be one of ASCII's.
    fn character(&self, at: usize) -> usize {
        let rest = self.rest.get(at..).unwrap_or_default();
        let [first @ 0x80..=0xFF, second, ..] = rest else { return 1 };
        let (is_first, is_second) = match self.charset {
            Charset::Gbk | Charset::Gb18030 => {
                (matches!(first, 0x81..=0xFE), matches!(second, 0x40..=0x7E | 0x80..=0xFE))
            }
            Charset::Big5 => {
                (matches!(first, 0xA1..=0xF9), matches!(second, 0x40..=0x7E | 0xA1..=0xFE))
            }
            Charset::Sjis | Charset::Cp932 => (
                matches!(first, 0x81..=0x9F | 0xE0..=0xFC),
                matches!(second, 0x40..=0x7E | 0x80..=0xFC),
            ),
            _ => return 1,
        };
        if is_first && is_second { 2 } else { 1 }
    }

    /// What is between the opening quote and the one that ends the string.
    fn text(&mut self, quote: u8) -> Option<&'a [u8]> {
        self.skip(1);
        let mut at = 0;
        loop {
            match *self.rest.get(at)? {
                // One byte is taken out of sight, and not one character.
                b'\\' if self.backslash => at = at.saturating_add(2),
                byte if byte == quote => match self.rest.get(at + 1) {
                    Some(next) if *next == quote => at += 2,
                    _ => break,
                },
                _ => at += self.character(at),
            }
        }
        let text = self.rest.get(..at)?;
        self.skip(at + 1);
        Some(text)
    }

    /// The name up to the quote that ends it; a quote that is doubled is of the name.
    fn identifier(&mut self, quote: u8) -> Token<'a> {
        self.skip(1);
        let mut name: Cow<'a, [u8]> = Cow::Borrowed(&[]);
        loop {
            let Some(end) = self.quote(quote) else { return self.bad() };
            let is_doubled = self.rest.get(end + 1) == Some(&quote);
            let piece = self.rest.get(..if is_doubled { end + 1 } else { end }).unwrap_or_default();
            if name.is_empty() {
                name = Cow::Borrowed(piece);
            } else {
                name.to_mut().extend_from_slice(piece);
            }
            self.skip(if is_doubled { end + 2 } else { end + 1 });
            if !is_doubled {
                return Token::Quoted(name);
            }
        }
    }

    /// Where the next such quote is that is a character of its own.
    fn quote(&self, quote: u8) -> Option<usize> {
        let mut at = 0;
        while *self.rest.get(at)? != quote {
            at += self.character(at);
        }
        Some(at)
    }
}

/// What needs no quotes in a name.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// What is between words. The no-break space of these sets is one to the servers; that of others is a
/// letter.
fn is_space(charset: Charset, byte: u8) -> bool {
    match byte {
        b'\t'..=b'\r' | b' ' => true,
        0xA0 => matches!(
            charset,
            Charset::Armscii8
                | Charset::Cp1250
                | Charset::Dec8
                | Charset::Geostd8
                | Charset::Greek
                | Charset::Hebrew
                | Charset::Latin1
                | Charset::Latin2
                | Charset::Latin5
                | Charset::Latin7
        ),
        0xFF => matches!(charset, Charset::Cp852 | Charset::Cp866 | Charset::Keybcs2),
        _ => false,
    }
}

/// The bytes that a string stands for, from what is between its quotes.
pub(super) fn unescape(text: &[u8], quote: u8, sql_mode: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            // The second of two.
            out.extend(bytes.next());
        } else if byte == b'\\' && sql_mode & NO_BACKSLASH_ESCAPES == 0 {
            match bytes.next() {
                Some(b'0') => out.push(0),
                Some(b'b') => out.push(8),
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'Z') => out.push(26),
                Some(wildcard @ (b'%' | b'_')) => out.extend([b'\\', wildcard]),
                Some(other) => out.push(other),
                None => {}
            }
        } else {
            out.push(byte);
        }
    }
    out
}
