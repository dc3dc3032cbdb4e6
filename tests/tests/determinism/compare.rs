//! What differs between two images, in words: the first thing to know when a digest is not the expected one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use robotimage_tests::verify::Image;
use robotimage_tests::{Error, Result};

/// Entries of an archive: all that a reader sees of each, and its first bytes.
type Entries = BTreeMap<String, (String, Vec<u8>)>;

/// Most lines of an explanation.
const LINES: usize = 40;

/// The differences of two layouts, by document and by entry.
pub(crate) fn explain(one: &Path, two: &Path) -> Result<String> {
    let (first, second) = (Image::read(one)?, Image::read(two)?);
    let mut lines = Vec::new();
    for (what, a, b) in [
        ("manifest", &first.manifest, &second.manifest),
        ("configuration", &first.config, &second.config),
    ] {
        if a != b {
            lines.push(format!("{what}:\n  {a}\n  {b}"));
        }
    }
    for (a, b) in first.layers.iter().zip(&second.layers) {
        if a.diff_id == b.diff_id {
            continue;
        }
        let role = a.role.as_deref().unwrap_or("base");
        let (left, right) = (entries(one, a)?, entries(two, b)?);
        for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
            match (left.get(name), right.get(name)) {
                (Some(a), Some(b)) if a == b => {}
                (Some((a, _)), Some((b, _))) if a != b => lines.push(format!("{role} {name}: {a} | {b}")),
                (Some((_, a)), Some((_, b))) => {
                    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                    let around =
                        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 60)]).into_owned();
                    lines.push(format!(
                        "{role} {name}: content differs from byte {at}: {:?} | {:?}",
                        around(a),
                        around(b)
                    ));
                }
                (None, _) => lines.push(format!("{role} {name}: only in the second")),
                (_, None) => lines.push(format!("{role} {name}: only in the first")),
            }
        }
    }
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    Ok(lines.join("\n"))
}

fn entries(layout: &Path, layer: &robotimage_tests::verify::Layer) -> Result<Entries> {
    let path = layout.join("blobs/sha256").join(&layer.digest[7..]);
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let plain: Box<dyn Read> = if layer.media_type.ends_with("zstd") {
        Box::new(zstd::Decoder::new(file).map_err(Error::io("read", &path))?)
    } else {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    };
    let read = || -> std::io::Result<Entries> {
        let mut found = Entries::new();
        for entry in tar::Archive::new(plain).entries()? {
            let mut entry = entry?;
            let header = entry.header();
            let target = entry.link_name()?.unwrap_or_default().display().to_string();
            let (kind, mode, size) = (header.entry_type(), header.mode()?, header.size()?);
            let seen = format!(
                "{kind:?} {mode:o} {}:{} {} {size} {target}",
                header.uid()?,
                header.gid()?,
                header.mtime()?
            );
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            found.insert(entry.path()?.display().to_string(), (seen, content));
        }
        Ok(found)
    };
    read().map_err(Error::io("read", &path))
}
