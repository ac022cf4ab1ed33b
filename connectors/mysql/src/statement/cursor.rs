//! What the parts of a statement are taken off with: keywords, names, parentheses.

use super::lexer::{Lexer, Token};
use super::{Session, TableName};
use crate::charset::Charset;

/// A place in a statement, with one part ahead and no comments.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token<'a>>,
    charset: Charset,
    pub(super) session: Session<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], charset: Charset, session: Session<'a>) -> Self {
        let lexer = Lexer::new(text, charset, &session);
        let mut cursor = Self { lexer, ahead: None, charset, session };
        cursor.next();
        cursor
    }

    /// The next part, which is not taken.
    pub(super) fn peek(&self) -> Option<&Token<'a>> {
        self.ahead.as_ref()
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let ahead = loop {
            match self.lexer.next() {
                Some(Token::Comment(_)) => {}
                other => break other,
            }
        };
        std::mem::replace(&mut self.ahead, ahead)
    }

    /// Takes a word in capitals.
    pub(super) fn keyword(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(word) => Some(String::from_utf8_lossy(word).to_ascii_uppercase()),
            _ => None,
        }
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.is_any(&[keyword])
    }

    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if is_one_of(word, keywords))
    }

    pub(super) fn is_symbol(&self, symbol: u8) -> bool {
        self.peek() == Some(&Token::Symbol(symbol))
    }

    /// Takes a keyword if it is next.
    pub(super) fn take(&mut self, keyword: &str) -> bool {
        self.take_any(&[keyword])
    }

    /// Takes one of the keywords if it is next.
    pub(super) fn take_any(&mut self, keywords: &[&str]) -> bool {
        let is_next = self.is_any(keywords);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Takes keywords if all of them are next.
    pub(super) fn take_all(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = self.clone();
        let are_next = keywords.iter().all(|keyword| ahead.take(keyword));
        if are_next {
            *self = ahead;
        }
        are_next
    }

    /// Takes a symbol if it is next.
    pub(super) fn take_symbol(&mut self, symbol: u8) -> bool {
        let is_next = self.is_symbol(symbol);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Takes a name; `None` where there is none, or one that cannot be converted.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = match self.next()? {
            Token::Word(word) => self.charset.to_utf8(word).ok()?.into_owned(),
            Token::Quoted(name) => self.charset.to_utf8(&name).ok()?.into_owned(),
            _ => return None,
        };
        (!name.is_empty()).then_some(name)
    }

    /// Takes the name of a column; MariaDB allows that of its table before it.
    pub(super) fn column(&mut self) -> Option<String> {
        self.take_symbol(b'.');
        let mut name = self.name()?;
        while self.take_symbol(b'.') {
            name = self.name()?;
        }
        Some(name)
    }

    /// Takes the name of a table, and `.*` behind it, which DELETE allows.
    pub(super) fn table(&mut self) -> Option<TableName> {
        let is_unqualified = self.take_symbol(b'.');
        let first = self.name()?;
        if !is_unqualified && self.take_symbol(b'.') && !self.take_symbol(b'*') {
            let name = self.name()?;
            if self.take_symbol(b'.') && !self.take_symbol(b'*') {
                return None;
            }
            return Some(TableName { schema: first, name });
        }
        let schema = self.session.database;
        (!schema.is_empty()).then(|| TableName { schema: schema.to_owned(), name: first })
    }

    /// Passes what is in parentheses, of which the opening one is taken already; `None` where they do
    /// not end.
    pub(super) fn skip_parentheses(&mut self) -> Option<()> {
        let mut open = 1_u32;
        while open > 0 {
            match self.next()? {
                Token::Symbol(b'(') => open = open.saturating_add(1),
                Token::Symbol(b')') => open -= 1,
                Token::Bad => return None,
                _ => {}
            }
        }
        Some(())
    }

    /// Passes MariaDB's `WAIT n` and `NOWAIT`.
    pub(super) fn skip_wait(&mut self) {
        if !self.take("NOWAIT") && self.take("WAIT") {
            self.next();
        }
    }

    /// Whether a query begins here, maybe in further parentheses.
    pub(super) fn is_query(&self) -> bool {
        let mut ahead = self.clone();
        // A limit, so that many of them do not cost the square of their number.
        for _ in 0..64 {
            if !ahead.take_symbol(b'(') {
                break;
            }
        }
        ahead.is_any(&["SELECT", "WITH", "VALUES", "TABLE"])
    }
}

/// Whether a word is one of the keywords.
pub(super) fn is_one_of(word: &[u8], keywords: &[&str]) -> bool {
    keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()))
}
