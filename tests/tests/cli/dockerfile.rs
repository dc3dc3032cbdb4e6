//! `robotimage dockerfile`: a real buildah builds it, and the image does what ours does.

use std::path::Path;
use std::process::Command;

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::{Outcome, outcome};
use robotimage_tests::process::run;
use robotimage_tests::rootfs::Layers;
use robotimage_tests::runc::{Container, Finished, Options};
use robotimage_tests::verify::Image;

use crate::desk::{CONDA, CONDA_ROBOT, Desk, SHELL_ROBOT};

/// Says who runs it, with what, and what it may write.
const SAY: &str = r#"import getpass, os, pathlib, sys
print("python", sys.version.split()[0], "user", os.getuid(), getpass.getuser(), "home", os.environ["HOME"], "in", os.getcwd())
pathlib.Path(os.environ["ROBOT_ARTIFACTS"], "said.txt").write_text("said")
print("exits with 3")
sys.exit(3)
"#;

fn dockerfile(desk: &Desk, robot: &Path, args: &[&str]) -> Outcome {
    let robot = robot.display().to_string();
    let words: Vec<&str> = ["dockerfile", &robot].into_iter().chain(args.iter().copied()).collect();
    outcome(&mut desk.laptop.command(&words)).expect("a command")
}

/// Builds the file with buildah and writes the image as a layout.
fn buildah(desk: &Desk, robot: &Path, file: &Path, layout: &Path) {
    let work = layout.with_added_extension("buildah");
    let tools = work.join("tools");
    std::fs::create_dir_all(&tools).expect("a folder");
    for (name, from) in [
        ("robotimage", &desk.laptop.program.builder),
        ("robotimage-launcher", &desk.laptop.program.launcher),
        ("rcc", &desk.laptop.rcc),
    ] {
        std::fs::copy(from, tools.join(name)).expect("a program");
    }
    let (root, run_root) = (work.join("storage"), work.join("run"));
    let command = |words: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&root).arg("--runroot").arg(&run_root);
        command.current_dir(&work).args(["--storage-driver", "overlay"]).args(words);
        // Packages come through the same proxy as everywhere in the bed.
        command.envs(desk.bed.book().index.proxies.iter().cloned());
        command.env("REGISTRY_AUTH_FILE", desk.laptop.home.join(".docker/config.json"));
        command.env("TMPDIR", &work);
        command
    };
    let (tools, settings) = (
        format!("tools={}", tools.display()),
        format!("settings={}", desk.laptop.settings().display()),
    );
    let (file, robot) = (file.display().to_string(), robot.display().to_string());
    let build = [
        "build",
        "--isolation",
        "chroot",
        "--tls-verify=false",
        "--build-context",
        &tools,
        "--build-context",
        &settings,
        "--file",
        &file,
        "--tag",
        "localhost/robot:1",
        &robot,
    ];
    run("buildah build", &mut command(&build)).expect("buildah builds it");
    let target = format!("oci:{}:1", layout.display());
    run("buildah push", &mut command(&["push", "localhost/robot:1", &target])).expect("a layout");
    run("buildah rmi", &mut command(&["rmi", "--all", "--force"])).expect("its storage is emptied");
}

/// What a robot says that is the same in every run.
fn said(run: &Finished) -> Vec<String> {
    let text = run.text();
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("python ") || line.starts_with("exits "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn buildah_makes_an_image_that_does_the_same() {
    let desk = Desk::new().await;
    let robot = desk.robot("say", &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", SAY)]);
    let base = desk.bed.book().base_image.clone();
    let authority = desk.laptop.home.join("registry-ca.pem").display().to_string();
    let file = desk.laptop.home.join("Dockerfile");
    let to = file.display().to_string();
    let args = ["--base-image", &base, "--ca", &authority, "--settings"];
    let written = dockerfile(&desk, &robot, &[&args[..], &["--output", &to]].concat());
    assert_eq!(written.code, 0, "{}", written.stderr);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.contains("@sha256:"), "the base is pinned:\n{text}");
    let again = dockerfile(&desk, &robot, &args);
    assert_eq!(again.stdout, text, "equal inputs, equal text");
    let document = dockerfile(&desk, &robot, &[&args[..], &["--json"]].concat()).document();
    assert_eq!(document["dockerfile"].as_str(), Some(text.as_str()));
    assert!(
        document["base"].as_str().is_some_and(|base| base.contains("@sha256:")),
        "{document}"
    );
    desk.assert_nothing_left("a Dockerfile");

    let (ours, theirs) = (desk.laptop.home.join("ours"), desk.laptop.home.join("theirs"));
    desk.laptop
        .build(&robot, &["--output", &format!("oci:{}", ours.display()), "--compression", "gzip"])
        .expect("a build");
    buildah(&desk, &robot, &file, &theirs);
    let (ours, theirs) = (read(&desk, &ours), read(&desk, &theirs));
    for name in ["User", "Entrypoint", "Cmd", "WorkingDir"] {
        let of = |image: &Image| image.config["config"][name].clone();
        let empty = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let (ours, theirs) = (of(&ours.0), of(&theirs.0));
        assert!(ours == theirs || empty(&ours) && empty(&theirs), "{name}: {ours} and {theirs}");
    }
    assert_eq!(ours.0.writable(), theirs.0.writable());
    for read_only in [false, true] {
        let run = |(image, layers): &(Image, Vec<std::path::PathBuf>)| {
            let options = Options {
                read_only,
                ..Options::default()
            };
            let folder = desk.laptop.home.join("containers");
            std::fs::create_dir_all(&folder).expect("a folder");
            Container::run(image, layers, &folder, options).expect("a container")
        };
        let (ours, theirs) = (run(&ours), run(&theirs));
        assert_eq!(ours.exit_code, theirs.exit_code, "{}\n{}", ours.text(), theirs.text());
        assert_eq!(said(&ours), said(&theirs), "{}\n{}", ours.text(), theirs.text());
        assert_eq!(said(&ours).len(), 2, "{}", ours.text());
        let installs = theirs.text().contains("micromamba");
        assert!(!installs, "the environment is there:\n{}", theirs.text());
        println!(
            "read-only root {read_only}: exit code {}, {:?} from both",
            theirs.exit_code,
            said(&theirs)
        );
    }
}

fn read(desk: &Desk, layout: &Path) -> (Image, Vec<std::path::PathBuf>) {
    let image = Image::read(layout).expect("an image");
    let layers = Layers::at(&desk.laptop.home.join("layers"))
        .and_then(|layers| layers.unpack(layout, &image))
        .expect("its layers");
    (image, layers)
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn what_no_dockerfile_can_do_is_told() {
    let desk = Desk::new().await;
    let robot = desk.robot("shell", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    let base = format!("registry.example.com/base@sha256:{}", "0".repeat(64));
    // A digest that is given is not looked up: no registry is asked.
    let offline = dockerfile(&desk, &robot, &["--base-image", &base]);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    assert!(offline.stdout.contains(&format!("FROM {base} AS robot")), "{}", offline.stdout);
    for (args, reason, words) in [
        (
            &["--base-image", "oci:somewhere"][..],
            Reason::NotAllowed,
            "reference in a registry",
        ),
        (&["--base-image", &base, "--rcc-exec", "rcc"], Reason::NotAllowed, "--rcc-url"),
        (&["--base-image", &base, "--task", "Other"], Reason::RobotYamlInvalid, "no task"),
    ] {
        let refused = dockerfile(&desk, &robot, args);
        assert_eq!(refused.code, i32::from(reason.exit_code()), "{args:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(words) && refused.stdout.is_empty(),
            "{args:?}: {}",
            refused.stderr
        );
    }
    desk.assert_nothing_left("Dockerfiles");
}
