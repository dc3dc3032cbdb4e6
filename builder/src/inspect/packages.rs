//! What is installed in an environment, from the layers that hold it.
//!
//! Invariant: a layer streams by; of its files only the records of packages are kept in memory, each bounded.

use std::io::{self, Read};

use crate::environment::Package;
use crate::environment::inventory::{MAX_CONDA_RECORD, MAX_METADATA, conda_package, merged, pip_package};
use crate::image::layer_files;

/// Records of packages that are read of one image, at most.
const MAX_PACKAGES: usize = 20_000;

/// Takes layers one after the other.
#[derive(Debug, Default)]
pub struct PackageReader {
    conda: Vec<Package>,
    pip: Vec<Package>,
}

/// Who writes a record with this path, if it is one.
#[derive(Clone, Copy)]
enum Record {
    Conda,
    Pip,
}

fn record(path: &str) -> Option<Record> {
    let mut parts = path.rsplit('/');
    let (name, folder) = (parts.next()?, parts.next()?);
    if folder == "conda-meta" && name.rsplit_once('.').is_some_and(|(_, ending)| ending == "json") {
        return Some(Record::Conda);
    }
    let of_python = name == "METADATA" && folder.ends_with(".dist-info") && parts.next() == Some("site-packages");
    of_python.then_some(Record::Pip)
}

impl PackageReader {
    /// Reads a layer, whatever it is compressed with.
    pub fn layer(&mut self, bytes: impl Read) -> io::Result<()> {
        layer_files(
            bytes,
            &|path| {
                record(path).map(|record| match record {
                    Record::Conda => MAX_CONDA_RECORD,
                    Record::Pip => MAX_METADATA,
                })
            },
            &mut |path, content| {
                let wrong = |error: io::Error| io::Error::new(error.kind(), format!("/{path}: {error}"));
                match record(path) {
                    Some(Record::Conda) => self.conda.push(conda_package(content).map_err(wrong)?),
                    Some(Record::Pip) => self.pip.push(pip_package(content).map_err(wrong)?),
                    None => {}
                }
                if self.conda.len() + self.pip.len() > MAX_PACKAGES {
                    return Err(io::Error::other(format!("it has more than {MAX_PACKAGES} packages")));
                }
                Ok(())
            },
        )
    }

    /// All packages, sorted. One that conda installed is not listed again as Python's.
    pub fn finish(self) -> Vec<Package> {
        merged(self.conda, self.pip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn packages_of_several_layers_are_one_list() {
        let site = "opt/rcc/holotree/x/lib/python3.11/site-packages";
        let mut reader = PackageReader::default();
        let pip = [
            (format!("{site}/pip-23.2.1.dist-info/METADATA"), "Name: pip\nVersion: 23.2.1\n"),
            (
                format!("{site}/rich-13.7.1.dist-info/METADATA"),
                "Name: rich\nVersion: 13.7.1\n\nText",
            ),
            (format!("{site}/rich/vendored.dist-info/METADATA"), "Name: hidden\nVersion: 1\n"),
        ];
        let files: Vec<(&str, &str)> = pip.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        reader.layer(layer(&files).as_slice()).unwrap();
        let conda = layer(&[
            ("opt/rcc/holotree/x/conda-meta/pip-23.json", r#"{"name":"pip","version":"23.2.1"}"#),
            ("opt/rcc/holotree/x/conda-meta/history", "x"),
        ]);
        reader.layer(conda.as_slice()).unwrap();
        let found: Vec<String> = reader
            .finish()
            .iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        assert_eq!(found, ["pip 23.2.1", "rich 13.7.1"]);
    }

    #[test]
    fn a_broken_record_is_named() {
        let broken = layer(&[("x/conda-meta/bad.json", "{")]);
        let error = PackageReader::default().layer(broken.as_slice()).unwrap_err();
        assert!(error.to_string().contains("/x/conda-meta/bad.json"), "{error}");
        assert!(
            PackageReader::default()
                .layer(&b"no archive at all, and longer than a record of tar"[..])
                .is_err()
        );
    }
}
