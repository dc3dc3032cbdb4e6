use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use robotimage_crds::reason::Reason;

use super::local::{Named, named};
use super::*;

fn read(text: &str) -> Specification {
    parse("conda.yaml", text).unwrap()
}

#[test]
fn shapes_of_real_environments() {
    let text = "name: x\nchannels:\n  - conda-forge\n  - conda-forge\ndependencies:\n  - python=3.10.12\n  - pip=22.1.2\n  - pip:\n      - rpaframework==24.1.0\n      - rich==13.*\nrccPostInstall:\n  - rfbrowser init\n";
    for text in [
        text.to_owned(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        format!("# note\n{text}unknown: {{}}\n"),
    ] {
        let read = read(&text);
        assert_eq!(read.channels(), ["conda-forge"]);
        assert_eq!(read.conda(), ["python=3.10.12", "pip=22.1.2"]);
        assert_eq!(read.pip(), ["rpaframework==24.1.0", "rich==13.*"]);
        assert_eq!(read.post_install(), ["rfbrowser init"]);
        assert_eq!(read.floating(), ["rich==13.*"]);
        assert_eq!(
            read.canonical(),
            r#"{"name":"x","prefix":"","channels":["conda-forge"],"conda":["python=3.10.12","pip=22.1.2"],"pip":["rpaframework==24.1.0","rich==13.*"],"post_install":["rfbrowser init"]}"#
        );
    }
}

#[test]
fn follows_rcc_where_it_leaves_entries_out() {
    let read = read(
        "channels: [c]\ndependencies:\n  - python=3.9\n  - 5\n  - yes\n  - ~\n  - '=1'\n  - python=3.10\n  - numpy=1\n  - pip:\n      - a==1\n      - {b: 2}\n      - a\n      - c==1\n",
    );
    assert_eq!(read.conda(), ["python=3.9"]);
    assert_eq!(read.pip(), ["a==1", "c==1"]);
    let dropped: Vec<(&str, usize)> = read.dropped().iter().map(|entry| (entry.entry.as_str(), entry.at.line)).collect();
    assert_eq!(
        dropped,
        [
            ("5", 4),
            ("yes", 5),
            ("nothing", 6),
            ("a mapping", 12),
            ("=1", 7),
            ("python=3.10", 8),
            ("numpy=1", 9)
        ]
    );
}

#[test]
fn a_name_in_both_lists_moves_to_conda() {
    let read = read("channels: [c]\ndependencies: [python=3.9, numpy, {pip: [numpy==1.2, rich]}]\n");
    assert_eq!(read.conda(), ["python=3.9", "numpy==1.2"]);
    assert_eq!(read.pip(), ["rich"]);
}

#[test]
fn package_yaml_has_its_own_shape() {
    let text = "dependencies:\n  conda-forge: [python=3.10.12, pip=23.2.1]\n  pypi: [rich=13.7.1, six]\ndev-dependencies:\n  pypi: [pytest]\npost-install: [python setup.py]\n";
    let read = parse("sub/Package.YAML", text).unwrap();
    assert_eq!(read.channels(), ["conda-forge"]);
    assert_eq!(read.pip(), ["rich==13.7.1", "six"]);
    assert_eq!(read.post_install(), ["python setup.py"]);
    assert!(!read.is_uv_native());
    assert!(parse("package.yaml", "dependencies: [a]\n").is_err());
}

#[test]
fn uv_native_is_told() {
    assert!(read("dependencies: [python=3.11.7, uv=0.5.1, {pip: [rich==13.7.1]}]\n").is_uv_native());
    assert!(!read("channels: [c]\ndependencies: [python=3.11.7, uv=0.5.1]\n").is_uv_native());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, said) in [
        ("", "conda.yaml: the environment file is empty"),
        ("channels: [\n", "conda.yaml:1:11: not valid YAML"),
        ("channels: 5\n", "conda.yaml:1:11: channels must be a list"),
        ("channels: [{a: b}]\n", "conda.yaml:1:12: an entry of channels must be text"),
        ("dependencies: {a: b}\n", "conda.yaml:1:15: dependencies must be a list"),
        (
            "channels:\n  - https://u:geheim@c.example.com\n",
            "conda.yaml:2:5: this channel has a user or password",
        ),
        (
            "dependencies:\n  - pip:\n    - --index-url https://geheim@p.example.com/\n",
            "conda.yaml:3:7: this pip entry has a user",
        ),
        ("channels: [https://c.example.com/t/geheim/x]\n", "this channel has a token"),
        (
            "rccPostInstall: [pip install -i https://geheim@p.example.com x]\n",
            "this post-install command has a user",
        ),
    ] {
        let error = parse("conda.yaml", text).unwrap_err();
        assert!(error.to_string().contains(said), "{text:?}: {error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
        assert_eq!(error.reason(), Reason::EnvironmentFileInvalid);
    }
}

#[test]
fn entries_that_name_files() {
    let needed = |path: &str| Some(Named::Needed(path.to_owned()));
    for (entry, found) in [
        ("./libs/x-1.0-py3-none-any.whl", needed("./libs/x-1.0-py3-none-any.whl")),
        ("libs/x.tar.gz ; python_version > '3'", needed("libs/x.tar.gz")),
        ("x-1.0-py3-none-any.whl", needed("x-1.0-py3-none-any.whl")),
        ("x @ file:./x.whl", needed("./x.whl")),
        ("x @ file:///abs/x.whl", needed("/abs/x.whl")),
        ("-e ./package[test]", needed("./package")),
        ("--editable=.", needed(".")),
        ("-e git+https://git.example.com/x.git", None),
        ("-f ./wheels", Some(Named::Optional("./wheels".to_owned()))),
        ("--find-links https://example.com/", None),
        ("-r requirements.txt", Some(Named::Requirements("requirements.txt".to_owned()))),
        ("--constraint=c.txt", Some(Named::Requirements("c.txt".to_owned()))),
        ("C:\\robotmk", needed("C:\\robotmk")),
        ("https://example.com/x.whl", None),
        ("x @ https://example.com/x.whl", None),
        ("--index-url https://pypi.example.com", None),
        ("rich==13.7.1", None),
        ("rich[jupyter]==13.7.1", None),
    ] {
        assert_eq!(named(entry), found, "{entry}");
    }
}

#[test]
fn local_files_are_found_and_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("context");
    for name in [
        "bot/libs/x.whl",
        "bot/pkg/setup.py",
        "bot/pkg/a/b.py",
        "bot/pkg/.git/config",
        "bot/tools/install.sh",
        "shared/y.whl",
        "bot/other.py",
    ] {
        fs::create_dir_all(context.join(name).parent().unwrap()).unwrap();
        fs::write(context.join(name), "").unwrap();
    }
    symlink("/etc/passwd", context.join("bot/pkg/link")).unwrap();
    symlink("/etc/passwd", context.join("bot/out.whl")).unwrap();
    let files = |pip: &str, post: &str| {
        let text = format!("dependencies:\n  - pip: [{pip}]\nrccPostInstall: [{post}]\n");
        parse("bot/conda.yaml", &text).unwrap().local_files(&context, Path::new("bot"))
    };
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        files(
            "./libs/x.whl, ../shared/y.whl, -e ./pkg, rich==1",
            "sh tools/install.sh --quiet, rfbrowser init"
        )
        .unwrap(),
        paths(&[
            "bot/libs/x.whl",
            "bot/pkg/a/b.py",
            "bot/pkg/setup.py",
            "bot/tools/install.sh",
            "shared/y.whl"
        ])
    );
    assert_eq!(files("-f ./nowhere", "").unwrap(), paths(&[]));
    for (pip, said) in [
        ("./libs/none.whl", "is not in the source"),
        ("/abs/x.whl", "a path of one machine"),
        ("'C:\\robotmk'", "a path of one machine"),
        ("../../x.whl", "leads out of the source"),
        ("./out.whl", "leads out of the source"),
        ("-r requirements.txt", "write its lines into the environment file"),
    ] {
        let error = files(pip, "").unwrap_err();
        assert!(error.to_string().contains(said), "{pip}: {error}");
        assert_eq!(error.reason(), Reason::EnvironmentFileInvalid);
    }
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "(channels|dependencies|rccPostInstall|pip|[-:\\[\\]{} \\n'=a1.~/@]){0,60}") {
        if let Ok(read) = parse("conda.yaml", &text) {
            let canonical = read.canonical();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&canonical).is_ok(), "{canonical}");
        }
    }

    #[test]
    fn layout_does_not_matter(names in proptest::collection::vec("[a-z]{1,8}=[0-9]\\.[0-9]", 1..6)) {
        let block: String = names.iter().map(|name| format!("  - {name}   # {name}\n")).collect::<Vec<_>>().concat();
        let flow = format!("dependencies: [{}]\n", names.join(", "));
        prop_assert_eq!(read(&format!("dependencies:\n{block}")).canonical(), read(&flow).canonical());
    }
}
