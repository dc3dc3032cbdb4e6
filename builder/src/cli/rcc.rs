//! The rcc of a build on this machine: named, in PATH, or downloaded by address and checksum.
//!
//! Invariant: a download is used only when its SHA-256 is the one that was given; what is kept in the cache is checked again.

use std::path::PathBuf;

use clap::Args;
use robotimage_crds::api::HttpFile;
use robotimage_crds::reason::Reason;

use super::build::Folders;
use super::network::NetworkArgs;
use crate::failure::Failure;
use crate::steps;

/// Where an rcc can be had.
const HELP: &str = "download the one for Linux x86-64 from where your rcc comes from, such as \
https://github.com/joshyorko/rcc/releases (lines 17, 18 and 19 work), then put it into PATH or give --rcc-exec FILE, or let it be \
downloaded: --rcc-url URL with --rcc-sha256 HEX (ROBOTIMAGE_RCC_URL, ROBOTIMAGE_RCC_SHA256)";

/// Arguments about rcc.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct RccArgs {
    /// The rcc that goes into the image and resolves the environment. Default: the one in PATH, or --rcc-url.
    #[arg(id = "rcc_exec", long = "rcc-exec", value_name = "FILE")]
    pub(super) exec: Option<PathBuf>,
    /// Address to download rcc from once; it stays in the cache.
    #[arg(
        id = "rcc_url",
        long = "rcc-url",
        value_name = "URL",
        requires = "rcc_sha256",
        env = "ROBOTIMAGE_RCC_URL",
        hide_env_values = true
    )]
    url: Option<String>,
    /// SHA-256 that the download must have, 64 hexadecimal digits.
    #[arg(
        id = "rcc_sha256",
        long = "rcc-sha256",
        value_name = "HEX",
        requires = "rcc_url",
        env = "ROBOTIMAGE_RCC_SHA256",
        value_parser = sha256
    )]
    sha256: Option<String>,
}

fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_lowercase())
    } else {
        Err("write 64 hexadecimal digits".to_owned())
    }
}

impl RccArgs {
    /// The path of the binary; downloads it when that was asked for.
    pub(super) async fn obtain(&self, network: &NetworkArgs, folders: &Folders) -> Result<PathBuf, Failure> {
        let missing = |message: String| Failure::new(Reason::RccUnavailable, message);
        if let Some(path) = &self.exec {
            return path
                .canonicalize()
                .map_err(|error| missing(format!("rcc at {}: {error}; correct --rcc-exec", path.display())));
        }
        if let Some(source) = self.download() {
            return fetch(&source, network, folders).await;
        }
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths)
            .map(|folder| folder.join("rcc"))
            .find(|path| path.is_file())
            .ok_or_else(|| missing(format!("there is no rcc in PATH; {HELP}")))
    }

    /// Address and checksum, where both were given.
    pub(super) fn download(&self) -> Option<HttpFile> {
        let (url, sha256) = self.url.clone().zip(self.sha256.clone())?;
        Some(HttpFile { url, sha256 })
    }
}

async fn fetch(source: &HttpFile, network: &NetworkArgs, folders: &Folders) -> Result<PathBuf, Failure> {
    let folder = folders.cache.join("rcc");
    let path = folder.join(&source.sha256);
    if path.is_file() && steps::digest(&path)? == format!("sha256:{}", source.sha256) {
        return Ok(path);
    }
    // Below the scratch folder, which goes whatever happens; the rename is then within one file system.
    let part = folders.scratch.join("rcc.part");
    steps::from_web(&network.web()?, source, &part).await?;
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io("make", &folder, &error))?;
    std::fs::rename(&part, &path).map_err(|error| Failure::io("write", &path, &error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_hexadecimal() {
        assert_eq!(sha256(&"A".repeat(64)), Ok("a".repeat(64)));
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
            assert!(sha256(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_file_in_the_cache_is_checked_again() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders {
            cache: folder.path().to_owned(),
            scratch: folder.path().to_owned(),
        };
        let bytes = b"an rcc";
        let hex = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
        let arguments = RccArgs {
            // Nobody answers there: only the cache can help.
            url: Some("http://127.0.0.1:9/rcc".to_owned()),
            sha256: Some(hex.clone()),
            ..RccArgs::default()
        };
        let network = NetworkArgs::default();
        let kept = folder.path().join("rcc").join(&hex);
        std::fs::create_dir(folder.path().join("rcc")).unwrap();
        std::fs::write(&kept, "something else").unwrap();
        assert!(arguments.obtain(&network, &folders).await.is_err());
        std::fs::write(&kept, bytes).unwrap();
        assert_eq!(arguments.obtain(&network, &folders).await.unwrap(), kept);
    }
}
