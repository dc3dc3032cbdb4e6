//! Randomness, drawn at the edge and handed to decisions.

use rustls::crypto::aws_lc_rs;

use crate::decide::Chance;

/// A name part for this process that no other one has: 16 hexadecimal digits.
pub fn process_id() -> String {
    hex::encode(&draw().id[..8])
}

/// Draws anew. The source of randomness is the TLS library's.
pub(super) fn draw() -> Chance {
    let mut bytes = [0_u8; 20];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("invariant: the system has randomness");
    let (id, rest) = bytes.split_at(16);
    let number = u32::from_le_bytes(rest.try_into().expect("invariant: four bytes are left"));
    Chance {
        id: id.try_into().expect("invariant: sixteen bytes"),
        unit: f64::from(number) / (f64::from(u32::MAX) + 1.0),
    }
}
