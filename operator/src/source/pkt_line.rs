//! pkt-line, git's framing: four hexadecimal digits of length, then the bytes.

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// Payload, a final line end removed.
    Data(&'a [u8]),
    /// `0000`: end of a message.
    Flush,
    /// `0001`: end of a section.
    Delimiter,
    /// `0002`: end of a response.
    End,
}

/// The bytes are not pkt-lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    /// Four hexadecimal digits were expected.
    #[error("it has a packet without a length")]
    Length,
    /// The bytes end inside a packet.
    #[error("it ends inside a packet")]
    Truncated,
}

/// Reads the packets of a whole answer, one after another; ends at the first error.
pub(crate) struct Packets<'a>(&'a [u8]);

impl<'a> Packets<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn read(&mut self) -> Result<Packet<'a>, PacketError> {
        let digits = self.0.get(..4).ok_or(PacketError::Truncated)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PacketError::Length);
        }
        let text = std::str::from_utf8(digits).map_err(|_| PacketError::Length)?;
        let length = usize::from_str_radix(text, 16).map_err(|_| PacketError::Length)?;
        let (packet, used) = match length {
            0 => (Packet::Flush, 4),
            1 => (Packet::Delimiter, 4),
            2 => (Packet::End, 4),
            3 => return Err(PacketError::Length),
            length => {
                let data = self.0.get(4..length).ok_or(PacketError::Truncated)?;
                (Packet::Data(data.strip_suffix(b"\n").unwrap_or(data)), length)
            }
        };
        self.0 = &self.0[used..];
        Ok(packet)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let packet = self.read();
        if packet.is_err() {
            self.0 = &[];
        }
        Some(packet)
    }
}

/// Writes one line.
pub(crate) fn line(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back() {
        let mut bytes = Vec::new();
        line(&mut bytes, "version 2");
        bytes.extend_from_slice(b"00010004000000020005x");
        let packets: Result<Vec<_>, _> = Packets::new(&bytes).collect();
        assert_eq!(
            packets.unwrap(),
            [
                Packet::Data(b"version 2"),
                Packet::Delimiter,
                Packet::Data(b""),
                Packet::Flush,
                Packet::End,
                Packet::Data(b"x")
            ]
        );
    }

    #[test]
    fn hostile_bytes_end_it() {
        for (bytes, error) in [
            (&b"00"[..], PacketError::Truncated),
            (b"zzzz", PacketError::Length),
            (b"+005x", PacketError::Length),
            (b"0003", PacketError::Length),
            (b"ffffshort", PacketError::Truncated),
            (b"\xff\xff\xff\xff", PacketError::Length),
            (b"<html>", PacketError::Length),
        ] {
            let mut packets = Packets::new(bytes);
            assert_eq!(packets.next(), Some(Err(error)), "{bytes:?}");
            assert_eq!(packets.next(), None);
        }
    }
}
