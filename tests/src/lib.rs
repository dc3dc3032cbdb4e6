//! Placeholder head, replaced with the crate's first real module.
