//! What rcc, micromamba, pip and uv print.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_builder::fuzzing::rcc_output(data));
