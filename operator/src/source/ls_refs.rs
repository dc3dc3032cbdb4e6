//! What a git server says of its references: the requests and answers of smart HTTP, protocol version 2, and of the older
//! answer that lists everything at once.

use robotimage_crds::api::GitRef;
use robotimage_registry::Requirement;

use super::pkt_line::{Packet, PacketError, Packets, line};
use crate::observe::Revision;

/// An answer that is not git's, or that does not have what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Not pkt-lines at all.
    #[error("{0}")]
    Framing(#[from] PacketError),
    /// pkt-lines of something else.
    #[error("it is not an answer of git")]
    Foreign,
    /// Commits are not named by SHA-1.
    #[error("the repository names its commits by SHA-256, which is not supported yet")]
    Sha256,
    /// The reference does not exist.
    #[error("the reference does not exist")]
    NotFound,
}

/// What the first answer, the advertisement, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Advertisement {
    /// Version 2: references are asked for by a second request.
    Version2,
    /// An older server that has listed all its references at once.
    Listed(Vec<(String, String)>),
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One reference.
    Named {
        /// Its full name.
        name: String,
        /// How people call it.
        reference: String,
    },
    /// The tag with the highest version that is wanted.
    Highest(Requirement),
}

/// Where tags are.
const TAGS: &str = "refs/tags/";

impl Wanted {
    /// Of a branch, a tag or, without either, the default branch.
    pub(crate) fn of(reference: Option<&GitRef>) -> Self {
        let (branch, tag) = reference.map_or((None, None), |reference| (reference.branch.clone(), reference.tag.clone()));
        match (branch, tag) {
            (Some(branch), _) => Self::Named {
                name: format!("refs/heads/{branch}"),
                reference: branch,
            },
            (None, Some(tag)) => Self::Named {
                name: format!("refs/tags/{tag}"),
                reference: tag,
            },
            (None, None) => Self::Named {
                name: "HEAD".to_owned(),
                reference: "HEAD".to_owned(),
            },
        }
    }

    /// The tag with the highest of these versions.
    pub(crate) fn highest(requirement: Requirement) -> Self {
        Self::Highest(requirement)
    }

    /// For messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Highest(requirement) => format!("tag with a version {requirement}"),
            Self::Named { name, reference } if name.starts_with("refs/heads/") => format!("branch {reference}"),
            Self::Named { name, reference } if name.starts_with(TAGS) => format!("tag {reference}"),
            Self::Named { .. } => "default branch".to_owned(),
        }
    }

    /// Body of the second request.
    pub(crate) fn request(&self) -> Vec<u8> {
        let mut body = Vec::new();
        line(&mut body, "command=ls-refs");
        line(&mut body, concat!("agent=robotimage/", env!("CARGO_PKG_VERSION")));
        body.extend_from_slice(b"0001");
        line(&mut body, "peel");
        let prefix = match self {
            Self::Named { name, .. } => name.as_str(),
            Self::Highest(_) => TAGS,
        };
        line(&mut body, &format!("ref-prefix {prefix}"));
        body.extend_from_slice(b"0000");
        body
    }

    /// The commit, from the list of an older server. `name^{}` is what an annotated tag points to.
    pub(crate) fn find_in(&self, listed: &[(String, String)]) -> Result<Revision, AnswerError> {
        let (name, reference) = match self {
            Self::Named { name, reference } => (name.clone(), reference.as_str()),
            Self::Highest(requirement) => {
                let tags = listed.iter().filter_map(|(name, _)| name.strip_prefix(TAGS));
                let tag = requirement.highest(tags).ok_or(AnswerError::NotFound)?;
                (format!("{TAGS}{tag}"), tag)
            }
        };
        let of = |name: &str| listed.iter().find(|(listed, _)| listed == name).map(|(_, id)| id.as_str());
        let commit = of(&format!("{name}^{{}}")).or_else(|| of(&name)).ok_or(AnswerError::NotFound)?;
        Ok(Revision {
            reference: reference.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// The commit, from the answer to the second request: lines `<id> <name>[ peeled:<id>]…`.
    pub(crate) fn find_by_answer(&self, answer: &[u8]) -> Result<Revision, AnswerError> {
        let mut ended = false;
        let mut listed = Vec::new();
        for packet in Packets::new(answer) {
            let Packet::Data(data) = packet? else {
                ended = true;
                break;
            };
            let text = std::str::from_utf8(data).map_err(|_| AnswerError::Foreign)?;
            if text.starts_with("ERR ") {
                return Err(AnswerError::NotFound);
            }
            let mut words = text.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else {
                return Err(AnswerError::Foreign);
            };
            // An unborn default branch has no commit yet.
            if id != "unborn" {
                check_id(id)?;
            }
            if id != "unborn" {
                let peeled = words.find_map(|word| word.strip_prefix("peeled:")).unwrap_or(id);
                check_id(peeled)?;
                listed.push((name.to_owned(), peeled.to_owned()));
            }
        }
        if !ended {
            return Err(AnswerError::Framing(PacketError::Truncated));
        }
        self.find_in(&listed)
    }
}

fn check_id(id: &str) -> Result<(), AnswerError> {
    match id.len() {
        _ if !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) => Err(AnswerError::Foreign),
        40 => Ok(()),
        64 => Err(AnswerError::Sha256),
        _ => Err(AnswerError::Foreign),
    }
}

/// Reads the advertisement: `# service=git-upload-pack`, a flush, then either `version 2` and capabilities, or the references.
pub(crate) fn advertisement(answer: &[u8]) -> Result<Advertisement, AnswerError> {
    let mut packets = Packets::new(answer);
    let mut first = packets.next().ok_or(AnswerError::Foreign)??;
    if first == Packet::Data(b"# service=git-upload-pack") {
        let flush = packets.next().ok_or(AnswerError::Foreign)??;
        first = packets.next().ok_or(AnswerError::Foreign)??;
        if flush != Packet::Flush {
            return Err(AnswerError::Foreign);
        }
    }
    if first == Packet::Data(b"version 2") {
        for packet in packets {
            match packet? {
                Packet::Data(b"object-format=sha256") => return Err(AnswerError::Sha256),
                Packet::Data(_) => {}
                _ => return Ok(Advertisement::Version2),
            }
        }
        return Err(AnswerError::Framing(PacketError::Truncated));
    }
    let mut listed = Vec::new();
    let mut next = Some(Ok(first));
    while let Some(packet) = next {
        let Packet::Data(data) = packet? else {
            return Ok(Advertisement::Listed(listed));
        };
        if data.starts_with(b"ERR ") {
            return Err(AnswerError::NotFound);
        }
        if data != b"version 1" {
            // The first reference carries the capabilities behind a NUL.
            let data = data.split(|b| *b == 0).next().unwrap_or_default();
            let text = std::str::from_utf8(data).map_err(|_| AnswerError::Foreign)?;
            let (id, name) = text.split_once(' ').ok_or(AnswerError::Foreign)?;
            check_id(id)?;
            listed.push((name.to_owned(), id.to_owned()));
        }
        next = packets.next();
    }
    Err(AnswerError::Framing(PacketError::Truncated))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "4be1c2d0aa11bb22cc33dd44ee55ff6677889900";
    const B: &str = "00112233445566778899aabbccddeeff00112233";

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in lines {
            if *text == "0000" {
                bytes.extend_from_slice(b"0000");
            } else {
                line(&mut bytes, text);
            }
        }
        bytes
    }

    fn branch(name: &str) -> Wanted {
        Wanted::of(Some(&GitRef {
            branch: Some(name.to_owned()),
            ..GitRef::default()
        }))
    }

    fn tag(name: &str) -> Wanted {
        Wanted::of(Some(&GitRef {
            tag: Some(name.to_owned()),
            ..GitRef::default()
        }))
    }

    #[test]
    fn the_request_is_what_git_sends() {
        let request = branch("main").request();
        let packets: Vec<_> = Packets::new(&request).map(Result::unwrap).collect();
        assert_eq!(packets[0], Packet::Data(b"command=ls-refs"));
        assert_eq!(
            packets[2..],
            [
                Packet::Delimiter,
                Packet::Data(b"peel"),
                Packet::Data(b"ref-prefix refs/heads/main"),
                Packet::Flush
            ]
        );
    }

    #[test]
    fn version_2_answers() {
        let answer = packets(&[&format!("{B} refs/heads/main-2"), &format!("{A} refs/heads/main"), "0000"]);
        let found = branch("main").find_by_answer(&answer).unwrap();
        assert_eq!((found.commit.as_str(), found.reference.as_str()), (A, "main"));
        assert_eq!(branch("mai").find_by_answer(&answer), Err(AnswerError::NotFound));
        let answer = packets(&[&format!("{B} refs/tags/v1 peeled:{A}"), "0000"]);
        assert_eq!(tag("v1").find_by_answer(&answer).unwrap().commit, A);
        let answer = packets(&["unborn HEAD symref-target:refs/heads/main", "0000"]);
        assert_eq!(Wanted::of(None).find_by_answer(&answer), Err(AnswerError::NotFound));
        let answer = packets(&[&format!("{A} HEAD symref-target:refs/heads/main"), "0000"]);
        assert_eq!(Wanted::of(None).find_by_answer(&answer).unwrap().reference, "HEAD");
        assert_eq!(branch("x").find_by_answer(b"0000"), Err(AnswerError::NotFound));
    }

    #[test]
    fn the_highest_version_of_the_tags() {
        let wanted = |text: &str| Wanted::highest(Requirement::parse(text).unwrap());
        let answer = packets(&[
            &format!("{B} refs/tags/v1.2.0 peeled:{A}"),
            &format!("{B} refs/tags/v1.10.0"),
            &format!("{A} refs/tags/v2.0.0-rc.1"),
            &format!("{A} refs/tags/nightly"),
            "0000",
        ]);
        let found = |text: &str| wanted(text).find_by_answer(&answer).map(|found| (found.reference, found.commit));
        assert_eq!(found("^1"), Ok(("v1.10.0".to_owned(), B.to_owned())));
        assert_eq!(found("~1.2"), Ok(("v1.2.0".to_owned(), A.to_owned())));
        assert_eq!(found("2"), Err(AnswerError::NotFound));
        let listed = [("refs/tags/v1.2.0", B), ("refs/tags/v1.2.0^{}", A)].map(|(name, id)| (name.to_owned(), id.to_owned()));
        assert_eq!(wanted("1").find_in(&listed).unwrap().commit, A);
        assert_eq!(wanted("1").describe(), "tag with a version ^1");
        let request = wanted("1").request();
        assert!(Packets::new(&request).any(|packet| packet == Ok(Packet::Data(b"ref-prefix refs/tags/"))));
    }

    #[test]
    fn advertisements_old_and_new() {
        let new = packets(&[
            "# service=git-upload-pack",
            "0000",
            "version 2",
            "agent=git/2.39",
            "ls-refs=unborn",
            "fetch=shallow",
            "0000",
        ]);
        assert_eq!(advertisement(&new), Ok(Advertisement::Version2));
        let bare = packets(&["version 2", "0000"]);
        assert_eq!(advertisement(&bare), Ok(Advertisement::Version2));
        let old = packets(&[
            "# service=git-upload-pack",
            "0000",
            &format!("{A} HEAD\0multi_ack symref=HEAD:refs/heads/main"),
            &format!("{A} refs/heads/main"),
            &format!("{B} refs/tags/v1"),
            &format!("{A} refs/tags/v1^{{}}"),
            "0000",
        ]);
        let Ok(Advertisement::Listed(listed)) = advertisement(&old) else {
            panic!("a list")
        };
        assert_eq!(branch("main").find_in(&listed).unwrap().commit, A);
        assert_eq!(tag("v1").find_in(&listed).unwrap().commit, A);
        assert_eq!(Wanted::of(None).find_in(&listed).unwrap().commit, A);
        assert_eq!(branch("gone").find_in(&listed), Err(AnswerError::NotFound));
    }

    #[test]
    fn hostile_answers_are_refused() {
        let sha256 = "a".repeat(64);
        for (bytes, error) in [
            (packets(&["version 2", "object-format=sha256", "0000"]), AnswerError::Sha256),
            (packets(&["version 2", "agent=x"]), AnswerError::Framing(PacketError::Truncated)),
            (packets(&["hello"]), AnswerError::Foreign),
            (packets(&["not-hex refs/heads/main", "0000"]), AnswerError::Foreign),
            (b"<html><body>login</body>".to_vec(), AnswerError::Framing(PacketError::Length)),
            (Vec::new(), AnswerError::Foreign),
            (packets(&["# service=git-upload-pack"]), AnswerError::Foreign),
            (packets(&["ERR access denied"]), AnswerError::NotFound),
        ] {
            assert_eq!(advertisement(&bytes), Err(error), "{}", String::from_utf8_lossy(&bytes));
        }
        for (bytes, error) in [
            (packets(&[&format!("{sha256} refs/heads/main"), "0000"]), AnswerError::Sha256),
            (
                packets(&[&format!("{A} refs/heads/main")]),
                AnswerError::Framing(PacketError::Truncated),
            ),
            (
                packets(&[&format!("{A} refs/heads/main peeled:../../x"), "0000"]),
                AnswerError::Foreign,
            ),
            (packets(&["nonsense", "0000"]), AnswerError::Foreign),
            (b"0008\xff\xfe\xfd\xfc0000".to_vec(), AnswerError::Foreign),
        ] {
            assert_eq!(
                branch("main").find_by_answer(&bytes),
                Err(error),
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = advertisement(&bytes);
            let _ = branch("main").find_by_answer(&bytes);
        }
    }
}
