//! Where a server of the test bed stands: its folder, the address that it binds, and who signs its certificate.
//!
//! Invariant: the same address is used by pods and by the host, so a URL means one thing everywhere.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::pki::{Authority, Issued};
use crate::process::Lifetime;

/// Where free ports are looked for; Linux gives those from 32768 on to outgoing connections, Kubernetes the last 2768 to services.
const PORTS: Range<u16> = 20_000..30_000;

/// A place for servers.
#[derive(Debug, Clone)]
pub struct Site {
    /// Data, configuration and `log/` go here.
    pub folder: PathBuf,
    /// The address to bind and to be called by.
    pub ip: String,
    /// Signs the certificates.
    pub authority: Authority,
    /// Whether processes started here outlive this one.
    pub lifetime: Lifetime,
}

impl Site {
    /// On loopback, for suites that need no cluster.
    pub fn loopback(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            ip: "127.0.0.1".into(),
            authority: Authority::open(&folder.join("pki"))?,
            lifetime: Lifetime::Harness,
        })
    }

    /// The same place with another address.
    #[must_use]
    pub fn on(mut self, ip: impl Into<String>) -> Self {
        self.ip = ip.into();
        self
    }

    /// The same place for what must end with the test that starts it, also where the bed itself is kept.
    #[must_use]
    pub fn of_harness(mut self) -> Self {
        self.lifetime = Lifetime::Harness;
        self
    }

    /// A certificate for a server here; the name tells servers of one site apart.
    pub fn certificate(&self, name: &str) -> Result<Issued> {
        let names = [self.ip.as_str(), "localhost", "host.testbed.internal", "other.testbed.internal"];
        self.authority.issue(&format!("server-{name}"), name, None, &names)
    }

    /// A port of this address, as [`free_port`] finds it.
    pub fn free_port(&self) -> Result<u16> {
        free_port(&self.ip)
    }
}

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections: one of these would be taken
/// again before a server has it.
pub fn free_port(ip: &str) -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS.len() {
        // Processes that run at the same time begin at different places.
        let offset = NEXT
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(std::process::id().wrapping_mul(61));
        let port = PORTS.start + u16::try_from(offset % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
        if TcpListener::bind((ip, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::Other(format!("no free port on {ip} from {} to {}", PORTS.start, PORTS.end)))
}
