//! Where rcc puts an environment: the name of its folder, derived from HOME as rcc derives it.

use std::path::Path;

/// HOME of the image and of every resolve: rcc derives the folder's name from it.
pub const HOME: &str = "/home/robot";
/// ROBOCORP_HOME while an environment is resolved; the sealed environment lies below it, in the image at the same path.
pub const SEALED_ROOT: &str = "/opt/rcc";
/// ROBOCORP_HOME of the image.
pub const RUNTIME_HOME: &str = "/home/robot/.robocorp";
/// Name of the folder that rcc gives an environment resolved under [`HOME`].
pub const SPACE: &str = "dc4d952_5a1fac3_9fcd2534";
/// The sealed environment, in the image and while it is resolved.
pub const SEALED_PATH: &str = "/opt/rcc/holotree/dc4d952_5a1fac3_9fcd2534";
/// Where resolve sees the environment file and its local files, laid out as in the context. One path everywhere, because pip
/// writes it into the `direct_url.json` of a package that came from a file.
pub const SPEC_ROOT: &str = "/workspace/spec/environment";

/// The name that rcc gives the folder of controller `user`, space `user` under a HOME.
pub fn name(home: &Path) -> String {
    let home = siphash24(9_007_799_254_740_993, 2_147_487_647, home.as_os_str().as_encoded_bytes());
    let hash = |text: &str| format!("{:016x}", siphash24(9_007_199_254_740_993, 2_147_483_647, text.as_bytes()));
    format!("{:.7}_{:.7}_{:.8}", format!("{home:02x}"), hash("rcc.user"), hash("user"))
}

/// SipHash-2-4 as its authors define it; keys and result as numbers.
fn siphash24(k0: u64, k1: u64, data: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("invariant: chunks of eight"));
        absorb(&mut state, word);
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    last[7] = u8::try_from(data.len() % 256).expect("invariant: a remainder below 256");
    absorb(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rccs() {
        assert_eq!(name(Path::new(HOME)), SPACE);
        assert!(name(Path::new("/root")).starts_with("720c7a8_"));
        assert!(name(Path::new("/")).starts_with("cdb17fc_"));
        assert_eq!(SEALED_PATH, format!("{SEALED_ROOT}/holotree/{SPACE}"));
        assert!(RUNTIME_HOME.starts_with(HOME));
    }

    #[test]
    fn siphash_is_the_reference() {
        // Vector of the reference implementation: key 00..0f, message 00..0e.
        let key = |start: u8| u64::from_le_bytes(std::array::from_fn(|at| start + u8::try_from(at).unwrap()));
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24(key(0), key(8), &message), 0xa129_ca61_49be_45e5);
    }
}
