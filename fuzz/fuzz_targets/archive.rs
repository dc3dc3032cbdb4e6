//! Archives as sources: tar in every compression, and zip.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_builder::fuzzing::archive(data));
