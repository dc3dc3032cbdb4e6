//! How far a build is, for a person: one line a phase, alive on a terminal, plain in a pipe.
//!
//! Invariant: everything goes to standard error, so that standard output holds the result alone.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Width of the column with the phases' names.
const NAME: usize = 10;

/// Tells about phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A terminal: a line that moves.
    Terminal,
    /// A pipe: a line at the end of each phase, and at the beginning of long ones.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// What fits standard error.
    pub(super) fn detect(silent: bool) -> Self {
        if silent {
            Self::Silent
        } else if std::io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Lines
        }
    }

    /// Begins a phase.
    pub(super) fn phase(self, name: &'static str) -> Phase {
        let note = Arc::new(Mutex::new(String::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let spinner = (self == Self::Terminal).then(|| spin(name, began, Arc::clone(&note), Arc::clone(&stop)));
        Phase {
            progress: self,
            name,
            began,
            note,
            stop,
            spinner,
        }
    }
}

/// A phase under way; it ends silently when it is dropped without [`Phase::done`].
pub(super) struct Phase {
    progress: Progress,
    name: &'static str,
    began: Instant,
    note: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    spinner: Option<JoinHandle<()>>,
}

impl Phase {
    /// What it is at. On a terminal the line changes; in a pipe nothing is written.
    pub(super) fn note(&self, text: impl Into<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Something worth a line in a pipe too, such as the start of long work.
    pub(super) fn announce(&self, text: &str) {
        self.note(text);
        if self.progress == Progress::Lines {
            write(&format!("{:NAME$} {text} …\n", self.name));
        }
    }

    /// A handle for other threads.
    pub(super) fn teller(&self) -> impl Fn(String) + Send + Sync + Clone + 'static + use<> {
        let note = Arc::clone(&self.note);
        move |text| *note.lock().unwrap_or_else(PoisonError::into_inner) = text
    }

    /// Ends it with its result.
    pub(super) fn done(mut self, text: &str) {
        self.halt();
        let line = format!("{:NAME$} {text} ({})\n", self.name, seconds(self.began.elapsed()));
        match self.progress {
            Progress::Terminal => write(&format!("\r\x1b[2K{line}")),
            Progress::Lines => write(&line),
            Progress::Silent => {}
        }
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(spinner) = self.spinner.take() {
            spinner.thread().unpark();
            // A spinner that panicked has nothing left to draw.
            spinner.join().ok();
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if self.spinner.is_some() {
            self.halt();
            write("\r\x1b[2K");
        }
    }
}

fn spin(name: &'static str, began: Instant, note: Arc<Mutex<String>>, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for frame in FRAMES.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let note = note.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // One line only: a longer one would scroll with every frame.
            let short: String = note.chars().take(60).collect();
            write(&format!("\r\x1b[2K{name:NAME$} {frame} {} {short}", seconds(began.elapsed())));
            std::thread::park_timeout(Duration::from_millis(100));
        }
    })
}

/// Progress that cannot be shown must not end a build.
fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// A time for a person.
pub(super) fn seconds(time: Duration) -> String {
    if time.as_secs() >= 60 {
        format!("{}m{:02}s", time.as_secs() / 60, time.as_secs() % 60)
    } else {
        format!("{:.1}s", time.as_secs_f32())
    }
}

/// A size for a person.
pub(super) fn bytes(size: u64) -> String {
    let mut whole = size;
    let mut rest = 0;
    for unit in ["B", "kB", "MB", "GB"] {
        if whole < 1000 {
            return if unit == "B" {
                format!("{whole} B")
            } else {
                format!("{whole}.{} {unit}", rest / 100)
            };
        }
        (whole, rest) = (whole / 1000, whole % 1000);
    }
    format!("{whole}.{} TB", rest / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1500, "1.5 kB"),
            (28_231_000, "28.2 MB"),
            (7_990_000_000_000, "7.9 TB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2s");
        assert_eq!(seconds(Duration::from_secs(125)), "2m05s");
    }
}
