//! Texts that are much alike, in a fraction of their size: what a text repeats, of itself or of a text that both sides know, is
//! written as a place and a length.
//!
//! Invariant: what is squeezed by this process reads back as it was; nothing squeezed ever leaves it. Distances are two bytes, so
//! a repetition of something farther away than 64 KiB is written out.

/// Shortest repetition that is worth its three bytes.
const LEAST: usize = 5;
/// Longest piece of each kind: their lengths share one byte with the kind.
const RUN: usize = 128;
const COPY: usize = LEAST + 127;
/// Places that are remembered, by a hash of what begins there.
const PLACES: usize = 1 << 12;
/// No place.
const NONE: u32 = u32::MAX;

/// A known text, and where in it things are.
#[derive(Debug)]
pub(super) struct Squeezer {
    known: Vec<u8>,
    places: Vec<u32>,
}

impl Squeezer {
    /// For texts that are like this one.
    pub(super) fn new(known: &[u8]) -> Self {
        let mut places = vec![NONE; PLACES];
        for at in 0..known.len().saturating_sub(LEAST - 1) {
            places[slot(known, at)] = u32::try_from(at).unwrap_or(NONE);
        }
        Self {
            known: known.to_vec(),
            places,
        }
    }

    /// Squeezes a text.
    pub(super) fn squeeze(&self, text: &[u8]) -> Box<[u8]> {
        let all = [self.known.as_slice(), text].concat();
        let (mut places, mut out) = (self.places.clone(), Vec::with_capacity(text.len() / 2));
        let (mut at, mut plain) = (self.known.len(), self.known.len());
        while at + LEAST <= all.len() {
            let slot = slot(&all, at);
            let before = std::mem::replace(&mut places[slot], u32::try_from(at).unwrap_or(NONE));
            let found = usize::try_from(before).ok().filter(|before| *before < at);
            let copied = found.and_then(|from| Some((u16::try_from(at - from).ok()?, repeated(&all, from, at))));
            match copied.filter(|(_, length)| *length >= LEAST) {
                Some((distance, length)) => {
                    write_plain(&mut out, &all[plain..at]);
                    out.push(u8::try_from(RUN + length - LEAST).unwrap_or(u8::MAX));
                    out.extend(distance.to_le_bytes());
                    at += length;
                    plain = at;
                }
                None => at += 1,
            }
        }
        write_plain(&mut out, &all[plain..]);
        out.into()
    }

    /// The text that was squeezed. Pieces that make no sense end it: nothing that was squeezed has any.
    pub(super) fn expand(&self, mut squeezed: &[u8]) -> Vec<u8> {
        let mut all = self.known.clone();
        while let Some((kind, rest)) = squeezed.split_first() {
            let kind = usize::from(*kind);
            if kind < RUN {
                let Some((plain, rest)) = rest.split_at_checked(kind + 1) else {
                    break;
                };
                all.extend_from_slice(plain);
                squeezed = rest;
                continue;
            }
            let Some((distance, rest)) = rest.split_first_chunk::<2>() else {
                break;
            };
            let distance = usize::from(u16::from_le_bytes(*distance));
            let Some(from) = all.len().checked_sub(distance).filter(|_| distance > 0) else {
                break;
            };
            for place in from..from + (kind - RUN + LEAST) {
                // It may repeat what it is just writing.
                all.push(all[place]);
            }
            squeezed = rest;
        }
        all.split_off(self.known.len())
    }
}

/// How far the text from two places on is the same.
fn repeated(all: &[u8], from: usize, at: usize) -> usize {
    let pairs = all[from..].iter().zip(&all[at..]);
    pairs.take(COPY).take_while(|(one, other)| one == other).count()
}

fn write_plain(out: &mut Vec<u8>, plain: &[u8]) {
    for run in plain.chunks(RUN) {
        out.push(u8::try_from(run.len() - 1).unwrap_or(u8::MAX));
        out.extend_from_slice(run);
    }
}

/// Where the place of what begins here is remembered.
fn slot(all: &[u8], at: usize) -> usize {
    let mixed = all[at..at + LEAST]
        .iter()
        .fold(0_u32, |mixed, byte| mixed.wrapping_mul(0x0100_0193) ^ u32::from(*byte));
    usize::try_from(mixed.wrapping_mul(0x9e37_79b1) >> 20).unwrap_or(0) % PLACES
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_known_or_said_before_costs_little() {
        let squeezer = Squeezer::new(b"a text that everybody knows");
        let squeezed = squeezer.squeeze(b"a text that everybody knows, and more");
        assert!(squeezed.len() < 20, "{}", squeezed.len());
        let again = "0123456789abcdef".repeat(40);
        let squeezed = squeezer.squeeze(again.as_bytes());
        assert!(squeezed.len() < 40, "{}", squeezed.len());
        assert_eq!(squeezer.expand(&squeezed), again.as_bytes());
        assert_eq!(squeezer.expand(&squeezer.squeeze(b"")), b"");
    }

    #[test]
    fn what_is_far_away_is_written_out() {
        let squeezer = Squeezer::new(b"");
        let mut text = b"something that stands at both ends".to_vec();
        let mut number = 1_u64;
        while text.len() < 70_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.extend(number.to_be_bytes());
        }
        text.extend(b"something that stands at both ends");
        assert_eq!(squeezer.expand(&squeezer.squeeze(&text)), text);
    }

    proptest! {
        #[test]
        fn every_text_reads_back(known in vec(0_u8..4, 0..200), text in vec(0_u8..4, 0..2000)) {
            let squeezer = Squeezer::new(&known);
            prop_assert_eq!(squeezer.expand(&squeezer.squeeze(&text)), text);
        }

        #[test]
        fn nonsense_ends(known in vec(any::<u8>(), 0..20), squeezed in vec(any::<u8>(), 0..300)) {
            Squeezer::new(&known).expand(&squeezed);
        }
    }
}
