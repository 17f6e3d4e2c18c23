//! Standard output and standard error of commands that print and end. Never panics when nobody reads.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Writes a text to standard output. A reader that has gone (`… | head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    print_verdict(text, ExitCode::SUCCESS)
}

/// The same, of a command whose exit code says more than that it could write: nobody may take a text that is lost for nothing
/// to say.
pub fn print_verdict(text: &str, verdict: ExitCode) -> ExitCode {
    match write_text(&mut io::stdout().lock(), text) {
        Ok(()) => verdict,
        Err(error) => complain(&format_args!("standard output: {error}")),
    }
}

/// Says in one line on standard error why nothing came of it.
pub fn complain(error: &dyn Display) -> ExitCode {
    // If that can not be said either, the exit code says it.
    let _ = writeln!(io::stderr().lock(), "tailscale-gateway: {error}");
    ExitCode::FAILURE
}

/// Writes a text to a reader that may have gone.
///
/// # Errors
///
/// When the text can not be written, for another reason than that nobody reads it.
pub fn write_text(to: &mut dyn Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
