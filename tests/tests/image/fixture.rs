//! The images under test, built once by the command line, and unpacked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use robotimage_tests::laptop::{Laptop, Program};
use robotimage_tests::rootfs::Layers;
use robotimage_tests::runc::{Container, Finished, Options};
use robotimage_tests::verify::Image;
use robotimage_tests::{Bed, Error, Result, install, mounts};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Repository of the pushed images.
pub(crate) const REPOSITORY: &str = "suites/image";
/// Name in the docker archive: nobody's registry, so that only an import can bring it.
pub(crate) const ARCHIVE_NAME: &str = "imported.testbed.internal/suites/image:archive";

/// Entries of the builder's cache (a folder and a lock for each environment) that may wait for the next run.
const KEPT: usize = 8;

/// An image as a layout, read by our own verifier, and unpacked.
pub(crate) struct Made {
    /// The layout.
    pub(crate) layout: PathBuf,
    /// What the verifier read.
    pub(crate) image: Image,
    /// Unpacked, from the bottom.
    pub(crate) layers: Vec<PathBuf>,
}

/// Everything that the tests share.
pub(crate) struct Fixture {
    pub(crate) bed: Arc<Bed>,
    /// Scratch of the suite.
    pub(crate) folder: PathBuf,
    pub(crate) zstd: Made,
    pub(crate) gzip: Made,
    /// With rcc 17.
    pub(crate) old: Made,
    /// A robot that cleans up, with each rcc.
    pub(crate) patient: Vec<(String, Made)>,
    /// A docker archive of the invoice robot.
    pub(crate) archive: PathBuf,
    /// Held as long as this process lives: the folder is one for all.
    _lock: File,
}

/// Tests that run beside each other hold it for reading, one that takes times for writing.
static TURN: RwLock<()> = RwLock::const_new(());

/// The fixture, and the right to load the machine with it.
pub(crate) struct Turn<G> {
    fixture: Arc<Fixture>,
    _turn: G,
}

impl<G> std::ops::Deref for Turn<G> {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Fixture {
    /// Builds the images, or gives those that are built.
    pub(crate) async fn get() -> Turn<RwLockReadGuard<'static, ()>> {
        let fixture = Self::shared().await;
        Turn {
            fixture,
            _turn: TURN.read().await,
        }
    }

    /// The same, with no other test of this suite at work.
    pub(crate) async fn alone() -> Turn<RwLockWriteGuard<'static, ()>> {
        let fixture = Self::shared().await;
        Turn {
            fixture,
            _turn: TURN.write().await,
        }
    }

    async fn shared() -> Arc<Self> {
        // A failure is kept too: nobody waits for the same builds eleven times.
        static FIXTURE: OnceCell<Result<Arc<Fixture>>> = OnceCell::const_new();
        let made = FIXTURE.get_or_init(|| async { Self::make().await.map(Arc::new) }).await;
        match made {
            Ok(fixture) => Arc::clone(fixture),
            Err(error) => panic!("the images under test: {error}"),
        }
    }

    async fn make() -> Result<Self> {
        let bed = Bed::shared().await?;
        let program = Program::get(bed.cache()).await?;
        // It stays until the next run, to be looked at; what the builder keeps in its cache makes that one quicker.
        let folder = bed.cache().root().join("suites/image");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let lock = File::create(folder.join("lock")).map_err(Error::io("create", &folder))?;
        lock.lock().map_err(Error::io("lock", &folder))?;
        let kept = fs::read_dir(folder.join("home/cache/builds")).map_or(0, Iterator::count);
        // Each change of an environment's key leaves some hundred megabytes behind.
        let stale = (kept > KEPT).then_some("home");
        // A run that was killed leaves its root file systems mounted.
        mounts::release(&folder)?;
        for name in ["out", "layers", "run"].into_iter().chain(stale) {
            let path = folder.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let worker = Worker {
            laptop: Laptop::new(&bed, &program, &folder.join("home"))?,
            out: folder.join("out"),
            layers: Layers::at(&folder.join("layers"))?,
        };
        let held = (Arc::clone(&bed), folder.clone());
        let made = tokio::task::spawn_blocking(move || worker.make(&held.0, &held.1, lock)).await;
        made.map_err(|error| Error::Other(format!("builds of the images under test: {error}")))?
    }

    /// Runs an image to its end.
    pub(crate) fn run(&self, made: &Made, options: Options<'_>) -> Finished {
        Container::run(&made.image, &made.layers, &self.folder.join("run"), options).expect("a container")
    }

    /// Starts an image.
    pub(crate) fn start(&self, made: &Made, options: Options<'_>) -> Container {
        Container::start(&made.image, &made.layers, &self.folder.join("run"), options).expect("a container")
    }

    /// A reference in the private registry.
    pub(crate) fn reference(&self, tag: &str) -> String {
        self.bed.book().registry.reference(&format!("{REPOSITORY}:{tag}"))
    }
}

struct Worker {
    laptop: Laptop,
    out: PathBuf,
    layers: Layers,
}

impl Worker {
    fn make(mut self, bed: &Arc<Bed>, folder: &Path, lock: File) -> Result<Fixture> {
        let invoices = install::work_tree().join("examples/invoice-robot");
        let tag = |name: &str| bed.book().registry.reference(&format!("{REPOSITORY}:{name}"));
        let zstd = self.build("zstd", &invoices, &["--compression", "zstd", "--push", "-t", &tag("zstd")])?;
        let gzip = self.build("gzip", &invoices, &["--compression", "gzip", "--push", "-t", &tag("gzip")])?;
        let archive = self.out.join("image.tar");
        let built = self
            .laptop
            .build(&invoices, &["--save", &archive.display().to_string(), "-t", ARCHIVE_NAME])?;
        assert_eq!(built.digest, gzip.image.digest, "an archive holds the same image as a layout");

        let robot = folder.join("patient");
        patient(&invoices, &robot)?;
        let mut patient = vec![("rcc 19".to_owned(), self.build("patient", &robot, &["--compression", "zstd"])?)];
        self.laptop.rcc.clone_from(&bed.book().rcc[1].path);
        let old = self.build("old", &invoices, &["--compression", "zstd"])?;
        patient.push(("rcc 17".to_owned(), self.build("patient-old", &robot, &["--compression", "zstd"])?));
        Ok(Fixture {
            bed: Arc::clone(bed),
            folder: folder.to_owned(),
            zstd,
            gzip,
            old,
            patient,
            archive,
            _lock: lock,
        })
    }

    fn build(&self, name: &str, robot: &Path, args: &[&str]) -> Result<Made> {
        let layout = self.out.join(name);
        let output = format!("oci:{}", layout.display());
        let args: Vec<&str> = args.iter().copied().chain(["--output", &output]).collect();
        let built = self.laptop.build(robot, &args)?;
        let image = Image::read(&layout)?;
        assert_eq!(image.digest, built.digest, "the digest that the command says is the layout's");
        let cached = if built.document["environmentCached"] == true {
            "environment from the cache"
        } else {
            "environment resolved"
        };
        println!("built {name} in {:.1} s, {cached}: {}", built.took.as_secs_f64(), image.digest);
        let layers = self.layers.unpack(&layout, &image)?;
        Ok(Made { layout, image, layers })
    }
}

/// A robot that works until it is told to end, and then cleans up; in the environment of the invoice robot.
fn patient(invoices: &Path, robot: &Path) -> Result<()> {
    fs::create_dir_all(robot).map_err(Error::io("create", robot))?;
    let conda = fs::read_to_string(invoices.join("conda.yaml")).map_err(Error::io("read", invoices))?;
    let files = [
        ("conda.yaml", conda.as_str()),
        (
            "robot.yaml",
            "tasks:\n  Wait:\n    shell: python patient.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n",
        ),
        ("patient.py", include_str!("patient.py")),
    ];
    files
        .into_iter()
        .try_for_each(|(name, text)| fs::write(robot.join(name), text).map_err(Error::io("write", robot)))
}
