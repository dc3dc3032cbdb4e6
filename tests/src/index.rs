//! How this machine reaches the package index, to be handed on to pods: the platform settings of a real site.
//!
//! Invariant: what is not configured here is the public default.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::process::run;

const DEBIAN_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Index, certificates and proxies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageIndex {
    /// The simple index.
    pub url: String,
    /// The certificates that this machine trusts, PEM.
    pub ca_bundle: PathBuf,
    /// `HTTP_PROXY` and its kin, as set.
    pub proxies: Vec<(String, String)>,
}

impl PackageIndex {
    /// As this machine is configured.
    pub fn of_this_machine() -> Result<Self> {
        let mut get = Command::new("python3");
        get.args(["-m", "pip", "config", "--quiet", "get", "global.index-url"]);
        // pip fails when nothing is configured, which is the usual case.
        let configured = std::env::var("PIP_INDEX_URL").ok().or_else(|| run("index of pip", &mut get).ok());
        let url = configured.map(|url| url.trim().to_owned()).filter(|url| !url.is_empty());
        let ca_bundle = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(DEBIAN_BUNDLE), PathBuf::from);
        let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
        let proxies = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        Ok(Self {
            url: url.unwrap_or_else(|| "https://pypi.org/simple".into()),
            ca_bundle,
            proxies,
        })
    }

    /// The bundle's text.
    pub fn ca_pem(&self) -> Result<String> {
        fs::read_to_string(&self.ca_bundle).map_err(Error::io("read", &self.ca_bundle))
    }
}
