//! Who looks at a source of each kind, and sources that make no sense beyond what the schema sees.

use std::time::Duration;

use robotimage_crds::api::Source;
use serde_json::{Value, json};

use super::world::{World, image, platform};
use crate::decide::{Finder, Settings};
use crate::source::Question;

const DIGITS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The operator may read the Secrets of the namespace.
const READS: &str = "sourcePolling: {mode: Operator, namespaces: [finance]}";
const OFF: &str = "sourcePolling: {mode: 'Off'}";
const NO_REGISTRIES: &str = "registryPolling: {enabled: false}";

fn source(value: &Value) -> Source {
    serde_json::from_value(value.clone()).unwrap()
}

fn settings(value: &Value, platform_text: &str) -> Settings {
    let mut spec = image().spec;
    spec.source = source(value);
    Settings::of(&spec, "finance", &platform(platform_text)).unwrap()
}

#[test]
fn who_looks() {
    let secret = json!({"name": "s"});
    let http = json!({"http": {"url": "https://example.com/a.zip"}});
    let http_secret = json!({"http": {"url": "https://example.com/a.zip", "secretRef": secret}});
    let oci = json!({"oci": {"image": "registry.example.com/a:1"}});
    let oci_secret = json!({"oci": {"image": "registry.example.com/a:1", "secretRef": secret}});
    let config_map = json!({"configMap": {"name": "robot"}});
    let pod = Finder::Fetch {
        poll: Some(Duration::from_mins(15)),
    };
    let nobody = Finder::Fetch { poll: None };
    for (source, platform, finder) in [
        (&http, "", &Finder::Operator),
        (&http_secret, "", &pod),
        (&http_secret, READS, &Finder::Operator),
        (&oci, "", &Finder::Operator),
        (&oci, NO_REGISTRIES, &pod),
        (&oci_secret, "", &pod),
        // A registry's Secret is never read by the operator.
        (&oci_secret, READS, &pod),
        (&config_map, "", &pod),
        (&config_map, READS, &pod),
        (&config_map, OFF, &nobody),
    ] {
        let settings = settings(source, platform);
        assert_eq!(&settings.finder, finder, "{source} {platform}");
        assert!(*finder != Finder::Operator || settings.source.question().is_some(), "{source}");
        assert_eq!(settings.refused, None, "{source}");
    }
    let asked = settings(&oci, "").source.question();
    assert_eq!(
        asked,
        Some(Question::Oci {
            image: "registry.example.com/a:1".to_owned()
        })
    );
}

#[test]
fn what_the_spec_names_is_never_looked_for() {
    for (value, revision) in [
        (
            json!({"http": {"url": "https://example.com/a.zip", "sha256": DIGITS}}),
            format!("archive@sha256:{DIGITS}"),
        ),
        (
            json!({"oci": {"image": format!("registry.example.com/a@sha256:{DIGITS}")}}),
            format!("digest@sha256:{DIGITS}"),
        ),
        (
            json!({"oci": {"image": format!("registry.example.com/a:1@sha256:{DIGITS}")}}),
            format!("digest@sha256:{DIGITS}"),
        ),
    ] {
        let Finder::Pinned(found) = settings(&value, OFF).finder else {
            panic!("{value}")
        };
        assert_eq!(found.to_string(), revision);
    }
}

#[test]
fn sources_that_make_no_sense_are_told_and_nothing_is_built() {
    let digest = |text: &str| json!({"oci": {"image": format!("registry.example.com/a@{text}")}});
    for (value, told) in [
        (
            json!({"git": {"url": "https://git.example.com/a.git", "ref": {"semver": "latest"}}}),
            "spec.source.git.ref.semver",
        ),
        (digest("sha256:0123"), "spec.source.oci.image"),
        (digest(&format!("sha512:{DIGITS}{DIGITS}")), "no SHA-256"),
        (json!({"oci": {"image": "registry.example.com/A:1"}}), "spec.source.oci.image"),
    ] {
        let mut world = World::built();
        world.edit(|spec| spec.source = source(&value));
        world.settle();
        assert!(
            world.row().starts_with("Ready=False/NotAllowed Stalled=True/NotAllowed"),
            "{value} {}",
            world.row()
        );
        let message = world.status().last_failure.unwrap().message;
        assert!(message.contains(told), "{message}");
        assert_eq!(world.jobs.len(), World::built().jobs.len(), "{value}");
    }
}
