//! Where results, notes and warnings go.

use std::io::{self, Write};

use fornax::Result;

/// Where results go, and in which form.
pub struct Output<'a> {
    /// JSON instead of text.
    pub json: bool,
    /// Standard output.
    pub to: &'a mut dyn Write,
}

impl Output<'_> {
    /// Prints a JSON value on a line.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<()> {
        Ok(writeln!(self.to, "{value}")?)
    }

    /// A note for people on standard error, which may be closed.
    pub fn note(&self, text: &str) {
        if !self.json {
            _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A warning on standard error, whatever the form of the results.
    pub fn warn(&self, text: &str) {
        _ = writeln!(io::stderr(), "warning: {text}");
    }
}
