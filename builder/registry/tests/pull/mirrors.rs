//! Mirrors: asked first, trusted with nothing, passed over when they fail.

use std::collections::BTreeMap;

use robotimage_registry::{Client, ClientOptions, Credentials, Descriptor, Error, ErrorKind, MediaType, Repository, digest};

use crate::mock_answers::{Answer, MockAnswers};
use crate::{OCI_MANIFEST, content, descriptor, documents, options, repository, tagged};

/// A registry with an image, whose first mirror has a path of its own.
struct Ground {
    origin: MockAnswers,
    mirrors: [MockAnswers; 2],
    client: Client,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

async fn ground(credentials: impl Fn(&str, &str) -> String) -> Ground {
    let (origin, first, second) = (MockAnswers::start().await, MockAnswers::start().await, MockAnswers::start().await);
    let json = credentials(&origin.host, &first.host);
    let options = ClientOptions {
        mirrors: BTreeMap::from([(origin.host.clone(), vec![format!("{}/cache", first.host), second.host.clone()])]),
        ..options()
    };
    let client = Client::new(options, Credentials::from_docker_config(json.as_bytes()).unwrap()).unwrap();
    let (config, manifest) = documents("amd64", OCI_MANIFEST);
    origin.blob(&config);
    origin.manifest(OCI_MANIFEST, &manifest, Some("v1"));
    Ground {
        origin,
        mirrors: [first, second],
        client,
        config,
        manifest,
    }
}

fn anonymous(_: &str, _: &str) -> String {
    "{}".to_owned()
}

impl Ground {
    /// What the first mirror answers to the tag and to the configuration's blob.
    fn first(&self, tag: Answer, blob: Answer) {
        self.mirrors[0].at("/v2/cache/robots/a/manifests/v1", [tag]);
        self.mirrors[0].at(&format!("/v2/cache/robots/a/blobs/{}", digest::sha256(&self.config)), [blob]);
    }

    fn right_tag(&self) -> Answer {
        Answer::ok(self.manifest.clone()).header("Content-Type", OCI_MANIFEST)
    }

    fn right_blob(&self) -> Answer {
        Answer::ok(self.config.clone())
    }

    /// Requests to the first mirror, the second, and the registry itself.
    async fn resolve(&self) -> [usize; 3] {
        let image = self.client.resolve_image(&tagged(&self.origin), "linux", "amd64").await.unwrap();
        assert_eq!(
            (&image.config_bytes[..], &image.manifest_bytes[..]),
            (&self.config[..], &self.manifest[..])
        );
        assert_eq!(image.reference.registry(), self.origin.host, "a mirror leaves no trace");
        self.asked()
    }

    fn asked(&self) -> [usize; 3] {
        [&self.mirrors[0], &self.mirrors[1], &self.origin].map(|server| server.seen().len())
    }
}

#[tokio::test]
async fn whatever_a_mirror_does_the_image_is_right() {
    // What it answers to the tag and to the blob, and how often each is asked: first mirror, second mirror, registry.
    type Change = fn(&Ground) -> (Answer, Answer);
    let table: [(&str, Change, [usize; 3]); 9] = [
        ("serves", |ground| (ground.right_tag(), ground.right_blob()), [2, 0, 0]),
        ("has nothing", |_| (Answer::status(404), Answer::status(404)), [2, 2, 2]),
        (
            "has the manifest only",
            |ground| (ground.right_tag(), Answer::status(404)),
            [2, 1, 1],
        ),
        ("wants a login", |_| (Answer::status(401), Answer::status(401)), [2, 2, 2]),
        // Nobody waits for a mirror, and one that does not work is left alone.
        (
            "is limited",
            |_| (Answer::status(429).header("Retry-After", "300"), Answer::status(429)),
            [2, 2, 2],
        ),
        ("is broken", |_| (Answer::status(503), Answer::status(503)), [1, 2, 2]),
        (
            "sends another blob",
            |ground| (ground.right_tag(), Answer::ok(vec![b'x'; ground.config.len() + 1])),
            [2, 0, 1],
        ),
        (
            "sends another manifest than it says",
            |ground| {
                let digest = digest::sha256(b"other").to_string();
                (ground.right_tag().header("Docker-Content-Digest", &digest), ground.right_blob())
            },
            [1, 2, 2],
        ),
        (
            "breaks off",
            |ground| (ground.right_tag().cut(10), ground.right_blob().cut(10)),
            [1, 2, 2],
        ),
    ];
    for (name, change, asked) in table {
        let ground = ground(anonymous).await;
        let (tag, blob) = change(&ground);
        ground.first(tag, blob);
        assert_eq!(ground.resolve().await, asked, "{name}");
    }
}

/// The rest of a blob comes from the next registry, and the whole is verified as one.
#[tokio::test]
async fn a_blob_goes_on_elsewhere() {
    let bytes = content(5000);
    let layer = descriptor(MediaType::ImageLayer, &bytes);
    let path = format!("/v2/cache/robots/a/blobs/{}", layer.digest());
    let rest = Answer::ok(&bytes[2000..])
        .with_status(206)
        .header("Content-Range", "bytes 2000-4999/5000");
    let ground = ground(anonymous).await;
    ground.mirrors[0].at(&path, [Answer::ok(bytes.clone()).cut(2000)]);
    ground.origin.on(&format!("blobs/{}", layer.digest()), [rest.clone()]);
    let repository = repository(&ground.origin);
    assert!(ground.client.blob_bytes(&repository, &layer, 5000).await.unwrap() == bytes);
    assert_eq!(ground.origin.seen()[0].range.as_deref(), Some("bytes=2000-"));

    // A beginning that was another shows at the end, and all is read anew from the registry.
    let ground = self::ground(anonymous).await;
    ground.mirrors[0].at(&path, [Answer::ok(vec![0; 5000]).cut(2000)]);
    ground
        .origin
        .on(&format!("blobs/{}", layer.digest()), [rest, Answer::ok(bytes.clone())]);
    let repository = self::repository(&ground.origin);
    assert!(file_of(&ground.client, &repository, &layer).await.unwrap() == bytes);
    assert_eq!(ground.origin.seen().len(), 2);
}

/// What a file holds that a blob was written to.
async fn file_of(client: &Client, repository: &Repository, layer: &Descriptor) -> Result<Vec<u8>, Error> {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let mut file = tokio::fs::File::create(&path).await.unwrap();
    client.blob_to_file(repository, layer, &mut file).await?;
    Ok(std::fs::read(&path).unwrap())
}

#[tokio::test]
async fn a_mirror_that_sends_other_bytes_rests() {
    let bytes = content(300_000);
    let layer = descriptor(MediaType::ImageLayer, &bytes);
    let path = format!("/v2/cache/robots/a/blobs/{}", layer.digest());
    // As many, more, and what is longer than the right ones when it is written over them.
    for wrong in [vec![b'x'; 300_000], vec![b'x'; 300_001], vec![b'x'; 900_000]] {
        let ground = ground(anonymous).await;
        ground.mirrors[0].at(&path, [Answer::ok(wrong)]);
        ground.origin.blob(&bytes);
        let repository = repository(&ground.origin);
        for asked in [[1, 0, 1], [1, 1, 2]] {
            assert!(file_of(&ground.client, &repository, &layer).await.unwrap() == bytes);
            assert_eq!(ground.asked(), asked, "the next registry is asked at once");
        }
    }
    // The registry's own are an error, whoever is asked before.
    let ground = ground(anonymous).await;
    let wrong = || Answer::ok(vec![b'x'; 300_000]);
    ground.mirrors[0].at(&path, [wrong()]);
    ground.origin.on(&format!("blobs/{}", layer.digest()), [wrong()]);
    let error = file_of(&ground.client, &repository(&ground.origin), &layer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
    assert!(error.to_string().contains(&layer.digest().to_string()), "{error}");
}

#[tokio::test]
async fn credentials_stay_with_their_registry() {
    let login = |host: &str, user: &str| format!(r#""{host}": {{"username": "{user}", "password": "hunter2"}}"#);
    let challenge = || Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    // Only the registry's are there: the mirror asks for a login and gets none.
    let ground = ground(|origin, _| format!(r#"{{"auths": {{{}}}}}"#, login(origin, "robot"))).await;
    ground.first(challenge(), challenge());
    assert_eq!(ground.resolve().await, [2, 2, 2]);
    for mirror in &ground.mirrors {
        assert!(mirror.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", mirror.seen());
    }
    // The mirror's own go to the mirror, and not on to the registry.
    let ground = self::ground(|_, mirror| format!(r#"{{"auths": {{{}}}}}"#, login(&format!("{mirror}/cache"), "mirror"))).await;
    ground.mirrors[0].at("/v2/cache/robots/a/manifests/v1", [challenge(), Answer::status(404)]);
    ground.origin.on("manifests/v1", [challenge(), ground.right_tag()]);
    let error = ground
        .client
        .resolve_image(&tagged(&ground.origin), "linux", "amd64")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(ground.mirrors[0].seen()[1].authorization.is_some());
    assert!(
        ground.origin.seen().iter().all(|seen| seen.authorization.is_none()),
        "{:?}",
        ground.origin.seen()
    );
}

#[test]
fn a_wrong_setting_is_quoted() {
    let options = ClientOptions {
        mirrors: BTreeMap::from([("docker.io".to_owned(), vec!["https://mirror.example.com".to_owned()])]),
        ..options()
    };
    let error = Client::new(options, Credentials::none()).unwrap_err();
    assert!(error.to_string().contains("https://mirror.example.com"), "{error}");
}
