//! Bytes of a stream become lines of bounded length.
//!
//! Invariant: nothing is lost and nothing grows: a line longer than [`LONGEST`] comes in several pieces.

/// Most bytes of one piece.
pub(super) const LONGEST: usize = 64 * 1024;

/// Collects lines.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    begun: Vec<u8>,
}

impl Pieces {
    /// Takes bytes and gives the lines that are complete by them.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let room = LONGEST - self.begun.len();
            let window = &bytes[..room.min(bytes.len())];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.begun.extend_from_slice(&window[..end]);
                lines.push(self.take());
                bytes = &bytes[end + 1..];
            } else {
                self.begun.extend_from_slice(window);
                bytes = &bytes[window.len()..];
                if self.begun.len() == LONGEST {
                    lines.push(self.take());
                }
            }
        }
        lines
    }

    /// What is left when the stream ends without a line end.
    pub(super) fn rest(&mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.begun);
        String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_however_they_arrive() {
        for size in 1..20 {
            let mut pieces = Pieces::default();
            let mut lines: Vec<String> = b"one\r\n\nthree \xff end\nrest"
                .chunks(size)
                .flat_map(|chunk| pieces.feed(chunk))
                .collect();
            lines.extend(pieces.rest());
            assert_eq!(lines, ["one", "", "three \u{fffd} end", "rest"], "{size}");
            assert_eq!(pieces.rest(), None);
        }
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let mut pieces = Pieces::default();
        let long = vec![b'x'; 2 * LONGEST + 5];
        assert_eq!(pieces.feed(&long).iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST]);
        assert_eq!(pieces.feed(b"\n"), ["xxxxx"]);
    }
}
