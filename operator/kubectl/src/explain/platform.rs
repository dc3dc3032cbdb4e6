//! The platform's configuration, where the user may read it.

use robotimage_operator::config::Platform;

use crate::cluster::Cluster;
use crate::error::Error;

/// What marks the objects of the chart.
const SELECTOR: &str = "app.kubernetes.io/name=robotimage";
/// The key with the operator's configuration file.
const FILE: &str = "operator.yaml";

/// The configuration of the operator that was installed into `namespace`, or why it is not known.
pub(super) async fn read(cluster: &Cluster, namespace: &str) -> Result<Platform, String> {
    let maps = match cluster.config_maps(namespace, SELECTOR).await {
        Ok(maps) => maps,
        Err(Error::Forbidden { .. }) => return Err(format!("this user may not list configmaps in namespace {namespace}")),
        Err(error) => return Err(error.to_string()),
    };
    let mut texts = maps.iter().filter_map(|map| map.data.as_ref()?.get(FILE));
    let text = match (texts.next(), texts.next()) {
        (Some(text), None) => text,
        (None, _) => {
            return Err(format!(
                "no ConfigMap of the operator is in namespace {namespace}; --system-namespace names another one"
            ));
        }
        (Some(_), Some(_)) => return Err(format!("several operators are installed in namespace {namespace}")),
    };
    let config = Platform::parse(text).map_err(|error| error.to_string())?;
    if let Some(file) = &config.ca_bundle_file {
        return Err(format!("its certificates are in a file of the operator's container, {file}"));
    }
    let bundle = config.ca_bundle.clone().unwrap_or_default();
    // The API server's address, which only the operator knows, decides nothing that is asked here.
    Platform::new(config, bundle, None).map_err(|error| error.to_string())
}
