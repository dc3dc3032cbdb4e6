//! Headers of registries (WWW-Authenticate, Location, Range, Retry-After, Link) and redirects of git servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    robotimage_registry::fuzzing::headers(data);
    for line in data.split(|byte| *byte == b'\n') {
        robotimage_builder::fuzzing::git_redirect(line);
    }
});
