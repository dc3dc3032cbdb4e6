//! The secrets that resolve holds: never in what it says, never in what it leaves behind.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::leak::{Finder, forms};

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
        let finder = Finder::new(self.0.iter().map(String::as_str));
        if finder.is_empty() {
            return Ok(());
        }
        super::seal::walk(tree, &mut |path, metadata| {
            if metadata.is_file() && finder.is_in_file(path).map_err(|source| super::seal::tree("read", path, source))? {
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

#[cfg(test)]
mod tests {
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
    fn a_file_with_a_secret_is_named() {
        let secrets = Secrets(vec!["gehe!m/wort\"9".to_owned()]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/file"), "x gehe%21m%2Fwort%229 y").unwrap();
        let error = secrets.scan(folder.path()).unwrap_err();
        assert!(error.to_string().contains("\"etc/file\""), "{error}");
        assert!(!error.to_string().contains("gehe"), "{error}");
        fs::write(folder.path().join("etc/file"), "gehe!m/wort8").unwrap();
        secrets.scan(folder.path()).unwrap();
    }
}
