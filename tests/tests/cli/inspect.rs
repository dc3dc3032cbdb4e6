//! `robotimage inspect`: the same image is told in the same way wherever it is kept.

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::{Outcome, outcome};

use crate::desk::{CONDA, CONDA_ROBOT, Desk};

fn inspect(desk: &Desk, args: &[&str]) -> Outcome {
    let authority = desk.laptop.home.join("registry-ca.pem").display().to_string();
    let words: Vec<&str> = ["inspect", "--ca", &authority].into_iter().chain(args.iter().copied()).collect();
    outcome(&mut desk.laptop.command(&words)).expect("a command")
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_image_is_told_wherever_it_is_kept() {
    let desk = Desk::new().await;
    let robot = desk.robot(
        "inspected",
        &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")],
    );
    let tag = desk.bed.book().registry.reference("suites/inspect:1");
    let at = |name: &str| desk.laptop.home.join(name).display().to_string();
    let (layout, archive, docker) = (
        format!("oci:{}", at("out")),
        format!("oci-archive:{}", at("oci.tar")),
        at("docker.tar"),
    );
    let built = desk
        .laptop
        .build(&robot, &["--compression", "gzip", "--output", &layout, "--push", "--tag", &tag])
        .expect("a build");
    desk.laptop
        .build(&robot, &["--compression", "gzip", "--output", &archive])
        .expect("an archive");
    desk.laptop.build(&robot, &["--save", &docker]).expect("a docker archive");

    let of = |image: &str, args: &[&str]| {
        let said = inspect(&desk, &[&[image, "--json"], args].concat());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{image}: {}", said.stdout);
        said.document()
    };
    let pushed = of(&tag, &["--packages"]);
    assert_eq!(pushed["digest"], built.digest.as_str());
    assert_eq!(pushed["robotImage"], true);
    assert_eq!(pushed["environment"]["key"], built.document["environmentKey"]);
    assert_eq!(pushed["rcc"]["version"], built.document["rcc"]);
    assert_eq!(pushed["base"]["digest"], built.document["base"]);
    assert_eq!(pushed["run"]["user"], "1000:0");
    assert_eq!(pushed["size"], built.document["size"]);
    let packages = pushed["environment"]["packages"].as_array().expect("packages");
    assert_eq!(Some(packages.len() as u64), built.document["packages"].as_u64());
    let python = packages.iter().find(|package| package["name"] == "python").expect("python");
    assert_eq!((&python["version"], &python["kind"]), (&"3.11.7".into(), &"conda".into()));

    let roles = |document: &serde_json::Value| -> Vec<String> {
        let layers = document["layers"].as_array().expect("layers");
        layers
            .iter()
            .map(|layer| layer["role"].as_str().unwrap_or("none").to_owned())
            .collect()
    };
    for image in [layout.as_str(), &archive, &docker] {
        let told = of(image, &["--packages"]);
        assert_eq!(told["environment"]["packages"], pushed["environment"]["packages"], "{image}");
        assert_eq!(roles(&told), roles(&pushed), "{image}");
        assert_eq!(told["run"], pushed["run"], "{image}");
        let digest = if image == docker {
            serde_json::Value::Null
        } else {
            pushed["digest"].clone()
        };
        assert_eq!(told["digest"], digest, "{image}");
    }
    let text = inspect(&desk, &[&tag]);
    for word in ["Digest:", "emptyDirs:", "the robot's files", "the base image", "rcc v"] {
        assert!(text.stdout.contains(word), "{word:?} is missing:\n{}", text.stdout);
    }
    let gone = inspect(&desk, &["--json", &desk.bed.book().registry.reference("suites/no-such-image:1")]);
    assert_eq!(gone.code, i32::from(Reason::SourceNotFound.exit_code()), "{}", gone.stdout);
    assert_eq!(gone.document()["error"]["exitCode"], 12);
    for path in ["out", "oci.tar", "docker.tar"] {
        let path = desk.laptop.home.join(path);
        std::fs::remove_dir_all(&path)
            .or_else(|_| std::fs::remove_file(&path))
            .expect("it is there");
    }
    desk.assert_nothing_left("looks at images");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_base_is_no_robot_image_and_no_error() {
    let desk = Desk::new().await;
    let base = desk.bed.book().base_image.clone();
    let said = inspect(&desk, &[&base]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("No layer of it was made by RobotImage."), "{}", said.stdout);
    let bad = inspect(&desk, &["oci:/nonexistent"]);
    assert_eq!(bad.code, i32::from(Reason::SourceNotFound.exit_code()), "{}", bad.stderr);
}
