//! Answers of git servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| robotimage_operator::fuzzing::git_answer(data));
