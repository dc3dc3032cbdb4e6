//! Docker configurations with credentials.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_registry::fuzzing::credentials(data));
