//! The decision, tried on a small model of the API server: objects are real API types, applied as the writer would.

mod clocks;
mod failures;
mod fields;
mod golden;
mod histories;
mod life;
mod loops;
mod moving;
mod pods;
mod refresh;
mod rows;
mod sources;
mod waits;
mod wishes;
mod world;
