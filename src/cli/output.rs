//! Standard output and standard error of commands. A reader that went away (`| head`) is no error.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};

use super::Exit;

/// Standard output.
pub(super) struct Out(io::StdoutLock<'static>);

impl Out {
    pub(super) fn new() -> Self {
        Self(io::stdout().lock())
    }

    /// Prints text as it is.
    pub(super) fn text(&mut self, text: &str) -> Exit {
        match self.0.write_all(text.as_bytes()).and_then(|()| self.0.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                complain(&format!("cannot write to standard output: {error}"));
                Exit::Internal
            }
            _ => Exit::Ok,
        }
    }
}

/// Prints a line on standard error.
pub(super) fn complain(line: &str) {
    let mut err = io::stderr().lock();
    // Nobody is left to tell where standard error itself is closed.
    let _closed = writeln!(err, "{line}");
}

/// Left-aligned columns, two spaces apart.
pub(super) fn columns<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> =
            widths.iter().zip(row).map(|(&width, cell)| format!("{cell:width$}")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

/// A number of bytes for people.
pub(super) fn bytes(number: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = number;
    let mut unit = 0;
    while scaled.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{scaled:.0} {name}") } else { format!("{scaled:.1} {name}") }
}
