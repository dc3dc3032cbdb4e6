//! A real registry (distribution v3 unless another is asked for), with or without TLS, a password or a token service; it
//! can be stopped, started again on the same port, frozen and slowed.
//!
//! Invariant: address, data and logins outlive a stop, so "down and back again" is one registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::parts;
use crate::process::{Identity, Part, Place, Spec, ready, run};
use crate::secret::Login;
use crate::site::Site;

/// Which program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Make {
    /// distribution v3.
    #[default]
    Three,
    /// distribution 2.8.
    Two,
    /// `crane registry serve`: plain http for everybody.
    Crane,
}

/// How a registry is to be.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Tells the registries of one site apart; names its folder and its log.
    pub name: String,
    /// A fixed port, or a free one.
    pub port: Option<u16>,
    /// With a certificate of the site's authority.
    pub tls: bool,
    /// Who may enter; everybody when absent.
    pub login: Option<Login>,
    /// What its configuration says under `auth` instead, such as [`crate::tokenservice::TokenService::configuration`].
    pub auth: Option<Value>,
    /// Which program.
    pub make: Make,
}

impl RegistryOptions {
    /// Plain http for everybody.
    pub fn open(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// TLS and a password.
    pub fn private(name: &str, login: Login) -> Self {
        Self {
            name: name.into(),
            tls: true,
            login: Some(login),
            ..Self::default()
        }
    }
}

/// What others need to know of a registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegistryAddress {
    /// `host:port`, the first part of a reference.
    pub address: String,
    /// Whether it speaks https.
    pub tls: bool,
    /// Who may enter.
    pub login: Option<Login>,
    /// The certificate authority's file.
    pub authority: PathBuf,
    /// Where layers and tags are kept.
    pub storage: PathBuf,
    crane: PathBuf,
    scratch: PathBuf,
}

/// A running registry; dropping it ends it, unless it is kept.
#[derive(Debug)]
pub struct Registry {
    at: RegistryAddress,
    /// What it says when it listens.
    line: String,
    part: Part,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub async fn start(cache: &Cache, site: &Site, options: RegistryOptions) -> Result<Self> {
        let folder = site.folder.join(format!("registry-{}", options.name));
        let storage = folder.join("storage");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        fs::create_dir_all(&storage).map_err(Error::io("create", &storage))?;
        let port = options.port.map_or_else(|| site.free_port(), Ok)?;
        let address = format!("{}:{port}", site.ip);
        let config = configuration(site, &options, &address, &folder)?;
        let config_path = folder.join("config.json");
        fs::write(&config_path, config.to_string()).map_err(Error::io("write", &config_path))?;
        let (program, args) = match options.make {
            Make::Three => (parts::registry(cache)?, vec!["serve".into(), config_path.display().to_string()]),
            Make::Two => (parts::registry_two(cache)?, vec!["serve".into(), config_path.display().to_string()]),
            Make::Crane => {
                let words = ["registry", "serve", "--address", &address, "--disk", &storage.display().to_string()];
                (parts::crane(cache)?, words.map(str::to_owned).to_vec())
            }
        };
        let line = match options.make {
            Make::Three | Make::Two => format!("listening on {address}"),
            Make::Crane => format!("serving on port {port}"),
        };
        let spec = Spec {
            name: format!("registry-{}", options.name),
            program,
            args,
            // It would look for a collector of traces otherwise, and fill its log.
            env: BTreeMap::from([("OTEL_TRACES_EXPORTER".into(), "none".into())]),
            log: site.folder.join("log").join(format!("registry-{}.log", options.name)),
            place: Place::Host,
            lifetime: site.lifetime,
        };
        let at = RegistryAddress {
            address,
            tls: options.tls,
            login: options.login,
            authority: site.authority.certificate(),
            storage,
            crane: parts::crane(cache)?,
            scratch: folder,
        };
        let mut registry = Self {
            at,
            line,
            part: Part::start(spec)?,
        };
        match registry.wait().await {
            Ok(()) => Ok(registry),
            Err(error) => {
                registry.part.kill();
                Err(error)
            }
        }
    }

    /// Its address, login and certificate authority.
    pub fn at(&self) -> &RegistryAddress {
        &self.at
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.at.address
    }

    /// The process.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Its process for a state file.
    pub fn record(&self) -> (Spec, Identity) {
        (self.part.spec().clone(), self.part.identity())
    }

    /// Connections are refused from now on.
    pub fn stop(&mut self) {
        self.part.kill();
    }

    /// Back again on the same port with the same data.
    pub async fn start_again(&mut self) -> Result<()> {
        self.part.restart()?;
        self.wait().await
    }

    /// It accepts connections and answers nothing.
    pub fn freeze(&self) -> bool {
        self.part.freeze()
    }

    /// It answers again.
    pub fn thaw(&self) -> bool {
        self.part.thaw()
    }

    async fn wait(&self) -> Result<()> {
        // A connection alone proves nothing: somebody else may listen on that port while ours is failing to.
        let listening = async || {
            if self.part.has_said(&self.line) {
                Ok(())
            } else {
                Err("it does not listen yet".to_owned())
            }
        };
        ready(&[&self.part], Duration::from_mins(1), listening).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if self.part.spec().lifetime == crate::process::Lifetime::Harness {
            self.part.kill();
        }
    }
}

impl RegistryAddress {
    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// A full reference: `host:port/name`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// What belongs into a Secret of type `kubernetes.io/dockerconfigjson`, or into `~/.docker/config.json`.
    pub fn docker_config(&self) -> Value {
        match &self.login {
            Some(login) => json!({"auths": {&self.address: {"auth": login.basic()}}}),
            None => json!({"auths": {}}),
        }
    }

    /// Runs crane with the registry's login and authority and gives its stdout.
    pub fn crane(&self, args: &[&str]) -> Result<String> {
        let folder = self.scratch.join("docker");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let file = folder.join("config.json");
        fs::write(&file, self.docker_config().to_string()).map_err(Error::io("write", &file))?;
        let mut command = Command::new(&self.crane);
        command.args(args).env_clear().envs(crate::process::basics());
        command.env("DOCKER_CONFIG", &folder).env("SSL_CERT_FILE", &self.authority);
        if !self.tls {
            command.arg("--insecure");
        }
        run("registry client", &mut command)
    }

    /// Pushes an OCI layout of one image as `name`, for example `base/debian:bookworm-slim`; gives its digest.
    pub fn push_layout(&self, layout: &Path, name: &str) -> Result<String> {
        let reference = self.reference(name);
        self.crane(&["push", &layout.display().to_string(), &reference])?;
        self.digest(name)
    }

    /// The digest of a reference's manifest.
    pub fn digest(&self, name: &str) -> Result<String> {
        Ok(self.crane(&["digest", &self.reference(name)])?.trim().to_owned())
    }

    /// The tags of a repository, sorted; none when it does not exist.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        match self.crane(&["ls", &self.reference(repository)]) {
            Ok(text) => {
                let mut tags: Vec<String> = text.lines().map(str::to_owned).collect();
                tags.sort();
                Ok(tags)
            }
            Err(Error::Command { output, .. }) if output.contains("NAME_UNKNOWN") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn configuration(site: &Site, options: &RegistryOptions, address: &str, folder: &Path) -> Result<Value> {
    let mut http = json!({"addr": address, "secret": "one process, no load balancer"});
    if options.tls {
        let issued = site.certificate(&format!("registry-{}", options.name))?;
        http["tls"] = json!({"certificate": issued.certificate, "key": issued.key});
    }
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info", "formatter": "text"},
        "storage": {"filesystem": {"rootdirectory": folder.join("storage")}, "delete": {"enabled": true}},
        "http": http,
    });
    if let Some(auth) = &options.auth {
        config["auth"] = auth.clone();
    } else if let Some(login) = &options.login {
        let path = folder.join("htpasswd");
        fs::write(&path, htpasswd(login)?).map_err(Error::io("write", &path))?;
        config["auth"] = json!({"htpasswd": {"realm": "testbed", "path": path}});
    }
    Ok(config)
}

/// One line of an htpasswd file; the registry takes bcrypt only. The password goes by stdin, not by argv.
fn htpasswd(login: &Login) -> Result<String> {
    let failed = |why: String| Error::Command {
        what: "hash of a password".into(),
        command: "htpasswd -Bin".into(),
        why,
        output: "  it comes with the Debian package apache2-utils".into(),
    };
    let mut command = Command::new("htpasswd");
    command
        .args(["-C", "4", "-Bin", &login.user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("could not be run: {error}")))?;
    let mut stdin = child.stdin.take().expect("invariant: it is piped");
    stdin
        .write_all(login.password.reveal().as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("failed ({})", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
