//! Readers that users have agree with us: GNU tar and Python's tarfile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::everything;
use robotimage_layer::{Codec, LayerBuilder, ModePolicy};

const PYTHON: &str = r#"
import sys, tarfile, hashlib
for member in tarfile.open(sys.argv[1], "r:"):
    assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 315619200), member
    data = hashlib.sha256(tarfile.open(sys.argv[1], "r:").extractfile(member).read()).hexdigest() if member.isreg() else ""
    line = "|".join([member.type.decode(), "%04o" % member.mode, member.name, member.linkname, str(member.size), data])
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\0")
"#;

/// What the `tar` crate cannot read and others can: a newline in an extended record.
fn add_odd_names(root: &Path) {
    let binary = [&b"\xff\xfe\n".repeat(40)[..], b"end"].concat();
    let folder = root.join(OsStr::from_bytes(&binary));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x".repeat(200)), "binary").unwrap();
    symlink(OsStr::from_bytes(&binary), root.join("binary-link")).unwrap();
}

fn tree(root: &Path) -> LayerBuilder {
    let long = format!("{}/{}/{}", "a".repeat(120), "b".repeat(120), "c".repeat(120));
    fs::create_dir_all(root.join(&long)).unwrap();
    fs::write(root.join(&long).join("file"), "deep").unwrap();
    fs::write(root.join("größe"), "utf-8").unwrap();
    fs::write(root.join("new\nline"), "odd").unwrap();
    fs::write(root.join("large"), common::pattern(5 << 20)).unwrap();
    fs::hard_link(root.join("größe"), root.join(&long).join("hard")).unwrap();
    symlink("t".repeat(200), root.join("long-link")).unwrap();
    let mut builder = LayerBuilder::new();
    builder
        .tree(root, "opt", ModePolicy::Environment, everything())
        .unwrap()
        .dir("tmp", 0o1777);
    builder
}

/// The tar stream in a file, and the entries as the `tar` crate reads them.
fn archive(folder: &Path) -> (std::path::PathBuf, Vec<common::Entry>) {
    let source = folder.join("source");
    fs::create_dir(&source).unwrap();
    let (_, bytes) = common::write(tree(&source), Codec::Gzip, 2).unwrap();
    let stream = common::decompress(Codec::Gzip, &bytes);
    let path = folder.join("layer.tar");
    fs::write(&path, &stream).unwrap();
    (path, common::entries(&stream))
}

#[test]
fn python_reads_what_we_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (path, entries) = archive(folder.path());
    let output = Command::new("python3")
        .args(["-I", "-c", PYTHON])
        .arg(&path)
        .output()
        .expect("python3 is a prerequisite of this suite");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: Vec<u8> = entries
        .iter()
        .flat_map(|entry| {
            let name = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
            let regular = entry.kind == tar::EntryType::Regular;
            let digest = common::sha256(&entry.content);
            format!(
                "{}|{:04o}|{}|{}|{}|{}\0",
                entry.kind.as_byte() as char,
                entry.mode,
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(entry.target.as_deref().unwrap_or_default()),
                entry.content.len(),
                if regular { digest.strip_prefix("sha256:").unwrap() } else { "" },
            )
            .into_bytes()
        })
        .collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&expected));
}

#[test]
fn gnu_tar_extracts_the_source_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    add_odd_names(&source);
    let (_, bytes) = common::write(tree(&source), Codec::Zstd, 2).unwrap();
    let path = folder.path().join("layer.tar");
    fs::write(&path, common::decompress(Codec::Zstd, &bytes)).unwrap();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let output = Command::new("tar")
        .args(["--warning=all", "-xpf"])
        .arg(&path)
        .arg("-C")
        .arg(&target)
        .output()
        .expect("GNU tar is a prerequisite of this suite");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let difference = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(&source)
        .arg(target.join("opt"))
        .output()
        .expect("diff is a prerequisite of this suite");
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
}

#[test]
fn command_line_decompressors_accept_the_members() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let (layer, bytes) = common::write(tree(&source), Codec::Gzip, 2).unwrap();
    let path = folder.path().join("layer.tar.gz");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(common::sha256(&output.stdout), layer.diff_id);
}
