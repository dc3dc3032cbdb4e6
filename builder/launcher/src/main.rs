//! PID 1 of the images: runs the real rcc, hands signals to the task, reaps, and passes the exit code on.
//!
//! rcc as PID 1 ends at SIGTERM without telling the task, which is then killed with its clean-up undone, and it swallows
//! SIGINT. This program takes its name: it stands at `<dir>/rcc`, runs `<dir>/rcc-real` with the same arguments,
//! environment and streams, and sends what it is told to the children of rcc.
//!
//! Invariant: no signal is lost. All that matter are blocked before anything is started and read one by one; only the
//! first milliseconds of the program itself, before it can block anything, are the kernel's.
//!
//! Exit codes: rcc's own; 128 + number when a signal ended it; 127 when there is no rcc, 126 when it cannot be run.

mod forward;
mod processes;
mod start;
mod supervise;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = if start::is_exec_role() {
        Err(start::exec())
    } else {
        supervise::run()
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            supervise::say(format_args!("{failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}
