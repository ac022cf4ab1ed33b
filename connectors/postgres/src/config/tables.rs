//! Which tables are captured: globs over `schema.table`.

use std::iter::Peekable;
use std::str::Chars;

use rowtide_sdk::{Finding, PatternWords, TableFilter, TablePattern};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::sql::literal;

/// Which tables are captured. A table is captured where an `include` matches it and no `exclude`
/// does. Patterns are `schema.table` with `*`, `?`, `[…]` and `{a,b}` on either side of the first
/// dot; a dot within a schema's name is written `[.]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSelection {
    /// Tables to capture. Default: every table of the schema `public`.
    #[serde(default = "default_include")]
    #[schemars(length(min = 1))]
    pub include: Vec<String>,
    /// Tables to leave out all the same.
    #[serde(default)]
    pub exclude: Vec<String>,
}

fn default_include() -> Vec<String> {
    vec!["public.*".to_owned()]
}

impl Default for TableSelection {
    fn default() -> Self {
        Self { include: default_include(), exclude: Vec::new() }
    }
}

/// A glob as one of PostgreSQL's regular expressions.
pub(crate) fn regex(glob: &str) -> String {
    let mut out = String::from("^(?:");
    let mut chars = glob.chars().peekable();
    let mut braces = 0_u32;
    while let Some(char) = chars.next() {
        match char {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '[' => class(&mut chars, &mut out),
            '\\' => push_escaped(chars.next().unwrap_or('\\'), &mut out),
            char => push_escaped(char, &mut out),
        }
    }
    out.push_str(")$");
    out
}

/// A character that stands for itself.
fn push_escaped(char: char, out: &mut String) {
    if char.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(char);
}

/// A bracket expression whose `[` was read.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.next_if(|char| matches!(char, '!' | '^')).is_some() {
        out.push('^');
    }
    let mut is_first = true;
    while let Some(char) = chars.next() {
        match char {
            ']' if !is_first => break,
            // A range, unless it stands at either end.
            '-' if !is_first && chars.peek().is_some_and(|next| *next != ']') => out.push('-'),
            char => push_escaped(char, out),
        }
        is_first = false;
    }
    out.push(']');
}

impl TableSelection {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One finding (RT2005) for each pattern that cannot be read, or where nothing is included.
    pub fn filter(&self) -> Result<TableFilter, Vec<Finding>> {
        let words = PatternWords {
            code: codes::TABLE_PATTERN,
            schema: "schema",
            examples: "public.* or sales.order_?",
            default: "public.*",
        };
        TableFilter::compile(&self.include, &self.exclude, &words)
    }
}

/// Whether a filter captures a table, as an SQL condition over these expressions.
pub(crate) fn captures(filter: &TableFilter, schema: &str, table: &str) -> String {
    let any = |patterns: &[TablePattern]| {
        let one = |pattern: &TablePattern| {
            let (schemas, tables) = pattern.globs();
            format!(
                "({schema} ~ {} AND {table} ~ {})",
                literal(&regex(schemas)),
                literal(&regex(tables))
            )
        };
        let any: Vec<String> = patterns.iter().map(one).collect();
        if any.is_empty() { "false".to_owned() } else { any.join(" OR ") }
    };
    format!("({}) AND NOT ({})", any(filter.includes()), any(filter.excludes()))
}
