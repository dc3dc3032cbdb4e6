//! Answers of token services, and error documents.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_registry::fuzzing::answers(data));
