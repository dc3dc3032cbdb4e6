//! Entry points of the fuzz targets: each takes what a stranger may write, and asserts what must hold whatever it is.
//!
//! Invariant: compiled for fuzzers and tests only. The tests run every kept input, so what a fuzzer once found stays mended
//! without a fuzzer being there.

use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use reqwest::header::HeaderValue;
use url::Url;

use crate::image::base::{BaseReader, Limits};
use crate::image::{elf, oci};
use crate::rcc;
use crate::robot::{self, environment};
use crate::source::probe;

/// A message cannot steer a terminal or forge a line of a log.
fn fit_to_print(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// A robot.yaml.
pub fn robot_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match robot::parse(text, "robot.yaml") {
        Ok(robot) => {
            assert!(!robot.artifacts_dir().is_empty());
            assert!(!robot.artifacts_path().starts_with(".."));
            // An empty name chooses none, and one with quotes or blanks around it cannot be chosen, here as in rcc.
            let bare = |task: &&str| !task.is_empty() && task.trim_matches(['\t', '\r', '\n', '"', '\'', ' ']) == *task;
            for task in robot.tasks().into_iter().filter(bare) {
                let chosen = robot.select_task(Some(task));
                assert!(chosen.is_ok(), "{chosen:?}");
            }
            if let Err(error) = robot.select_task(None) {
                fit_to_print(&error.to_string());
            }
        }
        Err(error) => fit_to_print(&error.to_string()),
    }
}

/// An environment file: the first byte says which of the two formats.
pub fn environment_yaml(data: &[u8]) {
    /// A source with one file, for entries that name files.
    static SOURCE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let name = ["conda.yaml", "sub/Package.YAML"][usize::from(*first) % 2];
    match environment::parse(name, text) {
        Ok(specification) => {
            assert!(serde_json::from_str::<serde_json::Value>(&specification.canonical()).is_ok());
            let _open = (specification.floating().len(), specification.is_uv_native());
            let source = SOURCE.get_or_init(|| {
                let folder = tempfile::tempdir().expect("a folder");
                std::fs::write(folder.path().join("a"), "").expect("a file");
                folder
            });
            match specification.local_files(source.path(), Path::new("")) {
                Ok(files) => assert!(files.iter().all(|file| file == Path::new("a")), "{files:?}"),
                Err(error) => fit_to_print(&error.to_string()),
            }
        }
        Err(error) => fit_to_print(&error.to_string()),
    }
}

/// What rcc and the programs below it said: the first byte is the exit status.
pub fn rcc_output(data: &[u8]) {
    let Some((code, said)) = data.split_first() else { return };
    let said = String::from_utf8_lossy(said);
    let verdict = rcc::classify(&said, (*code > 0).then_some(i32::from(*code)));
    let _again = rcc::is_ambiguous(&said, &verdict);
    assert!(verdict.message.len() <= 4096, "{} bytes", verdict.message.len());
    fit_to_print(&verdict.message);
    for phase in said.lines().filter_map(rcc::phase) {
        fit_to_print(&phase);
    }
}

/// A `Location` of a git server.
pub fn git_redirect(data: &[u8]) {
    let Ok(location) = HeaderValue::from_bytes(data) else { return };
    let from = Url::parse("https://git.example.com/a").expect("a URL");
    match probe::redirected(&from, Some(&location)) {
        Ok(url) => assert!(
            url.host() == from.host() && url.scheme() == "https" && url.port().is_none(),
            "{url}"
        ),
        Err(error) => fit_to_print(&error.to_string()),
    }
}

/// An ELF file. A version that it is said to need stands in it.
pub fn elf(data: &[u8]) {
    if let Some((major, minor)) = elf::needed_by(data) {
        let said = format!("{major}.{minor}");
        assert!(data.windows(said.len()).any(|bytes| bytes == said.as_bytes()), "{said}");
    }
}

/// Layers of a base, the first byte of each saying how it is packed: bit 0, with right checksums, which chance does not find;
/// bits 1 and 2, in gzip or zstd. Layers are divided by the letters `NEXT`.
pub fn base_layer(data: &[u8]) {
    let limits = Limits {
        bytes: 1 << 20,
        headers: 2000,
        text: 4096,
        library: 8192,
        found: 20,
    };
    let mut reader = BaseReader::with_limits(limits);
    let mut rest = data;
    while let Some((how, layer)) = rest.split_first() {
        let end = layer.windows(4).position(|window| window == b"NEXT");
        rest = end.map_or(&[], |end| &layer[end + 4..]);
        let mut layer = layer[..end.unwrap_or(layer.len())].to_vec();
        if how & 1 == 0 {
            correct_checksums(&mut layer);
        }
        let packed = match how >> 1 & 3 {
            1 => gzip(&layer),
            2 => zstd::encode_all(layer.as_slice(), 1).expect("memory"),
            _ => layer,
        };
        if let Err(error) = reader.layer(packed.as_slice()) {
            fit_to_print(&error.to_string());
            return;
        }
    }
    let facts = reader.finish();
    // Bytes that are no UTF-8 become three each.
    for text in [facts.passwd, facts.group].into_iter().flatten() {
        assert!(text.len() <= 3 * 4096);
    }
    assert!(
        facts.links.len() <= 8
            && facts
                .glibc
                .is_none_or(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    );
}

/// An archive as a source, the first byte saying how it is packed: bit 0, a tar archive with right checksums; bits 1 and 2, in
/// gzip or zstd. What is written stays inside of its folder, and is what may be there.
pub fn archive(data: &[u8]) {
    let Some((how, archive)) = data.split_first() else { return };
    let mut bytes = archive.to_vec();
    if how & 1 != 0 {
        correct_checksums(&mut bytes);
    }
    let packed = match how >> 1 & 3 {
        1 => gzip(&bytes),
        2 => zstd::encode_all(bytes.as_slice(), 1).expect("memory"),
        _ => bytes,
    };
    let path = if how & 8 == 0 { "" } else { "robot" };
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("context");
    std::fs::create_dir(&into).expect("a folder");
    if let Err(error) = crate::source::unpack_bytes(&packed, path, &into) {
        fit_to_print(&error.to_string());
    }
    let beside = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert!(beside == 1, "{beside} entries beside the context");
    let mut waiting = vec![into.clone()];
    let mut count = 0;
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("its kind");
            count += 1;
            assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{}", entry.path().display());
            if kind.is_dir() {
                waiting.push(entry.path());
            }
            if let Ok(target) = entry.path().canonicalize() {
                assert!(
                    target.starts_with(into.canonicalize().expect("the context")),
                    "{}",
                    entry.path().display()
                );
            }
        }
    }
    assert!(count <= 100, "{count} entries");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

/// Writes the checksums of the headers that a reader comes to.
fn correct_checksums(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + 512) {
        if header.iter().any(|byte| *byte != 0) {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = std::str::from_utf8(&header[124..135])
            .ok()
            .and_then(|digits| usize::from_str_radix(digits.trim(), 8).ok());
        at += 512 + size.unwrap_or(0).next_multiple_of(512);
    }
}

/// A manifest or a configuration, as the documents of an image are read back.
pub fn documents(data: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<oci::Manifest>(data) {
        assert_eq!(
            serde_json::from_slice::<oci::Manifest>(&oci::to_bytes(&manifest)).ok(),
            Some(manifest)
        );
    }
    if let Ok(config) = serde_json::from_slice::<oci::Config>(data) {
        assert_eq!(serde_json::from_slice::<oci::Config>(&oci::to_bytes(&config)).ok(), Some(config));
    }
}

#[cfg(test)]
mod tests {
    type Target = fn(&[u8]);

    #[test]
    fn kept_inputs() {
        let lines = |data: &[u8]| data.split(|byte| *byte == b'\n').for_each(super::git_redirect);
        let targets: [(&str, Target); 8] = [
            ("archive", super::archive),
            ("robot_yaml", super::robot_yaml),
            ("environment_yaml", super::environment_yaml),
            ("rcc_output", super::rcc_output),
            ("headers", lines),
            ("elf", super::elf),
            ("documents", |data| super::documents(&data[1..])),
            ("base_layer", super::base_layer),
        ];
        for (target, run) in targets {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
            let mut count = 0;
            for entry in std::fs::read_dir(&folder).unwrap() {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no inputs in {}", folder.display());
        }
    }
}
