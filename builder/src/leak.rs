//! Looking for secrets in what is about to be published: each step scans what it made for what it held.
//!
//! Invariant: a value is found in each of its usual spellings, wherever pieces of the content begin and end; the values
//! themselves are never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, packed};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values are found everywhere by chance.
const LEAST: usize = 8;
/// Bytes of a file that are looked at in one go.
const PIECE: u64 = 1 << 20;

/// The value as it is, URL-encoded once and twice, as JSON writes it, and in base64 at each of the three alignments.
pub fn forms(value: &str) -> Vec<String> {
    let url: String = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let json = serde_json::to_string(value).expect("invariant: a text is JSON");
    let mut forms = vec![
        value.to_owned(),
        url.clone(),
        url.replace('%', "%25"),
        json.trim_matches('"').to_owned(),
    ];
    for skip in 0..3 {
        let mut bytes = vec![0; skip];
        bytes.extend_from_slice(value.as_bytes());
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            // The letters at both ends mix with the neighbours' bits.
            let start = [0, 2, 3][skip];
            let end = text.len() - usize::from(bytes.len() % 3 != 0);
            if end > start + LEAST {
                forms.push(text[start..end].to_owned());
            }
        }
    }
    forms.push(STANDARD.encode(value));
    forms.sort_by(|a, b| (b.len(), b).cmp(&(a.len(), a)));
    forms.dedup();
    forms
}

/// Finds secret values.
#[derive(Default)]
pub struct Finder {
    search: Option<Search>,
    /// Length of the longest form.
    longest: usize,
}

enum Search {
    /// A few forms, by vector instructions: faster than memory.
    Packed(packed::Searcher),
    Many(AhoCorasick),
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").field("empty", &self.is_empty()).finish()
    }
}

impl Finder {
    /// Looks for these values; those under eight bytes are left out.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut all: Vec<String> = values.into_iter().filter(|value| value.len() >= LEAST).flat_map(forms).collect();
        all.sort_by_key(String::len);
        let mut wanted: Vec<String> = Vec::new();
        for form in all {
            // What holds another form is found with that one.
            if !wanted.iter().any(|shorter| form.contains(shorter.as_str())) {
                wanted.push(form);
            }
        }
        let longest = wanted.iter().map(String::len).max().unwrap_or(0);
        let search = (!wanted.is_empty()).then(|| match packed::Searcher::new(&wanted) {
            Some(searcher) => Search::Packed(searcher),
            None => Search::Many(AhoCorasick::new(&wanted).expect("invariant: a Secret holds at most a mebibyte")),
        });
        Self { search, longest }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// Whether one of the values is in the bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match &self.search {
            None => false,
            Some(Search::Packed(searcher)) => searcher.find(bytes).is_some(),
            Some(Search::Many(automaton)) => automaton.is_match(bytes),
        }
    }

    /// The first file below a folder that holds one of the values. No link is followed; what cannot be read holds none.
    pub fn file_in(&self, folder: &Path) -> Option<PathBuf> {
        let mut entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        entries.into_iter().find_map(|entry| {
            let (kind, path) = (entry.file_type().ok()?, entry.path());
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => self.file_in(&path),
                (_, true) => self.is_in_file(&path).unwrap_or(false).then_some(path),
                _ => None,
            }
        })
    }

    /// Whether one of the values is in a file.
    pub fn is_in_file(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut window = Vec::new();
        loop {
            let kept = window.len();
            Read::by_ref(&mut file).take(PIECE).read_to_end(&mut window)?;
            if self.is_in(&window) {
                return Ok(true);
            }
            if window.len() == kept {
                return Ok(false);
            }
            // What may begin at the end of this piece is looked at again with the next.
            window.drain(..window.len().saturating_sub(self.longest));
        }
    }
}

/// A scan of blocks that come in any order. All but the last are longer than the longest form.
#[derive(Debug)]
pub struct Blocks {
    finder: Arc<Finder>,
    /// By the number of the block that follows: the end of the one before it and its own beginning, whichever came.
    seams: Mutex<BTreeMap<u64, Seam>>,
}

#[derive(Debug, Default)]
struct Seam {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Blocks {
    /// A scan that has seen nothing yet.
    pub fn new(finder: Arc<Finder>) -> Self {
        Self {
            finder,
            seams: Mutex::default(),
        }
    }

    /// Looks at a block, and where it meets neighbours that came before it. Whether it is free of secrets.
    pub fn is_clean(&self, number: u64, block: &[u8]) -> bool {
        if self.finder.is_in(block) {
            return false;
        }
        let reach = self.finder.longest.saturating_sub(1).min(block.len());
        let (head, tail) = (block[..reach].to_vec(), block[block.len() - reach..].to_vec());
        self.meets(number, |seam| seam.after = Some(head)) && self.meets(number + 1, |seam| seam.before = Some(tail))
    }

    /// Adds one side of a seam; whether the seam, when it has both now, is free of secrets.
    fn meets(&self, number: u64, add: impl FnOnce(&mut Seam)) -> bool {
        let mut seams = self.seams.lock().unwrap_or_else(PoisonError::into_inner);
        let seam = seams.entry(number).or_default();
        add(seam);
        let (Some(before), Some(after)) = (&seam.before, &seam.after) else {
            return true;
        };
        let joined = [before.as_slice(), after.as_slice()].concat();
        seams.remove(&number);
        drop(seams);
        !self.finder.is_in(&joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUE: &str = "gehe!m/wort\"9";

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let finder = Finder::new([VALUE, "short"]);
        for content in [
            VALUE.to_owned(),
            "x gehe%21m%2Fwort%229 y".to_owned(),
            "x gehe%2521m%252Fwort%25229 y".to_owned(),
            "{\"p\":\"gehe!m/wort\\\"9\"}".to_owned(),
            STANDARD.encode(format!("user:{VALUE}")),
            STANDARD.encode(format!("user1:{VALUE}")),
            STANDARD.encode(format!("user12:{VALUE}")),
        ] {
            assert!(finder.is_in(content.as_bytes()), "{content}");
            let file = tempfile::NamedTempFile::new().unwrap();
            let lead = usize::try_from(PIECE).unwrap() - 5;
            std::fs::write(file.path(), format!("{}{content}", " ".repeat(lead))).unwrap();
            assert!(finder.is_in_file(file.path()).unwrap(), "{content} where two pieces meet");
        }
        assert!(!finder.is_in(b"short gehe!m/wort8"));
        assert!(!format!("{finder:?}").contains("gehe"));
        assert!(Finder::new(["short"]).is_empty() && !Finder::default().is_in(b""));
    }

    #[test]
    fn many_values_are_found_too() {
        let values: Vec<String> = (0..300)
            .map(|number| format!("{:032x}", u128::from(number + 1u64).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060)))
            .collect();
        let finder = Finder::new(values.iter().map(String::as_str));
        for value in &values {
            assert!(finder.is_in(format!("a={value};").as_bytes()));
        }
        assert!(!finder.is_in("f".repeat(64).as_bytes()));
    }

    proptest! {
        #[test]
        fn blocks_in_any_order_are_as_one_stream(
            before in 0..200usize, after in 0..200usize, there in any::<bool>(), cut in 100..160usize, order in any::<prop::sample::Index>(),
        ) {
            let finder = Arc::new(Finder::new([VALUE]));
            let inner = if there { VALUE } else { "nothing of interest" };
            let stream = format!("{}{inner}{}", "a".repeat(before), "b".repeat(after)).into_bytes();
            let blocks = Blocks::new(finder);
            let mut numbered: Vec<(usize, &[u8])> = stream.chunks(cut).enumerate().collect();
            let turn = order.index(numbered.len());
            numbered.rotate_left(turn);
            if before % 2 == 0 {
                numbered.reverse();
            }
            let clean = numbered.into_iter().fold(true, |clean, (number, block)| blocks.is_clean(number as u64, block) && clean);
            prop_assert_eq!(clean, !there);
        }
    }
}
