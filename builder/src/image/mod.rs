//! Base facts, keys, layers, configuration and manifest.
