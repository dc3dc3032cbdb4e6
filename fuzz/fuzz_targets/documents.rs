//! Manifests, indexes and configurations of other people, and our own as they are read back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    robotimage_registry::fuzzing::documents(data);
    robotimage_builder::fuzzing::documents(data.get(1..).unwrap_or_default());
});
