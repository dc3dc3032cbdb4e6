//! One environment for many images: resolved once, kept in the registry, taken over by others; whatever happens to what is
//! kept, a build ends well. And what `robotimage plan` says before each build, compared with what the build then does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use robotimage_tests::laptop::{Built, Laptop, outcome};
use robotimage_tests::registry::Registry;
use serde_json::Value;

use crate::desk::{CONDA_ROBOT, Desk, names};
use crate::registries::{log_in, own_registry};

/// Python alone: the least that is an environment.
const CONDA: &str = "channels: [conda-forge]\ndependencies:\n  - python=3.11.7\n";

/// A registry, and a person who has resolved the environment before.
struct Suite {
    desk: Desk,
    registry: Registry,
}

impl Suite {
    fn robot(&self, name: &str) -> PathBuf {
        let code = format!("print('{name}')\n");
        self.desk
            .robot(name, &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", &code)])
    }

    fn build(&self, laptop: &Laptop, robot: &Path, name: &str, args: &[&str]) -> Built {
        let name = self.registry.at().reference(name);
        let args: Vec<&str> = ["--push", "-t", &name].into_iter().chain(args.iter().copied()).collect();
        laptop.build(robot, &args).expect("a build")
    }

    fn plan(&self, robot: &Path, name: &str, args: &[&str]) -> Value {
        let name = self.registry.at().reference(name);
        let args: Vec<&str> = ["-t", &name, "--json"].into_iter().chain(args.iter().copied()).collect();
        let mut command = self.desk.laptop.plan_command(robot, &args);
        let planned = outcome(&mut command).expect("a command");
        assert_eq!(planned.code, 0, "{}{}", planned.stderr, planned.stdout);
        planned.document()
    }

    /// Another person, who has resolved nothing.
    fn newcomer(&self, name: &str) -> Laptop {
        let program = &self.desk.laptop.program;
        let laptop = Laptop::new(&self.desk.bed, program, &self.desk.laptop.home.with_file_name(name)).expect("a home");
        log_in(&laptop, &self.registry, self.registry.at().login.as_ref().expect("a login"));
        laptop
    }

    fn environments(&self, repository: &str) -> Vec<String> {
        let mut tags = self.registry.at().tags(repository).expect("tags");
        tags.retain(|tag| tag.starts_with("env-"));
        tags
    }

    /// The digests of the layers of an image, by role.
    fn layers(&self, name: &str, role: &str) -> Vec<String> {
        let manifest = self
            .registry
            .at()
            .crane(&["manifest", &self.registry.at().reference(name)])
            .expect("a manifest");
        let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        let layers = manifest["layers"].as_array().expect("layers").clone();
        let of_role = layers
            .iter()
            .filter(|layer| layer["annotations"]["robotimage.dev/role"] == role)
            .map(|layer| layer["digest"].as_str().expect("a digest").to_owned());
        of_role.collect()
    }

    /// Where the registry links a blob into a repository.
    fn link(&self, repository: &str, digest: &str) -> PathBuf {
        let storage = self.registry.at().storage.join("docker/registry/v2/repositories");
        storage.join(repository).join("_layers/sha256").join(hex(digest))
    }

    /// Where the registry keeps the bytes of a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let storage = self.registry.at().storage.join("docker/registry/v2/blobs/sha256");
        storage.join(&hex(digest)[..2]).join(hex(digest)).join("data")
    }

    /// The image as a registry's client pulls it: every layer read and verified.
    fn pull(&self, name: &str) {
        let archive = self.desk.laptop.home.join("pulled.tar");
        let reference = self.registry.at().reference(name);
        self.registry
            .at()
            .crane(&["pull", &reference, &archive.display().to_string()])
            .expect("every blob is there");
        fs::remove_file(&archive).expect("a file");
    }
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn said(built: &Built) -> String {
    built.document["environmentCache"].as_str().unwrap_or("not asked").to_owned()
}

fn sent(document: &Value, role: &str) -> u64 {
    let rows = document["layers"].as_array().expect("layers");
    rows.iter()
        .filter(|row| row["role"] == role)
        .filter_map(|row| row["sent"].as_u64())
        .sum()
}

fn all_sent(document: &Value) -> u64 {
    let rows = document["layers"].as_array().expect("layers");
    rows.iter().filter_map(|row| row["sent"].as_u64()).sum()
}

/// What a plan says of a role: its fates, and the bytes to be sent.
fn planned(plan: &Value, role: &str) -> (Vec<String>, u64) {
    let rows: Vec<&Value> = plan["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .filter(|row| row["role"] == role)
        .collect();
    let fates = rows.iter().map(|row| row["fate"].as_str().expect("a fate").to_owned()).collect();
    (fates, rows.iter().filter_map(|row| row["sends"].as_u64()).sum())
}

fn reasons(plan: &Value) -> Vec<String> {
    let reasons = plan["reasons"].as_array().expect("reasons").iter();
    reasons.map(|reason| reason["type"].as_str().expect("a type").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_environment_is_resolved_once_for_all() {
    type Step = fn(&Suite);
    let desk = Desk::new().await;
    let registry = own_registry(&desk, "reuse").await;
    log_in(&desk.laptop, &registry, registry.at().login.as_ref().expect("a login"));
    let suite = Suite { desk, registry };
    let steps: [(&str, Step); 7] = [
        ("a second robot takes it over", taken_over),
        ("plans say what builds do", plans),
        ("a base is swapped", rebased),
        ("what is deleted is kept anew", deleted),
        ("what is damaged is answered beside", damaged),
        ("what is foreign is answered beside", foreign),
        ("two builds at once", at_once),
    ];
    for (name, step) in steps {
        let began = Instant::now();
        step(&suite);
        println!("{:>5.1} s  {name}", began.elapsed().as_secs_f64());
    }
    suite.desk.assert_nothing_left("reuse");
}

fn taken_over(suite: &Suite) {
    let (one, two) = (suite.robot("one"), suite.robot("two"));
    let plan = suite.plan(&one, "robots/one:1", &[]);
    assert_eq!(
        (plan["plan"].as_str(), plan["environmentCache"].as_str()),
        (Some("Full"), Some("miss")),
        "{plan}"
    );
    assert_eq!(plan["unknown"], serde_json::json!(["environment", "home"]), "{plan}");
    let first = suite.build(&suite.desk.laptop, &one, "robots/one:1", &[]);
    assert_eq!(said(&first), "miss");
    let key = first.document["environmentKey"].as_str().expect("a key");
    assert_eq!(suite.environments("robots/one"), [format!("env-{key}")]);

    // Somebody else in the same repository: nothing is resolved and nothing of the environment is sent.
    let other = suite.newcomer("same-repository");
    let second = suite.build(&other, &two, "robots/one:2", &[]);
    assert_eq!((said(&second).as_str(), sent(&second.document, "environment")), ("hit", 0));
    assert!(!names(&other.cache()).contains(&"builds".to_owned()), "it was resolved");
    assert_eq!(second.document["packages"], first.document["packages"]);
    assert!(first.document["packages"].as_u64() > Some(0), "{}", first.document);
    assert_eq!(
        suite.layers("robots/one:1", "environment"),
        suite.layers("robots/one:2", "environment")
    );

    // In another repository of the registry: mounted.
    let shared = suite.registry.at().reference("robots/one");
    let elsewhere = ["--environment-cache", shared.as_str()];
    let plan = suite.plan(&two, "robots/two:1", &elsewhere);
    assert_eq!(
        (plan["plan"].as_str(), plan["environmentCache"].as_str()),
        (Some("CodeOnly"), Some("hit")),
        "{plan}"
    );
    assert_eq!(planned(&plan, "environment"), (vec!["mounted".to_owned()], 0), "{plan}");
    let third = suite.build(&other, &two, "robots/two:1", &elsewhere);
    assert_eq!((said(&third).as_str(), sent(&third.document, "environment")), ("hit", 0));
    assert_eq!(plan["digest"].as_str(), Some(third.digest.as_str()), "the plan knew the digest");
    assert!(!names(&other.cache()).contains(&"builds".to_owned()), "it was resolved");
    assert_eq!(suite.environments("robots/two"), [""; 0]);
    suite.pull("robots/two:1");

    // The same image whether taken over or made of files.
    let again = suite.build(&suite.desk.laptop, &two, "robots/two:2", &["--no-environment-cache"]);
    assert_eq!((said(&again).as_str(), again.digest), ("not asked", third.digest));
}

fn plans(suite: &Suite) {
    let robot = suite.robot("one");
    let plan = suite.plan(&robot, "robots/one:1", &[]);
    assert_eq!((plan["plan"].as_str(), plan["sends"].as_u64()), (Some("Noop"), Some(0)), "{plan}");
    assert!(reasons(&plan).is_empty(), "{plan}");

    fs::write(robot.join("say.py"), "print('changed')\n").expect("a file");
    let plan = suite.plan(&robot, "robots/one:1", &[]);
    assert_eq!(
        (plan["plan"].as_str(), reasons(&plan)),
        (Some("CodeOnly"), vec!["source".to_owned()]),
        "{plan}"
    );
    let built = suite.build(&suite.desk.laptop, &robot, "robots/one:1", &[]);
    assert_eq!(plan["digest"].as_str(), Some(built.digest.as_str()));
    let layers = plan["sends"].as_u64().expect("a number") - plan["documents"].as_u64().expect("a number");
    assert_eq!(layers, all_sent(&built.document), "{plan}\n{}", built.document);
    assert!(layers > 0);

    fs::write(robot.join("conda.yaml"), format!("{CONDA}  - pip=23.2.1\n")).expect("a file");
    let plan = suite.plan(&robot, "robots/one:1", &[]);
    assert_eq!((plan["plan"].as_str(), plan["digest"].as_str()), (Some("Full"), None), "{plan}");
    assert!(reasons(&plan).contains(&"environment".to_owned()), "{plan}");
    // In words for people.
    let name = suite.registry.at().reference("robots/one:1");
    let said = outcome(&mut suite.desk.laptop.plan_command(&robot, &["-t", &name])).expect("a command");
    for words in ["Plan: Full", "environment", "to be made", "unknown", "Environment cache: miss"] {
        assert!(said.stdout.contains(words), "{words:?} is not in:\n{}", said.stdout);
    }
    fs::write(robot.join("conda.yaml"), CONDA).expect("a file");
    // Nothing to compare with is a wrong command line.
    assert_eq!(
        outcome(&mut suite.desk.laptop.plan_command(&robot, &[])).expect("a command").code,
        2
    );
}

fn rebased(suite: &Suite) {
    let robot = suite.robot("one");
    let before = suite.build(&suite.desk.laptop, &robot, "robots/one:3", &[]);
    // The same layers under another configuration: another base with the same glibc.
    let base = suite.registry.at().reference("base/debian:other");
    let of_bed = &suite.desk.bed.book().base_image;
    copy_base(suite, of_bed, &base);
    let swapped = ["--base-image", base.as_str()];
    let plan = suite.plan(&robot, "robots/one:3", &swapped);
    assert_eq!(plan["plan"], "RebaseOnly", "{plan}");
    assert_eq!(reasons(&plan), ["base", "base"], "{plan}");
    assert_eq!(plan["sends"], plan["documents"], "{plan}");
    let after = suite.build(&suite.desk.laptop, &robot, "robots/one:3", &swapped);
    assert_eq!(plan["digest"].as_str(), Some(after.digest.as_str()));
    assert_ne!(before.digest, after.digest);
    assert_eq!(all_sent(&after.document), 0, "{}", after.document);
    for role in ["environment", "home", "code", "rcc"] {
        assert_eq!(planned(&plan, role).0, ["reused"], "{role}: {plan}");
    }
    // Another user of the image: how it is run, and the line in passwd that goes with it.
    let plan = suite.plan(&robot, "robots/one:3", &["--base-image", &base, "--label", "team=finance"]);
    assert_eq!(
        (plan["plan"].as_str(), reasons(&plan)),
        (Some("RebaseOnly"), vec!["configuration".to_owned()]),
        "{plan}"
    );
}

/// Copies the bed's base into the suite's registry, with another configuration.
fn copy_base(suite: &Suite, from: &str, to: &str) {
    let layout = suite.desk.laptop.home.join("base.tar");
    let path = layout.display().to_string();
    suite
        .desk
        .bed
        .book()
        .registry
        .crane(&["pull", "--insecure", from, &path])
        .expect("the bed's base");
    suite.registry.at().crane(&["push", &path, to]).expect("a base");
    suite
        .registry
        .at()
        .crane(&["mutate", to, "--env", "OTHER=1", "--tag", to])
        .expect("another base");
    fs::remove_file(&layout).expect("a file");
}

fn deleted(suite: &Suite) {
    let robot = suite.robot("three");
    let first = suite.build(&suite.desk.laptop, &robot, "robots/three:1", &[]);
    assert_eq!(said(&first), "miss");
    let kept = suite.environments("robots/three");
    let digest = suite.registry.at().digest(&format!("robots/three:{}", kept[0])).expect("a digest");
    let reference = suite.registry.at().reference(&format!("robots/three@{digest}"));
    suite.registry.at().crane(&["delete", &reference]).expect("a deletion");
    assert_eq!(suite.environments("robots/three"), [""; 0]);
    let second = suite.build(&suite.desk.laptop, &robot, "robots/three:2", &[]);
    assert_eq!((said(&second), second.digest), ("miss".to_owned(), first.digest));
    assert_eq!(suite.environments("robots/three"), kept, "it is kept anew");
    // A repository that may be read by nobody, in another registry: nothing is asked, nothing fails.
    let far = suite.build(
        &suite.desk.laptop,
        &robot,
        "robots/three:3",
        &["--environment-cache", "registry.invalid/env"],
    );
    assert!(
        said(&far).starts_with("miss: ") && said(&far).contains("another registry"),
        "{}",
        said(&far)
    );
}

fn damaged(suite: &Suite) {
    let robot = suite.robot("four");
    let first = suite.build(&suite.desk.laptop, &robot, "robots/four:1", &[]);
    let kept = suite.environments("robots/four");
    // A layer of which the registry has only the beginning.
    let layer = suite.layers("robots/four:1", "environment")[0].clone();
    let blob = suite.blob(&layer);
    let whole = fs::read(&blob).expect("a blob");
    fs::write(&blob, &whole[..whole.len() / 2]).expect("half a blob");
    let plan = suite.plan(&robot, "robots/four:none", &[]);
    let cache = plan["environmentCache"].as_str().expect("an answer");
    assert!(cache.starts_with("bad: ") && cache.contains("bytes instead of"), "{plan}");
    assert_eq!(plan["plan"], "Full", "{plan}");
    fs::write(&blob, whole).expect("the whole blob");
    // A layer that the repository has lost, as a wrong clean-up of a registry leaves it.
    fs::remove_dir_all(suite.link("robots/four", &layer)).expect("the link of a layer");
    let second = suite.build(&suite.desk.laptop, &robot, "robots/four:2", &[]);
    assert!(
        said(&second).starts_with("bad: ") && said(&second).contains("is gone"),
        "{}",
        said(&second)
    );
    assert_eq!(second.digest, first.digest);
    suite.pull("robots/four:2");
    // The push has mended it, so the tag of the key is good again and nothing stands beside it.
    assert_eq!(suite.environments("robots/four"), kept);
    let third = suite.build(&suite.newcomer("after-damage"), &robot, "robots/four:3", &[]);
    assert_eq!((said(&third), third.digest), ("hit".to_owned(), first.digest));
}

fn foreign(suite: &Suite) {
    let robot = suite.robot("five");
    let first = suite.build(&suite.desk.laptop, &robot, "robots/five:1", &["--no-environment-cache"]);
    let key = first.document["environmentKey"].as_str().expect("a key").to_owned();
    assert_eq!(suite.environments("robots/five"), [""; 0]);
    // An image under the key's tag that is no environment.
    let image = suite.registry.at().reference("robots/five:1");
    suite.registry.at().crane(&["tag", &image, &format!("env-{key}")]).expect("a tag");
    let second = suite.build(&suite.desk.laptop, &robot, "robots/five:2", &[]);
    assert!(said(&second).starts_with("bad: "), "{}", said(&second));
    assert_eq!(second.digest, first.digest);
    let tags = suite.environments("robots/five");
    assert_eq!(tags.len(), 2, "{tags:?}");
    assert_eq!(
        suite.registry.at().digest(&format!("robots/five:{}", tags[0])).expect("a digest"),
        first.digest
    );
    let beside = suite.registry.at().digest(&format!("robots/five:{}", tags[1])).expect("a digest");
    assert_eq!(tags[1], format!("env-{key}-{}", &hex(&beside)[..8]));
    // The next one finds what stands beside.
    let third = suite.build(&suite.newcomer("after-foreign"), &robot, "robots/five:3", &[]);
    assert_eq!((said(&third), third.digest), ("hit".to_owned(), first.digest));
    assert_eq!(suite.environments("robots/five"), tags);
}

fn at_once(suite: &Suite) {
    let robots = [suite.robot("six"), suite.robot("seven")];
    let built: Vec<Built> = std::thread::scope(|scope| {
        let builds: Vec<_> = robots
            .iter()
            .zip(["robots/many:1", "robots/many:2"])
            .map(|(robot, name)| scope.spawn(move || suite.build(&suite.desk.laptop, robot, name, &[])))
            .collect();
        builds.into_iter().map(|build| build.join().expect("a build")).collect()
    });
    assert_ne!(built[0].digest, built[1].digest);
    assert_eq!(suite.environments("robots/many").len(), 1);
    for name in ["robots/many:1", "robots/many:2"] {
        suite.pull(name);
    }
    let next = suite.build(&suite.newcomer("after-both"), &robots[0], "robots/many:3", &[]);
    assert_eq!((said(&next), &next.digest), ("hit".to_owned(), &built[0].digest));
}
