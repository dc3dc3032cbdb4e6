//! The servers of our own that a whole test bed has: git over https, and files over http and https.
//!
//! Invariant: their addresses follow from the instance alone, so they are the same whether they live in this process
//! or, for a kept test bed, in one of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::cache::Cache;
use crate::channel;
use crate::error::{Error, Result};
use crate::files;
use crate::git::{GitOptions, GitServer};
use crate::rcc::Rcc;
use crate::site::Site;
use crate::web::Server;

/// Ports on the host's own address.
pub(crate) const GIT_PORT: u16 = 3000;
const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;

/// Running servers; dropping them ends them.
#[derive(Debug)]
pub struct Servers {
    /// Git over https.
    pub git: GitServer,
    /// Files over http.
    pub http: Server,
    /// The same files over https.
    pub https: Server,
}

/// Where the files are.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct FileUrls {
    /// `http://ip:port`.
    pub http: String,
    /// `https://ip:port`.
    pub https: String,
}

impl FileUrls {
    /// Of a site's file servers.
    pub fn of(site: &Site) -> Self {
        Self {
            http: format!("http://{}:{HTTP_PORT}", site.ip),
            https: format!("https://{}:{HTTPS_PORT}", site.ip),
        }
    }

    /// The conda channel; plain http, since micromamba needs no secret for it.
    pub fn channel(&self) -> String {
        format!("{}/conda", self.http)
    }

    /// An rcc binary.
    pub fn rcc(&self, rcc: &Rcc) -> String {
        format!("{}/rcc/{}", self.https, rcc.file_name())
    }
}

/// Fills the folder of the file servers: `conda/`, the same as `conda-forge/` for channel aliases, and `rcc/rcc-VERSION`.
pub fn publish(cache: &Cache, site: &Site, rcc: &[Rcc]) -> Result<()> {
    let root = site.folder.join("www");
    fs::create_dir_all(root.join("rcc")).map_err(Error::io("create", &root))?;
    let channel = channel::channel(cache)?;
    link(&channel, &root.join("conda"))?;
    link(&channel, &root.join("conda-forge"))?;
    rcc.iter()
        .try_for_each(|rcc| link(&rcc.path, &root.join("rcc").join(rcc.file_name())))
}

/// Starts all of them.
pub fn start(site: &Site) -> Result<Servers> {
    let root = site.folder.join("www");
    Ok(Servers {
        git: GitServer::start(
            site,
            &GitOptions {
                name: "main".into(),
                port: Some(GIT_PORT),
                tls: true,
            },
        )?,
        http: files::serve(&format!("{}:{HTTP_PORT}", site.ip), None, root.clone())?,
        https: files::serve(&format!("{}:{HTTPS_PORT}", site.ip), Some(site.certificate("files")?), root)?,
    })
}

fn link(target: &Path, link: &Path) -> Result<()> {
    match symlink(target, link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("link", link)(error)),
        _ => Ok(()),
    }
}
