//! The decision, tried on a small model of the API server: objects are real API types, applied as the writer would.

mod failures;
mod fields;
mod golden;
mod histories;
mod life;
mod moving;
mod pods;
mod rows;
mod wishes;
mod world;
