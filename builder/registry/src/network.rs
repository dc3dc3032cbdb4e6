//! What a failed exchange means: refused by policy, distrusted, timed out, or simply not reachable.
//!
//! Invariant: URLs are removed before an error is printed, since their query may carry tokens or signatures.

use std::error::Error as StdError;
use std::fmt::Write as _;

use crate::address::AddressDenied;
use crate::context::Context;
use crate::error::Error;

/// Classifies an error of the HTTP client.
pub(crate) fn error(at: &Context, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let place = Box::new(at.clone());
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(current) = next {
        if let Some(denied) = find::<AddressDenied>(current) {
            return Error::AddressDenied {
                at: place,
                denied: denied.clone(),
            };
        }
        if let Some(tls) = find::<rustls::Error>(current) {
            return tls_error(place, tls);
        }
        // What is no HTTP, or a head without end, does not get better by asking again.
        if find::<hyper::Error>(current).is_some_and(hyper::Error::is_parse) {
            return Error::Protocol {
                at: place,
                problem: cause(&error),
            };
        }
        next = current.source();
    }
    if error.is_timeout() {
        return Error::Timeout {
            at: place,
            what: cause(&error),
        };
    }
    Error::Unavailable {
        at: place,
        cause: cause(&error),
        retry_after: None,
    }
}

fn tls_error(at: Box<Context>, error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Error::TlsUntrusted {
            at,
            cause: error.to_string(),
        },
        rustls::Error::InvalidMessage(_) => Error::Protocol {
            at,
            problem: "it does not speak TLS; if it is meant to speak plain http, list its host as such".to_owned(),
        },
        other => Error::Protocol {
            at,
            problem: format!("TLS: {other}"),
        },
    }
}

/// Looks into an error, and into the error that an I/O error wraps, which `source` skips.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    error.downcast_ref::<T>().or_else(|| {
        let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        let inner: &(dyn StdError + 'static) = inner;
        find::<T>(inner)
    })
}

/// The chain of an error in one line of at most 256 characters, repetitions left out.
fn cause(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(current) = next {
        let part = current.to_string();
        if !text.contains(&part) {
            write!(text, ": {part}").expect("invariant: writing to a string does not fail");
        }
        next = current.source();
    }
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}
