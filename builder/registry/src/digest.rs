//! Content digests: computing and verifying them while bytes stream by.
//!
//! Invariant: nothing is called verified unless every byte went through a [`Verifier`] that ended well. Only SHA-256
//! and SHA-512 count, the two algorithms that the OCI image specification registers.

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha512};

/// The SHA-256 digest of a byte string.
pub fn sha256(bytes: &[u8]) -> Digest {
    from_parts("sha256", &Sha256::digest(bytes))
}

fn from_parts(algorithm: &str, hash: &[u8]) -> Digest {
    Digest::try_from(format!("{algorithm}:{}", hex::encode(hash))).expect("invariant: a hash in hexadecimal is a well-formed digest")
}

/// Why content is not what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The digest uses an algorithm that is not verified here.
    #[error("digest {0} uses an unsupported algorithm: sha256 or sha512 is needed")]
    Unsupported(Digest),
    /// The bytes hash to something else.
    #[error("content has digest {actual} instead of {expected}")]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("content has {actual} bytes instead of {expected}")]
    Size {
        /// Bytes announced by the descriptor.
        expected: u64,
        /// Bytes seen, at the moment when the difference was certain.
        actual: u64,
    },
}

enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

/// Hashes and counts a stream, and compares at the end.
pub struct Verifier {
    expected: Digest,
    size: Option<u64>,
    seen: u64,
    hasher: Hasher,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("expected", &self.expected)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for `expected`; `size` in bytes is checked too when it is known.
    pub fn new(expected: &Digest, size: Option<u64>) -> Result<Self, VerifyError> {
        let hasher = match expected.algorithm() {
            DigestAlgorithm::Sha256 => Hasher::Sha256(Box::default()),
            DigestAlgorithm::Sha512 => Hasher::Sha512(Box::default()),
            _ => return Err(VerifyError::Unsupported(expected.clone())),
        };
        Ok(Self {
            expected: expected.clone(),
            size,
            seen: 0,
            hasher,
        })
    }

    /// Takes the next bytes. Too many of them fail here, before a hostile sender fills a disk.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        self.seen += bytes.len() as u64;
        if let Some(expected) = self.size.filter(|size| self.seen > *size) {
            return Err(VerifyError::Size {
                expected,
                actual: self.seen,
            });
        }
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Compares size and digest.
    pub fn finish(self) -> Result<(), VerifyError> {
        if let Some(expected) = self.size.filter(|size| *size != self.seen) {
            return Err(VerifyError::Size {
                expected,
                actual: self.seen,
            });
        }
        let actual = match self.hasher {
            Hasher::Sha256(hasher) => from_parts("sha256", &hasher.finalize()),
            Hasher::Sha512(hasher) => from_parts("sha512", &hasher.finalize()),
        };
        if actual == self.expected {
            Ok(())
        } else {
            Err(VerifyError::Mismatch {
                expected: self.expected,
                actual,
            })
        }
    }
}

/// Checks a byte string that is already in memory.
pub fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), VerifyError> {
    let mut verifier = Verifier::new(expected, None)?;
    verifier.update(bytes)?;
    verifier.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_values() {
        assert_eq!(sha256(b"").to_string(), EMPTY);
        let long = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        verify(&Digest::try_from(long).unwrap(), b"").unwrap();
        verify(&Digest::try_from(EMPTY).unwrap(), b"").unwrap();
    }

    #[test]
    fn differences_are_told() {
        let digest = sha256(b"abc");
        assert!(matches!(verify(&digest, b"abd"), Err(VerifyError::Mismatch { .. })));
        let mut short = Verifier::new(&digest, Some(3)).unwrap();
        short.update(b"ab").unwrap();
        assert_eq!(short.finish(), Err(VerifyError::Size { expected: 3, actual: 2 }));
        let mut long = Verifier::new(&digest, Some(3)).unwrap();
        assert_eq!(long.update(b"abcd"), Err(VerifyError::Size { expected: 3, actual: 4 }));
        let odd = Digest::try_from("md5:900150983cd24fb0d6963f7d28e17f72").unwrap();
        assert!(matches!(Verifier::new(&odd, None), Err(VerifyError::Unsupported(_))));
    }
}
