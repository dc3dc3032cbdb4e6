//! Entry point of the fuzz target over the answers of git servers.
//!
//! Invariant: compiled for fuzzers and tests only. The test runs every kept input, so what a fuzzer once found stays mended
//! without a fuzzer being there.

use robotimage_crds::api::GitRef;

use crate::source::ls_refs::{Advertisement, Wanted, advertisement};

/// An answer of smart HTTP: an advertisement, or the list of references.
pub fn git_answer(data: &[u8]) {
    let named = |branch: Option<&str>, tag: Option<&str>| GitRef {
        branch: branch.map(str::to_owned),
        tag: tag.map(str::to_owned),
        ..GitRef::default()
    };
    let listed = match advertisement(data) {
        Ok(Advertisement::Listed(listed)) => listed,
        Ok(Advertisement::Version2) => Vec::new(),
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            Vec::new()
        }
    };
    for reference in [None, Some(named(Some("main"), None)), Some(named(None, Some("v1")))] {
        let wanted = Wanted::of(reference.as_ref());
        for found in [wanted.find_by_answer(data), wanted.find_in(&listed)].into_iter().flatten() {
            let id = &found.commit;
            assert!(
                id.len() == 40 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
                "{id:?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/git_answer");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            super::git_answer(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no inputs in {}", folder.display());
    }
}
