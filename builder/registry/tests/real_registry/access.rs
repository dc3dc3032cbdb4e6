//! Who may enter, and whom we trust: passwords and certificates.

use robotimage_registry::{Client, ClientOptions, Credentials, Error, ErrorKind};

use crate::image::{image, push};
use crate::registry::{RealRegistry, Setup};
use crate::{client, options, repository};

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn passwords() {
    let registry = RealRegistry::start(&Setup { password: true, tls: None });
    let (repository, image) = (repository(&registry, "robots/a"), image(6));
    let with = |user: &str, password: &str| {
        let json = serde_json::json!({"auths": {&registry.host: {"username": user, "password": password}}});
        Client::new(options(), Credentials::from_docker_config(json.to_string().as_bytes()).unwrap()).unwrap()
    };
    let (digest, _) = push(&with("robot", "opensesame"), &repository, &image).await.unwrap();
    let error = push(&with("robot", "wrong-password"), &repository, &image).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { anonymous: false, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-password"));
    let error = client().manifest(&repository.with_digest(&digest)).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { anonymous: true, .. }), "{error}");
    assert_eq!(
        client().head_manifest(&repository.with_digest(&digest)).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
}

/// A registry with TLS, and the authority that signs its certificate, PEM.
pub(crate) fn with_tls() -> (Setup, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(parameters.clone(), authority_key).unwrap();
    parameters.is_ca = rcgen::IsCa::NoCa;
    let certificate = parameters.signed_by(&key, &authority).unwrap();
    let setup = Setup {
        password: false,
        tls: Some((certificate.pem(), key.serialize_pem())),
    };
    (setup, authority.pem().into_bytes())
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn certificates() {
    let (setup, authority) = with_tls();
    let registry = RealRegistry::start(&setup);
    let (repository, image) = (repository(&registry, "robots/a"), image(7));
    let trusting = |bundle: Vec<Vec<u8>>| {
        let options = ClientOptions {
            ca_bundle_pem: bundle,
            tls_hosts: vec![registry.host.clone()],
            ..options()
        };
        Client::new(options, Credentials::none()).unwrap()
    };
    push(&trusting(vec![authority]), &repository, &image).await.unwrap();
    let error = push(&trusting(Vec::new()), &repository, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsUntrusted, "{error:?}");
    assert!(error.to_string().contains("CA bundle"), "{error}");
}
