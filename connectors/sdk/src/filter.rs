//! Which tables a source captures: globs over `schema.table`.

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::{Code, Finding, Severity};

/// A glob over names of schemas and one over names of tables, written with a dot between them: `*`,
/// `?`, `[…]` and `{a,b}` on either side; a dot within a schema's name is written `[.]`.
#[derive(Debug, Clone)]
pub struct TablePattern {
    schema: GlobMatcher,
    table: GlobMatcher,
}

/// Whether a glob is a plain name.
fn is_plain(glob: &GlobMatcher) -> bool {
    !glob.glob().glob().contains(['*', '?', '[', '{', '\\'])
}

fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let glob: Glob = GlobBuilder::new(pattern)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map_err(|error| error.kind().to_string())?;
    Ok(glob.compile_matcher())
}

/// Splits at the first dot that is not inside brackets or braces and not escaped.
fn split_at_dot(pattern: &str) -> Option<(&str, &str)> {
    let (mut in_brackets, mut braces, mut is_escaped) = (false, 0_u32, false);
    for (at, char) in pattern.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ']' => in_brackets = false,
            _ if in_brackets => {}
            '[' => in_brackets = true,
            '{' => braces += 1,
            '}' => braces = braces.saturating_sub(1),
            '.' if braces == 0 => {
                let (schema, rest) = pattern.split_at(at);
                return rest.get(1..).map(|table| (schema, table));
            }
            _ => {}
        }
    }
    None
}

impl TablePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why it cannot be read, in words; `None` where it is not two globs with a dot between them.
    pub fn parse(pattern: &str) -> Result<Self, Option<String>> {
        let (schema, table) = split_at_dot(pattern)
            .filter(|(schema, table)| !schema.is_empty() && !table.is_empty())
            .ok_or(None)?;
        Ok(Self { schema: glob(schema)?, table: glob(table)? })
    }

    /// Whether a table is meant.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.is_match(schema) && self.table.is_match(table)
    }

    /// The glob over schemas, and the one over tables.
    pub fn globs(&self) -> (&str, &str) {
        (self.schema.glob().glob(), self.table.glob().glob())
    }

    fn is_name(&self) -> bool {
        is_plain(&self.schema) && is_plain(&self.table)
    }
}

/// What patterns are to the users of a database.
#[derive(Debug, Clone, Copy)]
pub struct PatternWords {
    /// The code of what is wrong with them.
    pub code: Code,
    /// What tables are in: `schema`.
    pub schema: &'static str,
    /// Patterns that can be read.
    pub examples: &'static str,
    /// What is captured where nothing is said.
    pub default: &'static str,
}

/// The captured tables: those that an include matches and no exclude does.
#[derive(Debug, Clone)]
pub struct TableFilter {
    include: Vec<TablePattern>,
    exclude: Vec<TablePattern>,
}

impl TableFilter {
    /// Takes tables in by the first and leaves them out by the second.
    pub fn new(include: Vec<TablePattern>, exclude: Vec<TablePattern>) -> Self {
        Self { include, exclude }
    }

    /// Compiles the patterns of the settings `tables.include` and `tables.exclude`.
    ///
    /// # Errors
    /// One finding for each pattern that cannot be read, or where nothing is included.
    pub fn compile(
        include: &[String],
        exclude: &[String],
        words: &PatternWords,
    ) -> Result<Self, Vec<Finding>> {
        let problem = |message: String, remedy: String| {
            Finding::new(Severity::Error, words.code, message).with_remedy(remedy)
        };
        let mut problems = Vec::new();
        if include.is_empty() {
            problems.push(problem(
                "`tables.include` is empty: nothing would be captured".to_owned(),
                format!("name tables, or leave `include` out to capture {}", words.default),
            ));
        }
        let form = format!("{}.table", words.schema);
        let mut compile = |field: &str, patterns: &[String]| -> Vec<TablePattern> {
            let parse = |pattern: &String| match TablePattern::parse(pattern) {
                Ok(parsed) => Some(parsed),
                Err(why) => {
                    let why = why.unwrap_or_else(|| format!("it must have the form {form}"));
                    problems.push(problem(
                        format!("`tables.{field}`: the pattern `{pattern}` cannot be read: {why}"),
                        format!("write patterns as {form}, such as {}", words.examples),
                    ));
                    None
                }
            };
            patterns.iter().filter_map(parse).collect()
        };
        let (include, exclude) = (compile("include", include), compile("exclude", exclude));
        if problems.is_empty() { Ok(Self::new(include, exclude)) } else { Err(problems) }
    }

    /// Whether the table is captured. Names are as in the catalog, unquoted.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.include.iter().any(|pattern| pattern.matches(schema, table))
            && !self.exclude.iter().any(|pattern| pattern.matches(schema, table))
    }

    /// Whether the table is captured, and an include is its very name.
    pub fn names_exactly(&self, schema: &str, table: &str) -> bool {
        self.matches(schema, table)
            && self.include.iter().any(|one| one.is_name() && one.matches(schema, table))
    }

    /// What tables are taken in by.
    pub fn includes(&self) -> &[TablePattern] {
        &self.include
    }

    /// What tables are left out by.
    pub fn excludes(&self) -> &[TablePattern] {
        &self.exclude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> TableFilter {
        let parse =
            |all: &[&str]| all.iter().map(|one| TablePattern::parse(one).unwrap()).collect();
        TableFilter::new(parse(include), parse(exclude))
    }

    #[test]
    fn tables_are_chosen_by_globs_on_both_sides_of_the_dot() {
        let some = filter(&["shop.*", "a[.]b.{c,d}", "x.y"], &["shop.tmp_?"]);
        assert!(
            some.matches("shop", "orders") && some.matches("a.b", "d") && some.matches("x", "y")
        );
        assert!(!some.matches("shop", "tmp_1") && !some.matches("a.b", "e"));
        assert!(some.names_exactly("x", "y") && !some.names_exactly("shop", "orders"));
        for pattern in ["orders", ".orders", "shop.", "shop.[", ""] {
            assert!(TablePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
