//! The command line.

mod check;
mod exit;
mod fit;
mod listen;
mod output;
mod position;
#[cfg(test)]
mod quoted;
mod run;
mod slot;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use exit::Exit;

use self::output::{Out, complain};
use crate::config::{self, Config, ConnectorConfig, Environment, LogFormat};
use crate::explain;
use crate::registry::KINDS;

/// Change data capture from databases to validated event envelopes.
#[derive(Debug, Parser)]
#[command(name = "rowtide", version, arg_required_else_help = true, after_help = exit::TABLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every connector of the configuration until told to stop (SIGTERM, Ctrl-C)
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// How logs look, whatever the configuration says
        #[arg(long, value_enum)]
        log_format: Option<LogFormatArg>,
    },
    /// Check the configuration, the database and the sink; change nothing
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// How findings are printed; json is one document
        #[arg(long, value_enum, default_value_t)]
        format: check::Format,
        /// Instead, print the SQL that gives every source what it needs and no more, for a server
        /// that is self-run or a provider's
        #[arg(long, value_enum, value_name = "PROVIDER", conflicts_with = "format")]
        #[arg(num_args = 0..=1, default_missing_value = "self")]
        print_sql: Option<check::ProviderArg>,
    },
    /// About the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show how a running process and its connectors stand, by its `ops` address
    Status {
        #[command(flatten)]
        file: ConfigFile,
        /// Ask this address instead of the configuration's `ops.listen`
        #[arg(long, value_name = "ADDRESS")]
        ops: Option<SocketAddr>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Explain an error code; without one, list all of them
    Explain {
        /// The code, such as RT1003
        code: Option<String>,
    },
    /// List or drop the replication slots of the connectors' servers
    Slot {
        #[command(subcommand)]
        command: SlotCommand,
    },
    /// Show or change where a connector goes on; stop it before changing
    Position {
        #[command(subcommand)]
        command: PositionCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration's JSON Schema
    Schema,
}

#[derive(Debug, Subcommand)]
enum PositionCommand {
    /// Print the saved position as JSON
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Go on from a given place in the log
    Set {
        #[command(flatten)]
        which: Which,
        /// The place in the source's own terms: an LSN such as 0/16B3748; of MySQL and MariaDB a file and
        /// an offset such as binlog.000003:1234, or all GTIDs before it
        #[arg(long = "lsn", visible_alias = "at", value_name = "PLACE")]
        place: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Go on from wherever the server's slot stands, or its binlog ends, in the server's present history
    Adopt {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Subcommand)]
enum SlotCommand {
    /// List the replication slots of the connectors' servers
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Only of this connector's server
        #[arg(long, value_name = "NAME")]
        connector: Option<String>,
    },
    /// Drop a slot that nobody reads, so that the server lets go of its log
    Drop {
        #[command(flatten)]
        which: Which,
        /// Another slot of the connector's server than the one of its settings
        #[arg(long, value_name = "SLOT")]
        slot: Option<String>,
        /// Drop it; without this, only say what would happen
        #[arg(long)]
        yes: bool,
        /// Only say what would happen (the default)
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration: .yaml, .yml, .toml or .json
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    #[arg(env = "ROWTIDE_CONFIG", default_value = "rowtide.yaml")]
    path: PathBuf,
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    file: ConfigFile,
    /// The connector's name
    #[arg(long, value_name = "NAME")]
    connector: String,
}

#[derive(Debug, Args)]
struct Consent {
    /// Save the position; without this, only say what would happen
    #[arg(long)]
    yes: bool,
    /// Only say what would happen (the default)
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _closed = error.print();
            let usage = if error.use_stderr() { Exit::Config } else { Exit::Ok };
            return usage.into();
        }
    };
    dispatch(cli.command).into()
}

fn dispatch(command: Command) -> Exit {
    match command {
        Command::Run { file, log_format } => match load(&file) {
            Ok(mut config) => {
                if let Some(format) = log_format {
                    config.logs.format = format.into();
                }
                run::run(config)
            }
            Err(exit) => exit,
        },
        Command::Check { file, format: check::Format::Json, .. } => {
            match config::load(&file.path, &Environment::of_process(), &KINDS) {
                Ok(config) => check::check(&config, check::Format::Json),
                Err(problems) => check::misconfigured(&problems),
            }
        }
        Command::Check { file, print_sql, format } => match (load(&file), print_sql) {
            (Ok(config), Some(provider)) => check::print_sql(&config, provider),
            (Ok(config), None) => check::check(&config, format),
            (Err(exit), _) => exit,
        },
        Command::Status { file: _, ops: Some(address), json } => {
            status::status(Some(address), json)
        }
        Command::Status { file, ops: None, json } => match load(&file) {
            Ok(config) => status::status(config.ops, json),
            Err(exit) => exit,
        },
        Command::Config { command: ConfigCommand::Schema } => {
            Out::new().text(&config::schema_text(&KINDS))
        }
        Command::Explain { code } => explain_code(code.as_deref()),
        Command::Slot { command } => {
            let (file, action) = match command {
                SlotCommand::List { file, connector } => (file, slot::Action::List { connector }),
                SlotCommand::Drop { which: Which { file, connector }, slot, yes, dry_run: _ } => {
                    (file, slot::Action::Drop { connector, slot, apply: yes })
                }
            };
            match load(&file) {
                Ok(config) => slot::slot(&config, &action),
                Err(exit) => exit,
            }
        }
        Command::Position { command } => {
            let (which, action) = match command {
                PositionCommand::Show { which } => (which, position::Action::Show),
                PositionCommand::Set { which, place, consent } => {
                    (which, position::Action::Set { place, apply: consent.yes })
                }
                PositionCommand::Adopt { which, consent } => {
                    (which, position::Action::Adopt { apply: consent.yes })
                }
            };
            match load(&which.file) {
                Ok(config) => position::position(&config, &which.connector, &action),
                Err(exit) => exit,
            }
        }
    }
}

/// The connector of this name, or says which there are.
fn connector_named<'a>(config: &'a Config, name: &str) -> Result<&'a ConnectorConfig, Exit> {
    config.connectors.iter().find(|connector| connector.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.connectors.iter().map(|c| c.name.as_str()).collect();
        complain(&format!("RT1020: there is no connector {name:?}, but {}", names.join(", ")));
        Exit::Config
    })
}

/// Loads the configuration, or says everything that is wrong with it.
fn load(file: &ConfigFile) -> Result<Config, Exit> {
    config::load(&file.path, &Environment::of_process(), &KINDS).map_err(|problems| {
        let count = problems.0.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        complain(&format!("{count} {noun} in {}:\n\n{problems}\n", file.path.display()));
        complain("`rowtide explain CODE` says more about a code.");
        Exit::Config
    })
}

fn explain_code(code: Option<&str>) -> Exit {
    let mut out = Out::new();
    match code {
        Some(code) => match explain::page(code) {
            Some(page) => out.text(page.text),
            None => {
                complain(&format!(
                    "RT1021: there is no code {code:?}; `rowtide explain` lists them"
                ));
                Exit::Config
            }
        },
        None => {
            let lines: Vec<String> =
                explain::all().map(|page| format!("{}  {}\n", page.code, page.title())).collect();
            out.text(&lines.concat())
        }
    }
}

/// A runtime for one command. Connectors have threads and runtimes of their own.
fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(&format!("RT1030: the runtime cannot start: {error}"));
        Exit::Internal
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
