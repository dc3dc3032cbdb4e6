//! What refers to an image (packages, records of builds): written and listed, with registries that keep such lists and
//! with those that leave it to a tag.
//!
//! Invariant: an entry of another writer is never dropped knowingly. A tag has no compare-and-swap, so the list is read
//! again a while after each write, and written again if somebody else has overwritten it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, MediaType};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::context::{Context, Operation};
use crate::error::Error;
use crate::json;
use crate::reference::Repository;

/// Times that a list is written anew because others overwrote it.
const ROUNDS: u32 = 12;
/// The least and the longest wait before a written list is read again. Between them it is ten times what reading and
/// writing took: another writer's window is of that order.
const SETTLE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// The list of referrers, as the registry or the tag keeps it. Entries of others are kept as they are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u32,
    media_type: String,
    #[serde(default)]
    manifests: Vec<Value>,
}

impl Client {
    /// Writes a manifest that names `subject` in its field `subject`, and sees to it that it is listed there. Its own blobs
    /// must be in the repository.
    pub async fn push_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        bytes: Bytes,
        media_type: &MediaType,
    ) -> Result<Digest, Error> {
        let at = Context::new(Operation::PushManifest, repository, format!("{repository}@{subject}"));
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if document["subject"]["digest"].as_str() != Some(subject.as_ref()) {
            let problem = format!("the manifest to be written does not name {subject} as its subject");
            return Err(Error::Protocol { at: Box::new(at), problem });
        }
        let (digest, listed) = self.write_manifest(repository, bytes.clone(), media_type).await?;
        if !listed {
            let entry = entry(&document, &digest, bytes.len(), media_type);
            self.list_by_tag(&at, repository, subject, entry).await?;
        }
        Ok(digest)
    }

    /// What refers to a manifest; nothing when the registry knows of none.
    pub async fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let at = Context::new(Operation::PullManifest, repository, format!("{repository}@{subject}"));
        let mut call = self.request(
            Method::GET,
            Operation::PullManifest,
            repository,
            at.subject.clone(),
            &format!("referrers/{subject}"),
        )?;
        call.headers
            .insert(ACCEPT, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"));
        let list = match self.small_body(&call).await {
            Ok(bytes) => Some(parse(&at, &bytes)?),
            Err(Error::NotFound { .. }) => self.tag_list(&at, repository, subject).await?,
            Err(error) => return Err(error),
        };
        let entries = list.map(|list| list.manifests).unwrap_or_default();
        serde_json::from_value(Value::Array(entries)).map_err(|error| protocol(&at, &format!("broken list of referrers: {error}")))
    }

    /// The list that the tag holds; `None` when there is no such tag.
    async fn tag_list(&self, at: &Context, repository: &Repository, subject: &Digest) -> Result<Option<List>, Error> {
        match self.manifest(&repository.with_tag(&tag_of(subject))?).await {
            Ok(fetched) => parse(at, &fetched.bytes).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The fallback of the distribution specification: a tag made of the subject's digest names the list.
    async fn list_by_tag(&self, at: &Context, repository: &Repository, subject: &Digest, entry: Value) -> Result<(), Error> {
        let _ours_one_by_one = self.transport.referrers.lock().await;
        let mut written = false;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let mut list = self.tag_list(at, repository, subject).await?.unwrap_or_else(|| List {
                schema_version: 2,
                media_type: MediaType::ImageIndex.to_string(),
                manifests: Vec::new(),
            });
            if list.manifests.iter().any(|other| other["digest"] == entry["digest"]) {
                return Ok(());
            }
            if written {
                tracing::debug!(%subject, "another writer has overwritten the list of referrers; it is written again");
            }
            list.manifests.push(entry.clone());
            let bytes = json::canonical(&list).map_err(|error| protocol(at, &format!("the list cannot be written: {error}")))?;
            self.overwrite(repository, bytes.into(), &MediaType::ImageIndex, &tag_of(subject))
                .await?;
            written = true;
            let settle = (began.elapsed() * 10).clamp(SETTLE.0, SETTLE.1);
            self.transport
                .guard(at, async {
                    tokio::time::sleep(settle).await;
                    Ok(())
                })
                .await?;
        }
        Err(Error::Unavailable {
            at: Box::new(at.clone()),
            cause: "others keep overwriting the list of referrers".to_owned(),
            retry_after: None,
        })
    }
}

/// `sha256-<hex>`: the tag that stands for the list.
fn tag_of(subject: &Digest) -> String {
    subject.as_ref().replace(':', "-")
}

/// The descriptor under which a manifest is listed.
fn entry(document: &Value, digest: &Digest, size: usize, media_type: &MediaType) -> Value {
    let artifact = document.get("artifactType").or_else(|| document["config"].get("mediaType"));
    let mut entry = serde_json::json!({"mediaType": media_type.to_string(), "digest": digest.to_string(), "size": size});
    for (name, value) in [("artifactType", artifact), ("annotations", document.get("annotations"))] {
        if let Some(value) = value {
            entry[name] = value.clone();
        }
    }
    entry
}

fn parse(at: &Context, bytes: &[u8]) -> Result<List, Error> {
    let list: List = serde_json::from_slice(bytes).map_err(|error| protocol(at, &format!("broken list of referrers: {error}")))?;
    if list.schema_version != 2 || list.media_type != MediaType::ImageIndex.to_string() {
        return Err(protocol(at, "what should be its list of referrers is another document"));
    }
    Ok(list)
}

fn protocol(at: &Context, problem: &str) -> Error {
    Error::Protocol {
        at: Box::new(at.clone()),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_the_manifest_is() {
        let digest = crate::digest::sha256(b"x");
        let document = serde_json::json!({"config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "annotations": {"a": "b"}});
        let found = entry(&document, &digest, 7, &MediaType::ImageManifest);
        assert_eq!(
            found,
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": 7,
                "artifactType": "application/vnd.oci.empty.v1+json", "annotations": {"a": "b"},
            })
        );
        let document = serde_json::json!({"artifactType": "t", "config": {"mediaType": "c"}});
        assert_eq!(entry(&document, &digest, 7, &MediaType::ImageManifest)["artifactType"], "t");
        assert_eq!(
            tag_of(&digest),
            "sha256-2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
    }

    #[test]
    fn only_a_list_is_a_list() {
        let at = Context {
            operation: Operation::PullManifest,
            host: "r.example.com".into(),
            subject: "r.example.com/a".into(),
        };
        let good = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"foreign":1}]}"#;
        assert_eq!(parse(&at, good).map(|list| list.manifests.len()).unwrap(), 1);
        for bad in [
            &b"{}"[..],
            b"[]",
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
        ] {
            assert!(parse(&at, bad).is_err());
        }
    }
}
