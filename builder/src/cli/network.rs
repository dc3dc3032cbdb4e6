//! How registries are reached: the arguments that all commands share which speak to one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use robotimage_crds::build::PlanPlatform;
use robotimage_crds::reason::Reason;
use robotimage_registry::{AddressPolicy, Client, ClientOptions};

use super::build::Stop;
use super::inputs::credentials;
use crate::failure::Failure;
use crate::source::Web;
use crate::steps;

/// Arguments about the way to registries.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct NetworkArgs {
    /// Host, or host:port, that is spoken to without TLS; can be given several times.
    #[arg(long, value_name = "HOST")]
    pub(super) plain_http: Vec<String>,
    /// Mirror that is asked for base images before their registry, such as docker.io=mirror.example.com; can be given several
    /// times, and is asked in that order.
    #[arg(long = "mirror", value_name = "REGISTRY=HOST[/PATH]", value_parser = mirror)]
    pub(super) mirrors: Vec<(String, String)>,
    /// PEM file with certificate authorities to trust beside the system's; can be given several times.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Vec<PathBuf>,
}

fn mirror(text: &str) -> Result<(String, String), String> {
    let (registry, mirror) = text.split_once('=').ok_or("write registry=mirror, both as host or host:port")?;
    robotimage_registry::check_mirrors(&BTreeMap::from([(registry.to_owned(), vec![mirror.to_owned()])]))?;
    Ok((registry.to_owned(), mirror.to_owned()))
}

impl NetworkArgs {
    /// A client with the credentials that the user is logged in with.
    pub(super) fn client(&self, stop: &Stop) -> Result<Client, Failure> {
        let platform = PlanPlatform {
            plain_http: self.plain_http.clone(),
            ..PlanPlatform::default()
        };
        let mut options: ClientOptions = steps::client_options(&platform, self.roots()?, AddressPolicy::open(), None, &stop.cancel);
        for (registry, mirror) in &self.mirrors {
            options.mirrors.entry(registry.clone()).or_default().push(mirror.clone());
        }
        steps::client(&options, Some(credentials()?))
    }

    /// The way to addresses that are no registries'.
    pub(super) fn web(&self) -> Result<Web, Failure> {
        Ok(Web {
            policy: AddressPolicy::open(),
            plain_http: self.plain_http.clone(),
            roots: self.roots()?,
        })
    }

    fn roots(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut roots = Vec::new();
        for path in &self.ca {
            let bundle = steps::read_small(path)?.ok_or_else(|| {
                Failure::new(
                    Reason::CertificateUntrusted,
                    format!("the CA file {} does not exist", path.display()),
                )
            })?;
            roots.push(bundle);
        }
        Ok(roots)
    }
}
