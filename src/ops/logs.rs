//! Logs: one line of text or one JSON object per event, to standard error, in UTC.
//!
//! No row value and no secret is ever logged (invariant A6); connection libraries stay at warnings
//! unless a filter names them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, Logs};

/// The filter that a level or filter directives stand for. A bare level is for Rowtide's own
/// crates; libraries stay at warnings, or below where the level is `error`.
///
/// # Errors
/// In words, where the text is neither.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim().to_ascii_lowercase();
    let directives = match level.as_str() {
        "info" | "debug" | "trace" => format!("warn,rowtide={level}"),
        _ => level,
    };
    // A lone word that is no level would be taken for a module's name.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = directives.split(',').find(|word| !word.contains('=') && !is_level(word)) {
        return Err(format!("{word:?} is no level"));
    }
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

/// Starts logging for the process. `RUST_LOG` comes before the configured level. A second call does
/// nothing.
pub fn init(logs: &Logs) {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let level = from_environment.as_deref().unwrap_or(&logs.level);
    let filter = filter(level).unwrap_or_else(|_| EnvFilter::new("warn,rowtide=info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_started = match logs.format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives() {
        assert_eq!(filter("INFO").unwrap().to_string(), "rowtide=info,warn");
        assert_eq!(filter("error").unwrap().to_string(), "error");
        assert!(filter("info,rowtide_kafka=debug").is_ok());
        for wrong in ["loud", "", "info,loud", "rowtide=loud"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
