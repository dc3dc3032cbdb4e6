//! OCI registries: names, credentials, transport, pull, upload, image layouts and archives.
//!
//! This crate knows neither Kubernetes nor robots. The builder pulls bases and publishes images with it; the operator
//! looks up digests, anonymously and under an [`AddressPolicy`]; both get errors that say what a person can do.
//!
//! **Why a transport of our own.** One exchange over reqwest serves pull, push and tokens, because what matters most here
//! must sit in it: the address check of the connection that is really made, the origin that a credential is
//! scoped to, the retry that re-opens a body, and one cache of tokens. The well-kept client library can be given no
//! resolver, retries nothing, swallows the errors of authentication and takes the specification's 202 to a mount for
//! a failure. The documents themselves (manifest, index, configuration, descriptor) are the typed ones of `oci-spec`.
//!
//! How the parts stack up: [`Reference`], [`Credentials`], [`ClientOptions`] go into a [`Client`]; its transport makes one
//! exchange at a time (authenticate, follow, limit), and pulls, uploads and publishing are written on top of that.
//! [`layout`] and [`archive`] are synchronous and know no network.
//!
//! A TLS provider is taken from the process when a binary has installed one.

mod address;
mod answer;
pub mod archive;
mod auth;
mod challenge;
mod client;
mod context;
mod credentials;
pub mod digest;
mod documents;
mod download;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod hosts;
mod http;
mod image;
pub mod json;
pub mod layout;
mod mirrors;
mod network;
mod options;
mod patience;
mod presence;
mod publish;
mod range;
mod reference;
mod referrers;
mod retry;
mod source;
mod token;
mod transport;
mod upload;
mod version;

pub use address::{AddressDenied, AddressPolicy, PolicyResolver};
pub use client::{Client, Fetched};
pub use context::{Context, Operation};
pub use credentials::{Credentials, CredentialsError, Password, Secret};
pub use error::{Error, ErrorKind, Missing, Said};
pub use http::{HttpClients, HttpError, Trust};
pub use image::ResolvedImage;
pub use mirrors::check_mirrors;
pub use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform};
pub use options::ClientOptions;
pub use presence::{Presence, PushOutcome};
pub use publish::TagOutcome;
pub use reference::{Reference, ReferenceError, Repository};
pub use retry::RetryPolicy;
pub use source::BlobSource;
pub use version::{Requirement, RequirementError};
