//! An environment resolved at its sealed path, normalised and described.
