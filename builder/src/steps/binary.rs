//! The rcc binary: out of an image, or from behind a URL with its checksum.
//!
//! Invariant: what is written is whole and verified: by the digest of its layer, or by the SHA-256 that the plan gives.

use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use futures::TryStreamExt as _;
use reqwest::header::LOCATION;
use robotimage_crds::api::HttpFile;
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Reference, ResolvedImage};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::access::{Side, failure};
use crate::failure::Failure;
use crate::image::decoded::Decoded;
use crate::image::entries::{Entries, MOST_BYTES, MOST_HEADERS};
use crate::source::{Web, WebError};

/// Largest binary, in bytes. rcc with its micromamba is about 40 MB.
const LIMIT: u64 = 512 << 20;
/// Redirects followed, as release pages make them.
const REDIRECTS: usize = 5;
/// Where an image may hold it.
const PLACES: &[&str] = &["rcc", "usr/local/bin/rcc", "usr/bin/rcc"];

fn unavailable(message: String) -> Failure {
    Failure::new(Reason::RccUnavailable, message)
}

/// What an image with rcc is at this moment.
pub(super) async fn resolve_image(client: &Client, image: &str) -> Result<ResolvedImage, Failure> {
    let reference = Reference::parse(image).map_err(|error| unavailable(format!("rcc: {error}")))?;
    client
        .resolve_image(&reference, "linux", "amd64")
        .await
        .map_err(|error| failure(&error, Side::Rcc))
}

/// Takes rcc out of a resolved image and writes it to `to`, executable.
pub(super) async fn from_resolved(
    client: &Client,
    image: &str,
    resolved: &ResolvedImage,
    scratch: &Path,
    to: &Path,
) -> Result<(), Failure> {
    let fail = |error: robotimage_registry::Error| failure(&error, Side::Rcc);
    let repository = resolved.reference.to_repository();
    let mut left = Left::default();
    // The topmost layer that has it wins, as in a running container.
    for layer in resolved.manifest.layers().iter().rev() {
        let spool = tempfile::NamedTempFile::new_in(scratch).map_err(|error| Failure::io("write to", scratch, &error))?;
        let handle = spool.reopen().map_err(|error| Failure::io("write", spool.path(), &error))?;
        let mut file = tokio::fs::File::from_std(handle);
        client.blob_to_file(&repository, layer, &mut file).await.map_err(fail)?;
        drop(file);
        let to = to.to_owned();
        let found;
        (found, left) = tokio::task::spawn_blocking(move || -> io::Result<(bool, Left)> {
            let file = io::BufReader::new(spool.reopen()?);
            extract(file, left, &to)
        })
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| unavailable(format!("rcc image {image}: a layer cannot be read: {error}")))?;
        if found {
            return Ok(());
        }
    }
    Err(unavailable(format!(
        "rcc image {image} holds no file /rcc, /usr/local/bin/rcc or /usr/bin/rcc; name one that does"
    )))
}

/// What may still be read of an image.
#[derive(Clone, Copy)]
struct Left {
    bytes: u64,
    headers: u64,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            bytes: MOST_BYTES,
            headers: MOST_HEADERS,
        }
    }
}

/// Writes the first file at one of the places; false when the layer has none. What was read is no longer left.
fn extract(layer: impl Read, left: Left, to: &Path) -> io::Result<(bool, Left)> {
    let mut decoded = Decoded::new(layer, left.bytes)?;
    let mut entries = Entries::new(&mut decoded, left.headers);
    let mut found = false;
    while let Some(entry) = entries.next()? {
        if entry.kind.is_file() && !entry.sparse && PLACES.contains(&entry.path.as_str()) {
            let mut file = std::fs::File::create(to)?;
            entries
                .copy(LIMIT, &mut file)
                .map_err(|error| io::Error::new(error.kind(), format!("/{}: {error}", entry.path)))?;
            executable(&file)?;
            found = true;
            break;
        }
    }
    let headers = entries.left();
    let bytes = decoded.left();
    Ok((found, Left { bytes, headers }))
}

/// Readable and executable for the group too: another step, under another user of the group, runs it.
fn executable(file: &std::fs::File) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(0o755))
}

/// Downloads rcc and writes it to `to`, executable, once its checksum is right.
pub async fn from_web(web: &Web, source: &HttpFile, to: &Path) -> Result<(), Failure> {
    let refuse = |problem: String| unavailable(format!("rcc at {}: {problem}", source.url));
    let web_failure = |error: &WebError| {
        let reason = match error {
            WebError::Untrusted(_) => Reason::CertificateUntrusted,
            WebError::Proxy(_) => Reason::ProxyFailed,
            WebError::AddressDenied(_) => Reason::NotAllowed,
            _ => Reason::RccUnavailable,
        };
        Failure::new(reason, format!("rcc at {}: {error}", source.url))
    };
    let mut url = Url::parse(&source.url).map_err(|error| refuse(error.to_string()))?;
    let clients = web.clients().map_err(|error| web_failure(&error))?;
    for _ in 0..=REDIRECTS {
        web.check(&url).map_err(refuse)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let client = clients.reaching(&url).map_err(|error| web_failure(&error.into()))?;
        let answer = client
            .get(url.clone())
            .send()
            .await
            .map_err(|error| web_failure(&WebError::of(error, &host)))?;
        if answer.status().is_redirection() {
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = location
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| refuse("it answers with a redirect to nowhere".to_owned()))?;
            continue;
        }
        if !answer.status().is_success() {
            return Err(refuse(format!("the server answers {}; check the address", answer.status())));
        }
        return download(answer, source, &host, to, &web_failure).await;
    }
    Err(refuse(format!("it redirects more than {REDIRECTS} times")))
}

async fn download(
    answer: reqwest::Response,
    source: &HttpFile,
    host: &str,
    to: &Path,
    web_failure: &impl Fn(&WebError) -> Failure,
) -> Result<(), Failure> {
    let io = |error: io::Error| Failure::io("write", to, &error);
    let mut file = std::fs::File::create(to).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.try_next().await.map_err(|error| web_failure(&WebError::of(error, host)))? {
        size += piece.len() as u64;
        if size > LIMIT {
            return Err(unavailable(format!("rcc at {} is larger than {LIMIT} bytes", source.url)));
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(io)?;
    }
    let actual = hex::encode(hasher.finalize());
    if actual != source.sha256 {
        return Err(Failure::new(
            Reason::ChecksumMismatch,
            format!(
                "rcc at {} has the SHA-256 {actual}, not {}; correct the checksum or the address",
                source.url, source.sha256
            ),
        ));
    }
    executable(&file).map_err(io)
}

/// `sha256:` and the hash of a file.
pub fn digest(path: &Path) -> Result<String, Failure> {
    let io = |error: io::Error| Failure::io("read", path, &error);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok(format!("sha256:{}", hex::encode(hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(paths: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for path in paths {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, &b"rcc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn finds_rcc_in_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("rcc");
        let found = |layer: &[u8]| extract(layer, Left::default(), &to).unwrap().0;
        assert!(!found(&archive(&["usr/share/rcc"])));
        let packed = zstd::encode_all(&archive(&["usr/bin/rcc"])[..], 1).unwrap();
        for layer in [archive(&["rcc"]), archive(&["./usr/local/bin/rcc"]), packed] {
            assert!(found(&layer));
            assert_eq!(std::fs::read(&to).unwrap(), b"rcc");
            assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        }
        assert_eq!(digest(&to).unwrap(), crate::image::oci::digest(b"rcc"));
    }

    #[test]
    fn what_a_stranger_packed_is_read_with_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("rcc");
        let refused = |layer: &[u8], left: Left| extract(layer, left, &to).map(|_| ()).unwrap_err().to_string();
        // A name that says it has 8 GiB: the header alone must be enough to refuse it.
        let mut long = tar::Header::new_gnu();
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_size(8 << 30);
        long.set_cksum();
        let error = refused(long.as_bytes(), Left::default());
        assert!(error.contains("extended header"), "{error}");
        let mut large = tar::Header::new_gnu();
        large.set_path("rcc").unwrap();
        large.set_size(LIMIT + 1);
        large.set_cksum();
        let error = refused(large.as_bytes(), Left::default());
        assert!(error.contains("/rcc") && error.contains("bytes"), "{error}");
        // Few bytes that stand for many, and many entries; what one layer took is gone for the next.
        let many = archive(&["a", "b", "c"]);
        let zeros = zstd::encode_all(&vec![0; 1 << 20][..], 1).unwrap();
        let few = |bytes, headers| Left { bytes, headers };
        assert!(refused(&many, few(1 << 20, 2)).contains("too many entries"));
        let (found, left) = extract(&many[..], few(1 << 20, 5), &to).unwrap();
        assert!(!found && left.headers == 1 && left.bytes < 1 << 20);
        let mut bomb = archive(&["a"]);
        bomb.truncate(512);
        let error = refused(&[zstd::encode_all(&bomb[..], 1).unwrap(), zeros].concat(), few(600, 5));
        assert!(error.contains("larger than any"), "{error}");
    }
}
