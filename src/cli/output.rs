//! Standard output and standard error of commands. A reader that went away (`| head`) is no error.

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
