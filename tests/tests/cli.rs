//! The command line as a person meets it: what it says of bad inputs, its exit codes, and what it leaves behind.

#[path = "cli/bad_inputs.rs"]
mod bad_inputs;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/desk.rs"]
mod desk;
#[path = "cli/dockerfile.rs"]
mod dockerfile;
#[path = "cli/download.rs"]
mod download;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/interrupt.rs"]
mod interrupt;
#[path = "cli/registries.rs"]
mod registries;
#[path = "cli/reuse.rs"]
mod reuse;
#[path = "cli/screen.rs"]
mod screen;
#[path = "cli/shell.rs"]
mod shell;
