//! Foreign text on its way into a status, an event or a log: bounded, and without control characters.

/// The longest beginning of at most `bytes` bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One line for people: control characters become spaces, runs of them one; at most `bytes` bytes, cut with an ellipsis.
pub(crate) fn line(text: &str, bytes: usize) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > bytes {
            out.truncate(cut(&out, bytes.saturating_sub(3)).len());
            out.push('…');
            break;
        }
    }
    out
}

/// Several lines: control characters except line ends become spaces; the last `bytes` bytes.
pub(crate) fn tail(text: &str, bytes: usize) -> String {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..]
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(line("a\r\n\tb\u{1b}[0m  c", 100), "a b [0m c");
        assert_eq!(line(&"ä".repeat(100), 20).len(), 19);
        assert_eq!(line("short", 5), "short");
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(tail("äöü\u{7}x\ny", 6), "ü x\ny");
        assert_eq!(line("", 5), "");
    }
}
