//! References of images.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_registry::fuzzing::reference(data));
