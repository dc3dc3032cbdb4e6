//! robot.yaml.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_builder::fuzzing::robot_yaml(data));
