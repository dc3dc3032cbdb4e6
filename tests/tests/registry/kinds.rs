//! The twelve kinds of faults: in which forms each meets a step, and what must come of it there.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use robotimage_crds::reason::Reason;
use robotimage_tests::faultproxy::{Door, Fault, Reply, Shown};
use robotimage_tests::tokenservice::SERVICE;

use crate::ground::Case;
use crate::steps::Step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unauthorized,
    Denied,
    NameUnknown,
    TimedOut,
    TooMany,
    Broken,
    Gateway,
    Reset,
    Lost,
    Stall,
    Malformed,
    Tls,
}

/// One push of a case.
pub(crate) struct Form {
    pub(crate) name: String,
    /// How many requests of the step meet the fault.
    pub(crate) times: usize,
    pub(crate) fault: Fault,
    /// Where it is put when not at the step itself.
    pub(crate) at: Option<Step>,
    /// The reason that it must end with; none is success.
    pub(crate) expected: Option<Reason>,
    /// The least time until the request is made again.
    pub(crate) waits: Duration,
}

/// For as long as it takes.
const LASTING: usize = usize::MAX;

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Unauthorized,
        Self::Denied,
        Self::NameUnknown,
        Self::TimedOut,
        Self::TooMany,
        Self::Broken,
        Self::Gateway,
        Self::Reset,
        Self::Lost,
        Self::Stall,
        Self::Malformed,
        Self::Tls,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Denied => "403 DENIED",
            Self::NameUnknown => "404 NAME_UNKNOWN",
            Self::TimedOut => "408/499/504",
            Self::TooMany => "429",
            Self::Broken => "500",
            Self::Gateway => "502/503 with HTML",
            Self::Reset => "reset",
            Self::Lost => "answer lost",
            Self::Stall => "stall and drip",
            Self::Malformed => "malformed",
            Self::Tls => "TLS",
        }
    }

    /// Limit of a request while this kind is shown.
    pub(crate) fn patience(self) -> Duration {
        Duration::from_millis(if self == Self::Stall { 500 } else { 10_000 })
    }

    pub(crate) fn forms(self, step: Step, case: &Case) -> Vec<Form> {
        match self {
            Self::Unauthorized => unauthorized(step, case),
            Self::Denied => {
                let answer = Fault::Answer(Reply::error(403, "DENIED", "requested access to the resource is denied"));
                // Without a token there is none to renew.
                let once = (step == Step::Ping).then_some(Reason::PushDenied);
                vec![
                    form("once", 1, answer.clone(), once),
                    form("lasting", LASTING, answer, Some(Reason::PushDenied)),
                ]
            }
            Self::NameUnknown => name_unknown(step),
            Self::TimedOut => transient(&[408, 499, 504].map(Reply::new), Reason::RegistryUnavailable),
            Self::TooMany => too_many(),
            Self::Broken => transient(&[Reply::error(500, "UNKNOWN", "unknown error")], Reason::RegistryUnavailable),
            Self::Gateway => {
                let html = |status| Reply::new(status).body("text/html", "<html><h1>upstream</h1>".repeat(2_000));
                transient(&[html(502), html(503)], Reason::RegistryUnavailable)
            }
            Self::Reset => vec![
                form("once", 1, Fault::Reset, None),
                form("lasting", LASTING, Fault::Reset, Some(Reason::RegistryUnavailable)),
            ],
            Self::Lost => vec![
                form("once", 1, Fault::Lost, None),
                form("lasting", LASTING, Fault::Lost, without_answers(step)),
            ],
            Self::Stall => {
                let drip = Fault::Drip(Duration::from_millis(20));
                vec![
                    form("stall once", 1, Fault::Stall, None),
                    form("drip once", 1, drip.clone(), None),
                    form("stall lasting", LASTING, Fault::Stall, Some(Reason::RegistryUnavailable)),
                    form("drip lasting", LASTING, drip, without_answers(step)),
                ]
            }
            Self::Malformed => malformed(step, case),
            Self::Tls => tls(step, case),
        }
    }
}

fn form(name: impl Into<String>, times: usize, fault: Fault, expected: Option<Reason>) -> Form {
    Form {
        name: name.into(),
        times,
        fault,
        at: None,
        expected,
        waits: Duration::ZERO,
    }
}

/// Each answer once and twice, and the last one for ever.
fn transient(replies: &[Reply], reason: Reason) -> Vec<Form> {
    let mut forms: Vec<Form> = replies
        .iter()
        .map(|reply| form(format!("{} once", reply.status), 1, Fault::Answer(reply.clone()), None))
        .collect();
    let last = replies.last().expect("invariant: there is one");
    forms.push(form(format!("{} twice", last.status), 2, Fault::Answer(last.clone()), None));
    forms.push(form(
        format!("{} lasting", last.status),
        LASTING,
        Fault::Answer(last.clone()),
        Some(reason),
    ));
    forms
}

fn unauthorized(step: Step, case: &Case) -> Vec<Form> {
    let scheme = if case.is_tls() { "https" } else { "http" };
    let realm = format!("{scheme}://{}/token", case.proxy.address(Door::Token));
    let reply = match step {
        Step::Token => Reply::error(401, "UNAUTHORIZED", "not now"),
        _ => Reply::error(401, "UNAUTHORIZED", "token expired").with(
            "www-authenticate",
            format!(r#"Bearer realm="{realm}",service="{SERVICE}",error="invalid_token""#),
        ),
    };
    let rotate = case.rotation();
    let rotated: Arc<dyn Fn() + Send + Sync> = Arc::new(move || rotate("the second password"));
    let rotated = match step {
        // The real service refuses the old password by itself.
        Step::Token => Fault::First(rotated),
        _ => Fault::FirstThen(rotated, reply.clone()),
    };
    vec![
        form("expired token", 1, Fault::Answer(reply.clone()), None),
        form("rotated password", 1, rotated, None),
        form("lasting", LASTING, Fault::Answer(reply), Some(Reason::PushUnauthorized)),
    ]
}

fn name_unknown(step: Step) -> Vec<Form> {
    let fault = Fault::Answer(Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"));
    let lasting = |expected| vec![form("lasting", LASTING, fault.clone(), expected)];
    match step {
        // It only says that the blob or the tag is not there.
        Step::HeadBlob | Step::HeadManifest => lasting(None),
        Step::Token => lasting(Some(Reason::RegistryProtocol)),
        Step::Ping | Step::Post | Step::PutManifest | Step::PutTag | Step::Referrer => lasting(Some(Reason::PushDenied)),
        // The repository has just taken the session, so it is the session that is gone.
        Step::Patch | Step::PutBlob => vec![
            form("once", 1, fault.clone(), None),
            form("lasting", LASTING, fault, Some(Reason::RegistryProtocol)),
        ],
        // What was just taken is not shown yet.
        Step::ReadBack => vec![
            form("once", 1, fault.clone(), None),
            form("lasting", LASTING, fault, Some(Reason::RegistryUnavailable)),
        ],
    }
}

fn too_many() -> Vec<Form> {
    let reply = || Reply::error(429, "TOOMANYREQUESTS", "slow down");
    let soon = jiff::Timestamp::now() + Duration::from_mins(2);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&soon)
        .unwrap();
    let mut forms: Vec<Form> = [("seconds", "1"), ("HTTP-date", date.as_str()), ("a day", "86400")]
        .into_iter()
        .map(|(name, value)| Form {
            waits: crate::ground::CAP,
            ..form(name, 1, Fault::Answer(reply().with("retry-after", value)), None)
        })
        .collect();
    forms.push(form("without a time", 1, Fault::Answer(reply()), None));
    forms.push(form("lasting", LASTING, Fault::Answer(reply()), Some(Reason::RegistryRateLimited)));
    forms
}

/// What comes of it when a step is done each time, and never answered.
fn without_answers(step: Step) -> Option<Reason> {
    match step {
        // The registry can be asked what came of it.
        Step::Patch | Step::PutBlob | Step::PutManifest | Step::PutTag | Step::Referrer => None,
        Step::Ping | Step::Token | Step::HeadBlob | Step::Post | Step::HeadManifest | Step::ReadBack => Some(Reason::RegistryUnavailable),
    }
}

fn malformed(step: Step, case: &Case) -> Vec<Form> {
    static HEADER: LazyLock<Bytes> = LazyLock::new(|| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into());
    let protocol = Some(Reason::RegistryProtocol);
    let mut forms = vec![
        form("header of 1 MiB", LASTING, Fault::Raw(HEADER.clone()), protocol),
        form(
            "no HTTP",
            LASTING,
            Fault::Raw(Bytes::from_static(b"\x01\x02 what?\r\n\r\n")),
            protocol,
        ),
    ];
    let huge = |status| {
        Fault::Answer(Reply {
            filler: 100 << 20,
            ..Reply::new(status).body("application/json", "[")
        })
    };
    let other = robotimage_registry::digest::sha256(b"other").to_string();
    let other_digest = Fault::Change(Arc::new(move |head| {
        if head.status() == 201 {
            head.set("docker-content-digest", other.clone());
        }
    }));
    let without_location = Fault::Change(Arc::new(|head| head.remove("location")));
    let location = |to: String| Fault::Change(Arc::new(move |head| head.set("location", to.clone())));
    let mismatch = Some(Reason::DigestMismatch);
    forms.extend(match step {
        Step::Ping | Step::HeadBlob => Vec::new(),
        Step::HeadManifest => {
            let reply = Reply::new(200).with("docker-content-digest", "none at all");
            vec![form("no digest", LASTING, Fault::Answer(reply), None)]
        }
        Step::Token => {
            let answer = |body: &str| Fault::Answer(Reply::new(200).body("application/json", body));
            vec![
                form("answer of 100 MiB", LASTING, huge(200), protocol),
                form("no JSON", LASTING, answer("<html>"), protocol),
                form("no token", LASTING, answer("{}"), protocol),
                form("token with a line break", LASTING, answer(r#"{"token":"a\nb"}"#), protocol),
            ]
        }
        Step::Post => vec![
            form("error of 100 MiB", LASTING, huge(400), protocol),
            form("no Location", LASTING, without_location, protocol),
            form("Location is no URL", LASTING, location("http://[broken".to_owned()), protocol),
            form(
                "Location on a host that knows nothing",
                LASTING,
                location(format!("http://{}/nowhere", case.proxy.address(Door::Other))),
                protocol,
            ),
        ],
        Step::Patch => vec![
            form("error of 100 MiB", LASTING, huge(400), protocol),
            form("no Location", LASTING, without_location, protocol),
        ],
        Step::PutBlob | Step::PutManifest | Step::Referrer => vec![
            form("error of 100 MiB", LASTING, huge(400), protocol),
            form("another digest", LASTING, other_digest, mismatch),
        ],
        // What the tag names is looked up then.
        Step::PutTag => vec![
            form("error of 100 MiB", LASTING, huge(400), protocol),
            form("another digest", LASTING, other_digest, None),
        ],
        Step::ReadBack => {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            vec![
                form("answer of 100 MiB", LASTING, huge(200), protocol),
                form("other bytes", LASTING, Fault::Answer(Reply::new(200).body(kind, "{}")), mismatch),
            ]
        }
    });
    forms
}

/// A connection that is broken, and comes back with a bad certificate; and a redirect to plain http.
fn tls(step: Step, case: &Case) -> Vec<Form> {
    let untrusted = Some(Reason::CertificateUntrusted);
    let shown = [
        ("unknown authority", Shown::UnknownAuthority),
        ("expired", Shown::Expired),
        ("wrong name", Shown::WrongName),
    ];
    let mut forms: Vec<Form> = shown
        .into_iter()
        .map(|(name, shown)| form(name, 1, Fault::Certificate(shown), untrusted))
        .collect();
    let plain = format!("http://{}/v2/", case.proxy.address(Door::Other));
    forms.push(match step {
        // Token services do not redirect; the registry names one without TLS.
        Step::Token => Form {
            at: Some(Step::Ping),
            ..form(
                "realm without TLS",
                LASTING,
                Fault::Change(Arc::new(move |head| {
                    if head.status() == 401 {
                        head.set("www-authenticate", format!(r#"Bearer realm="{plain}",service="{SERVICE}""#));
                    }
                })),
                untrusted,
            )
        },
        _ => form(
            "redirect to http",
            LASTING,
            Fault::Answer(Reply::new(307).with("location", plain)),
            untrusted,
        ),
    });
    forms
}
