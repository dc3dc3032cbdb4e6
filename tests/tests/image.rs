//! The image that `robotimage build` makes: it runs everywhere, calls nobody, ends in time, and every reader takes it.
//!
//! The images are built once for all of the suite, by the command line, with the bed's base, channel and rcc.

#[path = "image/fixture.rs"]
mod fixture;
#[path = "image/formats.rs"]
mod formats;
#[path = "image/quiet.rs"]
mod quiet;
#[path = "image/run.rs"]
mod run;
#[path = "image/signals.rs"]
mod signals;
