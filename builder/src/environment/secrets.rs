//! The secrets that resolve holds: never in what it says, never in what it leaves behind.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::error::Error;

/// Shorter values are found everywhere by chance.
const MIN_SCANNED: usize = 8;
/// Shorter values are not replaced: the text would be unreadable, and they are no secrets.
const MIN_REPLACED: usize = 4;
/// Largest netrc file.
const MAX_NETRC: u64 = 1 << 20;

/// Values that must not be seen.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} values)", self.0.len())
    }
}

impl Secrets {
    /// Passwords of a netrc file, and its content for the copy that tools read.
    pub(super) fn of_netrc(path: &Path) -> Result<(Self, Vec<u8>), Error> {
        let unreadable = |source| Error::Tree {
            action: "read",
            path: path.to_path_buf(),
            source,
        };
        let mut content = Vec::new();
        File::open(path)
            .map_err(unreadable)?
            .take(MAX_NETRC + 1)
            .read_to_end(&mut content)
            .map_err(unreadable)?;
        if content.len() as u64 > MAX_NETRC {
            return Err(unreadable(io::Error::other("it is larger than 1 MiB, so it is no netrc file")));
        }
        Ok((Self::in_netrc(&String::from_utf8_lossy(&content)), content))
    }

    fn in_netrc(text: &str) -> Self {
        let mut values = Vec::new();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if matches!(word, "password" | "account") {
                values.extend(words.next().map(|value| value.trim_matches('"').to_owned()));
            }
        }
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values)
    }

    /// The text without any of the values, in any of their forms.
    pub(super) fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.0.iter().filter(|value| value.len() >= MIN_REPLACED) {
            for form in forms(value) {
                text = text.replace(&form, "[secret]");
            }
        }
        text
    }

    /// Looks for the values in every regular file of a tree; finding one is an error that names the file.
    pub(super) fn scan(&self, tree: &Path) -> Result<(), Error> {
        let forms: Vec<Vec<u8>> = self
            .0
            .iter()
            .filter(|value| value.len() >= MIN_SCANNED)
            .flat_map(|value| forms(value))
            .map(String::into_bytes)
            .collect();
        if forms.is_empty() {
            return Ok(());
        }
        let needles: Vec<Needle> = forms.iter().map(|form| Needle::new(form)).collect();
        super::seal::walk(tree, &mut |path, metadata| {
            if metadata.is_file() && contains(path, &needles).map_err(|source| super::seal::tree("read", path, source))? {
                let relative = path.strip_prefix(tree).unwrap_or(path);
                return Err(Error::Leak {
                    path: PathBuf::from(relative),
                });
            }
            Ok(())
        })
    }
}

/// The netrc file in HOME, and its end.
pub(super) struct Netrc {
    path: Option<PathBuf>,
    pub(super) secrets: Secrets,
}

impl Netrc {
    /// Copies the file to HOME, where tools look for it, readable by nobody else. One that is there already goes.
    pub(super) fn place(source: Option<&Path>, home: &Path) -> Result<Self, Error> {
        let path = home.join(".netrc");
        super::seal::remove(&path)?;
        let Some(source) = source else {
            return Ok(Self {
                path: None,
                secrets: Secrets::default(),
            });
        };
        let (secrets, content) = Secrets::of_netrc(source)?;
        let placed = Self {
            path: Some(path.clone()),
            secrets,
        };
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&content))
            .map_err(|source| super::seal::tree("write", &path, source))?;
        Ok(placed)
    }
}

impl Drop for Netrc {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A file that cannot be removed lies in a home that ends with the pod, or in the user's own cache, mode 0600.
            fs::remove_file(path).ok();
        }
    }
}

/// The value as it is, URL-encoded, as JSON writes it, and in base64 at each of the three alignments.
fn forms(value: &str) -> Vec<String> {
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
            if end > start + MIN_SCANNED {
                forms.push(text[start..end].to_owned());
            }
        }
    }
    forms.push(STANDARD.encode(value));
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// A text to search for, by the rule of Horspool.
struct Needle<'a> {
    text: &'a [u8],
    skip: [usize; 256],
}

impl<'a> Needle<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut skip = [text.len(); 256];
        for (at, byte) in text[..text.len() - 1].iter().enumerate() {
            skip[usize::from(*byte)] = text.len() - 1 - at;
        }
        Self { text, skip }
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        let length = self.text.len();
        let mut at = length;
        while at <= haystack.len() {
            if haystack[at - length..at] == *self.text {
                return true;
            }
            at += self.skip[usize::from(haystack[at - 1])];
        }
        false
    }
}

fn contains(path: &Path, needles: &[Needle<'_>]) -> Result<bool, io::Error> {
    let longest = needles.iter().map(|needle| needle.text.len()).max().unwrap_or(0);
    let mut file = File::open(path)?;
    let mut window = Vec::new();
    loop {
        let kept = window.len();
        Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut window)?;
        if needles.iter().any(|needle| needle.is_in(&window)) {
            return Ok(true);
        }
        if window.len() == kept {
            return Ok(false);
        }
        // What may begin at the end of this piece is looked at again with the next.
        window.drain(..window.len().saturating_sub(longest));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_passwords_only() {
        let secrets = Secrets::in_netrc(
            "machine a.example.com login me password p/ss \"w\n# x\nmachine b login you\n password second-one account third\n",
        );
        assert_eq!(secrets.0, ["second-one", "third", "p/ss"]);
        assert_eq!(format!("{secrets:?}"), "Secrets(3 values)");
        assert_eq!(
            secrets.replace("at https://me:second-one@x and p%2Fss"),
            "at https://me:[secret]@x and [secret]"
        );
    }

    #[test]
    fn finds_every_form_in_a_tree() {
        let value = "gehe!m/wort\"9";
        let secrets = Secrets(vec![value.to_owned()]);
        for content in [
            value.to_owned(),
            "x gehe%21m%2Fwort%229 y".to_owned(),
            "{\"p\":\"gehe!m/wort\\\"9\"}".to_owned(),
            STANDARD.encode(format!("user:{value}")),
            STANDARD.encode(format!("user1:{value}")),
            STANDARD.encode(format!("user12:{value}")),
            format!("{}{value}", " ".repeat((1 << 20) - 5)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("etc")).unwrap();
            fs::write(folder.path().join("etc/file"), &content).unwrap();
            let error = secrets.scan(folder.path()).unwrap_err();
            assert!(error.to_string().contains("\"etc/file\""), "{error}");
            assert!(!error.to_string().contains("gehe"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "gehe!m/wort8").unwrap();
        secrets.scan(folder.path()).unwrap();
    }

    proptest! {
        #[test]
        fn a_needle_is_found_wherever_it_is(before in "[ab]{0,40}", needle in "[ab]{1,6}", after in "[ab]{0,40}") {
            let haystack = format!("{before}{needle}{after}");
            prop_assert!(Needle::new(needle.as_bytes()).is_in(haystack.as_bytes()));
            prop_assert_eq!(Needle::new(needle.as_bytes()).is_in(before.as_bytes()), before.contains(&needle));
        }
    }
}
