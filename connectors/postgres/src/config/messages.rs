//! Which messages of applications are captured, and what becomes of them.

use globset::{GlobBuilder, GlobMatcher};
use rowtide_sdk::Finding;
use schemars::JsonSchema;
use serde::Deserialize;

use super::problem;
use crate::error::codes;

/// Messages that applications write into the log with `pg_logical_emit_message`. Where the section is
/// there, the server is asked for them. A message becomes an event where an `include` matches its
/// prefix and no `exclude` does; those whose prefix begins with `rowtide.` never do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSelection {
    /// Prefixes whose messages become events, with `*`, `?`, `[…]` and `{a,b}`. Default: all; none
    /// where the list is empty.
    #[serde(default = "every_prefix")]
    pub include: Vec<String>,
    /// Prefixes to leave out all the same.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The topic of the events, with the placeholder `{name}` (the connector).
    #[serde(default = "default_topic")]
    #[schemars(length(min = 1))]
    pub topic: String,
    /// Whether transactional messages of the prefixes `traceparent` (a W3C trace context) and
    /// `rowtide.annotation` (a JSON object of at most 4096 bytes) are put on the events of their
    /// transaction that follow them, rather than become events.
    #[serde(default = "yes")]
    pub annotations: bool,
}

fn every_prefix() -> Vec<String> {
    vec!["*".to_owned()]
}

fn default_topic() -> String {
    "{name}.messages".to_owned()
}

fn yes() -> bool {
    true
}

/// The prefixes of a compiled [`MessageSelection`].
#[derive(Debug, Clone)]
pub struct MessageFilter {
    include: Vec<GlobMatcher>,
    exclude: Vec<GlobMatcher>,
}

impl MessageSelection {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One finding (RT2007) for each pattern that cannot be read, and for the topic.
    pub fn filter(&self) -> Result<MessageFilter, Vec<Finding>> {
        let mut problems = Vec::new();
        let mut compile = |field: &str, patterns: &[String]| -> Vec<GlobMatcher> {
            let mut parse = |pattern: &String| {
                let built = GlobBuilder::new(pattern).backslash_escape(true).build();
                built.map(|glob| glob.compile_matcher()).map_err(|error| {
                    problems.push(problem(
                        codes::SETTING,
                        format!(
                            "`messages.{field}`: the pattern `{pattern}` cannot be read: {}",
                            error.kind()
                        ),
                        "write prefixes with * and ? as wildcards, such as outbox*",
                    ));
                })
            };
            patterns.iter().filter_map(|pattern| parse(pattern).ok()).collect()
        };
        let include = compile("include", &self.include);
        let exclude = compile("exclude", &self.exclude);
        if self.topic.replace("{name}", "").contains(['{', '}']) {
            problems.push(problem(
                codes::SETTING,
                "`messages.topic` may hold the placeholder {name} and no other braces",
                "such as {name}.messages",
            ));
        }
        if problems.is_empty() { Ok(MessageFilter { include, exclude }) } else { Err(problems) }
    }
}

impl MessageFilter {
    /// Whether messages of this prefix become events.
    pub fn matches(&self, prefix: &str) -> bool {
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(prefix));
        any(&self.include) && !any(&self.exclude)
    }
}
