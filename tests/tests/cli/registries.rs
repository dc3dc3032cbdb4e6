//! Pushing: wrong passwords, a registry that is down and comes back, and what reached it.

use std::fs;

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::Laptop;
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::secret::Login;
use serde_json::json;

use crate::desk::{Desk, SHELL_ROBOT};

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_wrong_password_is_refused_and_nothing_is_pushed() {
    let desk = Desk::new().await;
    let mut registry = own_registry(&desk, "cli").await;
    let reference = registry.at().reference("robots/a:1");
    let robot = desk.robot("good", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    let args = ["--push", "-t", &reference];

    // Logged in elsewhere only.
    desk.refuse(
        &robot,
        &args,
        Reason::PushUnauthorized,
        &[registry.address(), "none are configured", "log in"],
    );
    log_in(&desk.laptop, &registry, &Login::new("robot", "wrong-but-secret"));
    let outcome = desk.refuse(
        &robot,
        &args,
        Reason::PushUnauthorized,
        &[registry.address(), "check user and password"],
    );
    assert!(!outcome.stderr.contains("wrong-but-secret"), "{}", outcome.stderr);
    desk.refuse_in_json(&robot, &args, Reason::PushUnauthorized);
    log_in(&desk.laptop, &registry, &Login::new("robot", "right"));
    assert_eq!(registry.at().tags("robots/a").expect("tags"), [""; 0]);

    registry.stop();
    let outcome = desk.refuse(&robot, &args, Reason::RegistryUnavailable, &[registry.address()]);
    println!("registry down: given up after {:.1} s", outcome.took.as_secs_f64());
    registry.start_again().await.expect("it comes back");
    assert_eq!(registry.at().tags("robots/a").expect("tags"), [""; 0]);

    let built = desk.laptop.build(&robot, &args).expect("a build");
    assert_eq!(registry.at().tags("robots/a").expect("tags"), ["1"]);
    assert_eq!(registry.at().digest("robots/a:1").expect("a digest"), built.digest);
    let repository = registry.at().reference("robots/a");
    assert_eq!(built.document["reference"], format!("{repository}@{}", built.digest));
    // The same again sends nothing but asks.
    let again = desk.laptop.build(&robot, &args).expect("a build");
    let sent: Vec<_> = again.document["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|row| row["sent"].as_u64())
        .collect();
    assert!(sent.iter().all(|sent| *sent == Some(0)), "{}", again.document);

    desk.assert_nothing_left("pushing");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_archive_that_cannot_be_written_leaves_nothing_half_done() {
    let desk = Desk::new().await;
    let robot = desk.robot("good", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    // A folder stands where the file should be.
    let taken = desk.laptop.home.join("taken");
    fs::create_dir_all(taken.join("full")).expect("a folder");
    let outcome = desk
        .laptop
        .try_build(&robot, &["--save", &taken.display().to_string()])
        .expect("a command");
    assert_ne!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&taken.display().to_string()), "{}", outcome.stderr);
    assert_eq!(crate::desk::names(&taken), ["full"]);
    desk.assert_nothing_left(&outcome.stderr);
    let beside: Vec<String> = crate::desk::names(&desk.laptop.home)
        .into_iter()
        .filter(|name| name.contains("taken") && name != "taken")
        .collect();
    assert!(beside.is_empty(), "{beside:?}");
}

/// A registry with TLS and a password at the bed's address, to be broken; the bed's own authority signs it.
pub(crate) async fn own_registry(desk: &Desk, name: &str) -> Registry {
    let options = RegistryOptions::private(&format!("{name}-{}", std::process::id()), Login::new("robot", "right"));
    Registry::start(desk.bed.cache(), &desk.bed.node().site().of_harness(), options)
        .await
        .expect("a registry")
}

/// Writes the person's login.
pub(crate) fn log_in(laptop: &Laptop, registry: &Registry, login: &Login) {
    let config = json!({"auths": {registry.address(): {"auth": login.basic()}}});
    fs::write(laptop.home.join(".docker/config.json"), config.to_string()).expect("a login");
}
