//! Deleting a container runs the robot's own clean-up inside the grace period.

use std::time::{Duration, Instant};

use robotimage_tests::runc::Options;

use crate::fixture::Fixture;

/// What container engines give by default; the kubelet gives three times as much.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_robot_that_is_told_to_end_cleans_up_and_its_exit_code_is_passed() {
    let fixture = Fixture::get().await;
    for (name, made) in &fixture.patient {
        for read_only in [false, true] {
            // What it ends with when nobody ends it.
            let alone = fixture.run(
                made,
                Options {
                    args: Some(&["--", "--at-once"]),
                    ..Options::default()
                },
            );
            assert!(
                alone.text().contains("cleaned up") && alone.exit_code != 0,
                "{name}: {}\n{}",
                alone.exit_code,
                alone.text()
            );

            let mut container = fixture.start(
                made,
                Options {
                    read_only,
                    ..Options::default()
                },
            );
            container.wait_for("at work").expect("a robot at work");
            let told = Instant::now();
            container.signal("TERM").expect("a signal");
            let marker = |upper: &std::path::Path| std::fs::read_to_string(upper.join("home/robot/app/output/cleaned-up")).ok();
            let (run, marker) = container.finish(marker).expect("an end");
            let took = told.elapsed();
            println!(
                "{name}, read-only {read_only}: ended with {} in {:.2} s",
                run.exit_code,
                took.as_secs_f64()
            );
            assert!(run.text().contains("cleaned up"), "{name}:\n{}", run.text());
            // On a read-only root the artifacts are in a volume, which is gone with the container.
            assert_eq!(marker.is_some(), !read_only, "{name}");
            assert_eq!(run.exit_code, alone.exit_code, "{name}:\n{}", run.text());
            assert!(took < GRACE, "{name}: {took:?}");
        }
    }
}
