//! Where results and remarks go: results to standard output, as text or JSON; remarks about what is being waited for to
//! standard error, so that a pipe carries results alone.

use std::io::Write as _;

use serde::Serialize;

use crate::arguments::Format;
use crate::error::Error;
use crate::screen::{Screen, Tone, clean};

/// The two streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// What is wanted on standard output.
    pub(crate) format: Format,
    /// What standard output shows.
    pub(crate) screen: Screen,
    remarks: Screen,
}

impl Out {
    /// The streams of this process.
    pub(crate) fn of(format: Format) -> Self {
        Self {
            format,
            screen: Screen::stdout(),
            remarks: Screen::stderr(),
        }
    }

    /// Whether results are JSON.
    pub(crate) fn json_wanted(self) -> bool {
        self.format == Format::Json
    }

    /// Writes text as it is.
    pub(crate) fn text(text: &str) -> Result<(), Error> {
        let mut stream = std::io::stdout().lock();
        stream.write_all(text.as_bytes())?;
        stream.flush()?;
        Ok(())
    }

    /// Writes a document, indented.
    pub(crate) fn json(document: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(document).expect("invariant: our documents are plain data");
        Self::text(&(text + "\n"))
    }

    /// Writes a document as one line.
    pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(document).expect("invariant: our documents are plain data");
        Self::text(&(text + "\n"))
    }

    /// A remark, dimmed on a terminal.
    pub(crate) fn note(self, text: &str) {
        self.remark(Tone::Quiet, text);
    }

    /// A remark in a tone. A closed standard error changes nothing about the work.
    pub(crate) fn remark(self, tone: Tone, text: &str) {
        let line = self.remarks.paint(tone, &clean(text)) + "\n";
        std::io::stderr().lock().write_all(line.as_bytes()).ok();
    }

    /// A failure: what, and what to do.
    pub(crate) fn failure(self, error: &Error) {
        if self.json_wanted() {
            #[derive(Serialize)]
            struct Document<'a> {
                kind: &'a str,
                message: String,
                #[serde(skip_serializing_if = "Option::is_none")]
                advice: Option<String>,
            }
            let document = Document {
                kind: error.kind(),
                message: error.to_string(),
                advice: error.advice(),
            };
            // The exit code tells of the failure even where nobody reads.
            Self::json(&std::collections::BTreeMap::from([("error", document)])).ok();
            return;
        }
        if matches!(error, Error::Interrupted) {
            return self.note("interrupted");
        }
        self.remark(Tone::Bad, &format!("error: {error}"));
        if let Some(advice) = error.advice() {
            self.remark(Tone::Plain, &format!("  {advice}"));
        }
    }
}
