//! conda.yaml and package.yaml.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_builder::fuzzing::environment_yaml(data));
