//! The `rowtide` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rowtide::cli::main()
}
