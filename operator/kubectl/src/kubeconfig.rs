//! Which cluster is meant: found as kubectl finds it.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::arguments::ConnectionArguments;
use crate::error::Error;

/// Environment variable that is there inside a pod.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The configuration of the client. In a pod without a kubeconfig it is that of its service account.
pub(crate) async fn configuration(arguments: &ConnectionArguments) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: arguments.context.clone(),
        ..KubeConfigOptions::default()
    };
    let Some(kubeconfig) = kubeconfig(arguments.kubeconfig.as_deref())? else {
        if std::env::var_os(IN_CLUSTER).is_some() {
            return Config::incluster().map_err(|error| Error::Client(format!("the service account of this pod: {error}")));
        }
        return Err(Error::NoKubeconfig { looked: looked() });
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| Error::Kubeconfig(Box::new(error)))
}

/// The kubeconfig: the file that is named, or all files of KUBECONFIG that exist, or ~/.kube/config.
fn kubeconfig(named: Option<&Path>) -> Result<Option<Kubeconfig>, Error> {
    let read = |path: &Path| Kubeconfig::read_from(path).map_err(|error| Error::Kubeconfig(Box::new(error)));
    if let Some(path) = named {
        if !path.exists() {
            return Err(Error::NoKubeconfig {
                looked: format!("{} does not exist", path.display()),
            });
        }
        return read(path).map(Some);
    }
    let mut merged: Option<Kubeconfig> = None;
    for path in candidates().iter().filter(|path| path.exists()) {
        let next = read(path)?;
        merged = Some(match merged {
            Some(before) => before.merge(next).map_err(|error| Error::Kubeconfig(Box::new(error)))?,
            None => next,
        });
    }
    Ok(merged)
}

fn candidates() -> Vec<PathBuf> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|value| std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if listed.is_empty() {
        std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect()
    } else {
        listed
    }
}

fn looked() -> String {
    let paths: Vec<String> = candidates().iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() {
        return "neither --kubeconfig nor KUBECONFIG is set, and there is no home folder".to_owned();
    }
    format!("none of these files exists: {}", paths.join(", "))
}
