//! The rcc binary: what it is, how it is called, what its output means.
