//! rcc by address and checksum: downloaded once, kept, and checked at each use.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::{Outcome, outcome};
use sha2::{Digest, Sha256};

use crate::desk::{Desk, SHELL_ROBOT, names};

/// A server that answers every request with these bytes; its address, and how often it was asked.
fn serve(bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/rcc", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            let request = BufReader::new(stream.try_clone().expect("a stream"));
            let read = request.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            // A client that went away has nothing to be told.
            if read > 0 && stream.write_all(head.as_bytes()).is_ok() {
                stream.write_all(&bytes).ok();
            }
        }
    });
    (url, asked)
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn rcc_is_downloaded_once_and_checked() {
    let desk = Desk::new().await;
    let robot = desk.robot("good", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    let wanted = desk.laptop.build(&robot, &[]).expect("a build with a file").digest;
    let rcc = std::fs::read(&desk.laptop.rcc).expect("rcc");
    let sha256 = hex::encode(Sha256::digest(&rcc));
    let (url, asked) = serve(rcc);
    let (dir, launcher) = (robot.display().to_string(), desk.laptop.program.launcher.display().to_string());
    let authority = desk.laptop.home.join("registry-ca.pem").display().to_string();
    let base = desk.bed.book().base_image.clone();
    let build = |sha256: &str| -> Outcome {
        let words = [
            "build",
            &dir,
            "--base-image",
            &base,
            "--ca",
            &authority,
            "--launcher",
            &launcher,
            "--json",
        ];
        let of_rcc = ["--rcc-url", &url, "--rcc-sha256", sha256];
        outcome(&mut desk.laptop.command(&[&words[..], &of_rcc].concat())).expect("a command")
    };
    let kept = desk.laptop.cache().join("rcc");
    let wrong = build(&"0".repeat(64));
    assert_eq!(wrong.code, i32::from(Reason::ChecksumMismatch.exit_code()), "{}", wrong.stdout);
    assert!(wrong.stdout.contains(&sha256), "what it has instead is said: {}", wrong.stdout);
    assert_eq!(names(&kept), [""; 0], "what is wrong is not kept");
    for downloads in [2, 2] {
        let built = build(&sha256);
        assert_eq!((built.code, built.stderr.as_str()), (0, ""), "{}", built.stdout);
        assert_eq!(built.document()["digest"], wanted.as_str(), "the way of rcc is not in the image");
        assert_eq!(asked.load(Ordering::Relaxed), downloads);
        assert_eq!(names(&kept), [sha256.as_str()]);
    }
    std::fs::write(kept.join(&sha256), "damaged").expect("a file");
    assert_eq!(build(&sha256).code, 0);
    assert_eq!(asked.load(Ordering::Relaxed), 3, "a damaged file is downloaded anew");
    std::fs::remove_dir_all(kept).expect("a folder");
    desk.assert_nothing_left("downloads of rcc");
}
