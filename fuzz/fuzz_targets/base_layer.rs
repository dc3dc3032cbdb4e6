//! Layers of base images, in every compression.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_builder::fuzzing::base_layer(data));
