//! The custom resource definition as it is installed: what the derive makes, and the few things that it cannot say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

use crate::api::RobotImage;

/// The definition of `robotimages.robotimage.dev`.
///
/// The status as a whole defaults to `{observedGeneration: -1}`: kstatus then reports an object that no operator has
/// seen as *InProgress*, where an empty status would count as *Current*.
pub fn custom_resource_definition() -> CustomResourceDefinition {
    let mut definition = RobotImage::crd();
    for version in &mut definition.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|schema| schema.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"))
            .expect("invariant: the derive emits a schema with a status");
        status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    }
    definition
}
