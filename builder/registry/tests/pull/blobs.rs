//! Blobs that end early, go on too long, are others, or come from somewhere else.

use futures::TryStreamExt;
use robotimage_registry::{Client, Credentials, Error, ErrorKind, MediaType};

use crate::mock_answers::{Answer, MockAnswers};
use crate::{client, content, descriptor, options, repository};

/// What a blob of 1000 bytes comes to when these answers are given.
async fn pull(answers: Vec<Answer>) -> (Result<Vec<u8>, Error>, MockAnswers) {
    let server = MockAnswers::start().await;
    let descriptor = descriptor(MediaType::ImageLayer, &content(1000));
    server.on(&format!("blobs/{}", descriptor.digest()), answers);
    let stream = client().blob_stream(&repository(&server), &descriptor);
    let pieces: Result<Vec<_>, Error> = stream.try_collect().await;
    (pieces.map(|pieces| pieces.concat()), server)
}

#[tokio::test]
async fn broken_bodies() {
    let whole = || Answer::ok(content(1000));
    let rest = |from: usize| {
        let range = format!("bytes {from}-999/1000");
        Answer::ok(&content(1000)[from..]).with_status(206).header("Content-Range", &range)
    };
    let other = |size: usize| Answer::ok(vec![9; size]);
    // Name, answers, what it comes to: none is the right content. The last number is how often is asked.
    let table: Vec<(&str, Vec<Answer>, Option<ErrorKind>, usize)> = vec![
        ("whole", vec![whole()], None, 1),
        ("without a length", vec![whole().length(None)], None, 1),
        ("cut, then the rest", vec![whole().cut(600), rest(600)], None, 2),
        ("cut twice", vec![whole().cut(600), rest(600).cut(100), rest(700)], None, 3),
        ("short without a word", vec![whole().cut(600).length(None), rest(600)], None, 2),
        ("short and sure of it", vec![whole().cut(600).length(Some(600)), rest(600)], None, 2),
        ("a range that is ignored", vec![whole().cut(600), whole()], None, 2),
        (
            "a range of an unknown whole",
            vec![
                whole().cut(600),
                Answer::ok(&content(1000)[600..])
                    .with_status(206)
                    .header("Content-Range", "bytes 600-999/*"),
            ],
            None,
            2,
        ),
        (
            "another range than asked for",
            vec![whole().cut(600), rest(500)],
            Some(ErrorKind::Protocol),
            2,
        ),
        (
            "a range of another whole",
            vec![
                whole().cut(600),
                Answer::ok(&content(1000)[600..])
                    .with_status(206)
                    .header("Content-Range", "bytes 600-999/1001"),
            ],
            Some(ErrorKind::Protocol),
            2,
        ),
        (
            "a range of nothing",
            vec![whole().cut(600), Answer::ok("").with_status(206)],
            Some(ErrorKind::Protocol),
            2,
        ),
        (
            "no range any more",
            vec![whole().cut(600), Answer::status(416)],
            Some(ErrorKind::Protocol),
            2,
        ),
        (
            "always short",
            vec![
                whole().cut(600),
                Answer::ok("").with_status(206).header("Content-Range", "bytes 600-999/1000"),
            ],
            Some(ErrorKind::Unavailable),
            6,
        ),
        ("one byte more", vec![Answer::ok(content(1001))], Some(ErrorKind::DigestMismatch), 1),
        (
            "very much more",
            vec![Answer::ok(content(10 << 20)).length(None)],
            Some(ErrorKind::DigestMismatch),
            1,
        ),
        (
            "more than was left",
            vec![
                whole().cut(600),
                Answer::ok(&content(1200)[600..])
                    .with_status(206)
                    .header("Content-Range", "bytes 600-999/1000"),
            ],
            Some(ErrorKind::DigestMismatch),
            2,
        ),
        ("other bytes", vec![other(1000)], Some(ErrorKind::DigestMismatch), 1),
        (
            "another end",
            vec![
                whole().cut(600),
                Answer::ok(vec![9; 400])
                    .with_status(206)
                    .header("Content-Range", "bytes 600-999/1000"),
            ],
            Some(ErrorKind::DigestMismatch),
            2,
        ),
        ("gone", vec![Answer::status(404)], Some(ErrorKind::NotFound), 1),
        (
            "gone on the way",
            vec![whole().cut(600), Answer::status(404)],
            Some(ErrorKind::NotFound),
            2,
        ),
        (
            "limited once",
            vec![Answer::status(429).header("Retry-After", "0"), whole()],
            None,
            2,
        ),
        (
            "limited until a time",
            vec![Answer::status(429).header("Retry-After", "1700000000"), whole()],
            None,
            2,
        ),
        (
            "limited for long",
            vec![Answer::status(429).header("Retry-After", "21600")],
            Some(ErrorKind::RateLimited),
            6,
        ),
        (
            "limited on the way",
            vec![whole().cut(600), Answer::status(429), rest(600)],
            None,
            3,
        ),
        ("broken once", vec![Answer::status(503), whole()], None, 2),
        (
            "a page of HTML",
            vec![Answer::ok("<html>login</html>")],
            Some(ErrorKind::Unavailable),
            6,
        ),
    ];
    for (name, answers, expected, asked) in table {
        let (result, server) = pull(answers).await;
        match (result, expected) {
            (Ok(bytes), None) => assert!(bytes == content(1000), "{name}: {} bytes", bytes.len()),
            (Err(error), Some(kind)) => assert_eq!(error.kind(), kind, "{name}: {error}"),
            (result, expected) => panic!("{name}: {:?}, not {expected:?}", result.map(|bytes| bytes.len())),
        }
        assert_eq!(server.seen().len(), asked, "{name}: {:?}", server.seen());
    }
}

#[tokio::test]
async fn what_a_registry_asks_for_is_told() {
    let (result, _) = pull(vec![Answer::status(429).header("Retry-After", "21600")]).await;
    let error = result.unwrap_err();
    assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(21_600));
    assert!(error.to_string().contains("21600 s"), "{error}");
}

/// A large blob over a line that breaks all the time: six attempts are for a standstill.
#[tokio::test]
async fn a_download_that_gets_on_is_not_given_up() {
    let server = MockAnswers::start().await;
    let (size, step) = (12 << 20, 1_200_000);
    let bytes = content(size);
    let descriptor = descriptor(MediaType::ImageLayer, &bytes);
    let answers = (0..size).step_by(step).map(|from| {
        let answer = Answer::ok(&bytes[from..]).cut(step);
        if from == 0 {
            answer
        } else {
            answer
                .with_status(206)
                .header("Content-Range", &format!("bytes {from}-{}/{size}", size - 1))
        }
    });
    server.on(&format!("blobs/{}", descriptor.digest()), answers);
    let pulled = client().blob_bytes(&repository(&server), &descriptor, u64::MAX).await.unwrap();
    assert!(pulled == bytes);
    assert_eq!(server.seen().len(), size.div_ceil(step));
    let last = server.seen().pop().unwrap().range;
    assert_eq!(last, Some(format!("bytes={}-", (size / step) * step)));
}

/// A registry that keeps its blobs in a store on another host: that one gets no credentials, also not for the rest of a blob.
#[tokio::test]
async fn a_redirect_leads_without_credentials() {
    let (server, store) = (MockAnswers::start().await, MockAnswers::start().await);
    let bytes = content(1000);
    let descriptor = descriptor(MediaType::ImageLayer, &bytes);
    let path = format!("blobs/{}", descriptor.digest());
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    let redirect = Answer::status(307).header("Location", &format!("http://{}/store?signature=s", store.host));
    server.on(&path, [challenge, redirect]);
    let rest = Answer::ok(&bytes[600..])
        .with_status(206)
        .header("Content-Range", "bytes 600-999/1000");
    store.at("/store?signature=s", [Answer::ok(bytes.clone()).cut(600), rest]);
    let json = format!(
        r#"{{"auths": {{"{}": {{"username": "robot", "password": "hunter2"}}}}}}"#,
        server.host
    );
    let client = Client::new(options(), Credentials::from_docker_config(json.as_bytes()).unwrap()).unwrap();
    assert!(client.blob_bytes(&repository(&server), &descriptor, 1000).await.unwrap() == bytes);
    let seen: Vec<_> = server.seen().iter().map(|seen| seen.authorization.is_some()).collect();
    assert_eq!(seen, [false, true, true]);
    let seen = store.seen();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
    assert_eq!(seen[1].range.as_deref(), Some("bytes=600-"));
}
