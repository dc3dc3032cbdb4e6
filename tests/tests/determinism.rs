//! One robot, one digest: whoever builds it, wherever, whenever and however.

#[path = "determinism/compare.rs"]
mod compare;

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use robotimage_tests::laptop::{Built, Laptop, Program, copy_robot};
use robotimage_tests::verify::Image;
use robotimage_tests::{Bed, Error, Result, install};

use crate::compare::explain;

/// A user that this machine does not know.
const NOBODY: u32 = 4242;

/// A build with its image as a layout, and the minute it began in.
struct Made {
    name: &'static str,
    layout: PathBuf,
    built: Built,
    minute: u64,
}

impl Made {
    fn build(name: &'static str, laptop: &Laptop, robot: &Path) -> Result<Self> {
        let layout = laptop.home.join("out");
        let output = format!("oci:{}", layout.display());
        let minute = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / 60);
        let built = laptop.build(robot, &["--compression", "zstd", "--output", &output])?;
        println!("{name}: {} in {:.1} s", built.digest, built.took.as_secs_f64());
        Ok(Self {
            name,
            layout,
            built,
            minute,
        })
    }
}

/// The programs where any user can execute them, rcc by the name `name`.
fn programs(folder: &Path, program: &Program, rcc: &Path, name: &str) -> Result<(Program, PathBuf)> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let copied = |from: &Path, name: &str| {
        let to = folder.join(name);
        fs::copy(from, &to).map_err(Error::io("copy", from))?;
        fs::set_permissions(&to, Permissions::from_mode(0o755)).map_err(Error::io("copy", from))?;
        Ok::<_, Error>(to)
    };
    let program = Program {
        builder: copied(&program.builder, "robotimage")?,
        launcher: copied(&program.launcher, "launcher")?,
    };
    Ok((program, copied(rcc, name)?))
}

/// A clone as somebody else has it: written in another order, at another time, with other rights, and worked in.
fn other_clone(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    let mut files = robotimage_tests::command::read_folder(from)?;
    files.reverse();
    for (name, bytes) in &files {
        let path = to.join(name);
        let wrong = || Error::io("write", path.clone());
        fs::write(&path, bytes).map_err(wrong())?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(wrong())?;
        let old = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(987_654_321));
        let file = fs::File::options().write(true).open(&path).map_err(wrong())?;
        file.set_times(old).map_err(wrong())?;
    }
    for (name, text) in [(".git/HEAD", "ref: refs/heads/other"), ("output/report.json", "of an earlier run")] {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap_or(to)).map_err(Error::io("create", to))?;
        fs::write(&path, text).map_err(Error::io("write", path))?;
    }
    Ok(())
}

fn next_minute(since: u64) {
    let minute = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / 60);
    while minute() == since {
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// All builds; the first is what the others are compared with.
fn builds(bed: &Bed, program: &Program, folder: &Path) -> Result<Vec<Made>> {
    let robot = install::work_tree().join("examples/invoice-robot");
    let rcc = bed
        .book()
        .rcc
        .first()
        .ok_or_else(|| Error::Other("no rcc".to_owned()))?
        .path
        .clone();

    let reference = Laptop::new(bed, program, &folder.join("reference"))?;
    let mut made = vec![Made::build("reference", &reference, &robot)?];

    let (shared, shared_rcc) = programs(&folder.join("shared"), program, &rcc, "rcc")?;
    let mut laptop = Laptop::new(bed, &shared, &folder.join("person"))?;
    laptop.rcc = shared_rcc;
    let own_robot = laptop.home.join("robot");
    copy_robot(&robot, &own_robot)?;
    laptop.hand_to(NOBODY)?;
    made.push(Made::build("a user without root", &laptop, &own_robot)?);

    // Everything at once that must not matter: one difference in the result says that one of them does, and which file.
    let (other, other_rcc) = programs(&folder.join("other programs"), program, &rcc, "an rcc by another name")?;
    let mut laptop = Laptop::new(bed, &other, &folder.join("ein anderer Ort é"))?;
    laptop.rcc = other_rcc;
    let other_robot = laptop.home.join("clone/of the robot");
    other_clone(&robot, &other_robot)?;
    let odd = ["taskset", "--cpu-list", "0", "sh", "-c", "umask 077; exec \"$@\"", "sh"];
    laptop.prefix = odd.map(str::to_owned).to_vec();
    let variables = [
        ("TZ", "Asia/Kathmandu"),
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("USER", "somebody"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("PYTHONHASHSEED", "7"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONDONTWRITEBYTECODE", ""),
        ("PIP_NO_COMPILE", "1"),
        ("COLUMNS", "43"),
    ];
    laptop.env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    next_minute(made[0].minute);
    made.push(Made::build("elsewhere and otherwise", &laptop, &other_robot)?);
    Ok(made)
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn one_robot_has_one_digest() {
    let bed = Bed::shared().await.expect("a test bed");
    let program = Program::get(bed.cache()).await.expect("the program");
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("rights");
    let made = builds(&bed, &program, folder.path()).expect("builds");
    let reference = &made[0];
    assert_ne!(reference.minute, made[2].minute);
    for other in &made {
        assert_eq!(
            other.built.document["environmentCached"], false,
            "{}: each resolves by itself",
            other.name
        );
        assert_eq!(other.built.document["notReproducible"], serde_json::json!([]), "{}", other.name);
    }
    for other in &made[1..] {
        if other.built.digest != reference.built.digest {
            let difference = explain(&reference.layout, &other.layout).expect("two layouts");
            panic!(
                "{} has {}, the reference {}:\n{difference}",
                other.name, other.built.digest, reference.built.digest
            );
        }
    }
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn another_word_in_the_code_is_another_layer_of_code_and_nothing_else() {
    let bed = Bed::shared().await.expect("a test bed");
    let program = Program::get(bed.cache()).await.expect("the program");
    let folder = tempfile::tempdir().expect("a folder");
    let laptop = Laptop::new(&bed, &program, &folder.path().join("home")).expect("a home");
    // A shell robot: nothing is resolved here, the layers are what counts.
    let robot = folder.path().join("robot");
    fs::create_dir(&robot).expect("a folder");
    fs::write(
        robot.join("robot.yaml"),
        "tasks:\n  Say:\n    shell: sh say.sh\nartifactsDir: output\n",
    )
    .expect("a file");
    let build = |word: &str, name: &str| {
        fs::write(robot.join("say.sh"), format!("echo {word}\n")).expect("a file");
        let layout = folder.path().join(name);
        laptop
            .build(&robot, &["--output", &format!("oci:{}", layout.display())])
            .expect("a build");
        Image::read(&layout).expect("an image")
    };
    let (first, second, again) = (build("one", "first"), build("two", "second"), build("one", "again"));
    assert_eq!(first.digest, again.digest);
    assert_ne!(first.digest, second.digest);
    let changed: Vec<_> = first
        .layers
        .iter()
        .zip(&second.layers)
        .filter(|(a, b)| a.digest != b.digest)
        .map(|(a, _)| a.role.as_deref())
        .collect();
    assert_eq!(changed, [Some("code")]);
    assert_eq!(first.layers.len(), second.layers.len());
}

#[test]
#[ignore = "needs root and the real parts: make test runs it"]
fn a_difference_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = |name: &str, content: &[u8]| {
        let (tar, layout) = (folder.path().join(format!("{name}.tar")), folder.path().join(name));
        let mut builder = tar::Builder::new(fs::File::create(&tar).expect("a file"));
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "opt/file", content).expect("an entry");
        builder.finish().expect("an archive");
        robotimage_tests::image::write_layout(&layout, &tar, &robotimage_tests::image::Run::default(), None).expect("a layout");
        layout
    };
    let (one, two) = (layout("one", b"a\n"), layout("two", b"b\n"));
    let said = explain(&one, &two).expect("two layouts");
    assert!(said.contains("opt/file") && said.contains("content"), "{said}");
}
