//! What the program `testbed` does, one function a subcommand.
//!
//! Invariant: results go to stdout, progress to stderr; `env` prints shell and nothing else.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::bed::{AddressBook, Bed};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::install;
use crate::instance::Instance;
use crate::machine::{self, Machine};
use crate::namespace::{self, Namespace};
use crate::node::Node;
use crate::pki::Authority;
use crate::process::Lifetime;
use crate::site::Site;
use crate::{base, channel, image, parts, prerequisites as needed, rcc, serve as servers};

/// Starts a test bed and leaves it running.
pub async fn up(another: bool) -> Result<()> {
    needed::check()?;
    let cache = Cache::open()?;
    if !another && let Ok(bed) = Bed::attach(&cache) {
        bed.check()?;
        eprintln!("already up: instance {}", bed.book().instance);
        return Ok(());
    }
    build()?;
    let start = Instant::now();
    let bed = Bed::start(&cache, Lifetime::Kept).await?;
    eprintln!(
        "up: instance {} in {:.1} s; eval \"$(testbed env)\"",
        bed.book().instance,
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Ends the kept test bed, or all.
pub fn down(all: bool) -> Result<()> {
    let cache = Cache::open()?;
    if all {
        return Instance::all().try_for_each(|instance| machine::sweep(&cache, instance));
    }
    let start = Instant::now();
    let bed = Bed::attach(&cache)?;
    let instance = bed.book().instance;
    bed.stop()?;
    eprintln!("down: instance {instance} in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// One line for each instance and part.
pub fn status() -> Result<()> {
    let cache = Cache::open()?;
    let mut running = 0;
    for instance in Instance::all() {
        let Ok(node) = Node::attach(&cache.run_dir(instance)) else {
            continue;
        };
        running += 1;
        println!("instance {instance}: {}", node.run_dir().display());
        for part in node.parts() {
            let state = if part.is_alive() { "running" } else { "ended" };
            println!(
                "  {:24} {state:8} pid {:7} {}",
                part.name(),
                part.identity().pid,
                part.log().display()
            );
        }
    }
    if running == 0 {
        Err(Error::NotRunning(cache.root().join("run")))
    } else {
        Ok(())
    }
}

/// The address book as shell.
pub fn env() -> Result<()> {
    let bed = Bed::attach(&Cache::open()?)?;
    for (name, value) in variables(bed.book()) {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
    println!("export PATH='{}':\"$PATH\"", bed.book().tools.display());
    Ok(())
}

/// What `env` exports, and what suites hand to programs under test.
pub fn variables(book: &AddressBook) -> Vec<(String, String)> {
    let path = |path: &Path| path.display().to_string();
    let mut list = vec![
        ("KUBECONFIG".to_owned(), path(&book.kubeconfig)),
        ("TESTBED_INSTANCE".to_owned(), book.instance.to_string()),
        ("TESTBED_DIR".to_owned(), book.tools.parent().map(path).unwrap_or_default()),
        ("REGISTRY".to_owned(), book.registry.address.clone()),
        ("PUBLIC_REGISTRY".to_owned(), book.public.address.clone()),
        ("BASE_IMAGE".to_owned(), book.base_image.clone()),
        ("BUSYBOX_IMAGE".to_owned(), book.busybox_image.clone()),
        ("GIT_URL".to_owned(), book.git.url.clone()),
        ("GIT_DIR_ROOT".to_owned(), path(&book.git.folder)),
        ("GIT_USER".to_owned(), book.git_login.user.clone()),
        ("GIT_PASSWORD".to_owned(), book.git_login.password.reveal().to_owned()),
        ("CONDA_CHANNEL".to_owned(), book.files.channel()),
        ("FILES_HTTP".to_owned(), book.files.http.clone()),
        ("FILES_HTTPS".to_owned(), book.files.https.clone()),
        ("PIP_INDEX".to_owned(), book.index.url.clone()),
        ("TESTBED_CA".to_owned(), path(&book.ca)),
        ("CA_BUNDLE".to_owned(), path(&book.ca_bundle)),
    ];
    if let Some(login) = &book.registry.login {
        list.push(("REGISTRY_USER".to_owned(), login.user.clone()));
        list.push(("REGISTRY_PASSWORD".to_owned(), login.password.reveal().to_owned()));
    }
    for (rcc, prefix) in book.rcc.iter().zip(["RCC", "RCC_17", "RCC_OTHER"]) {
        list.push((format!("{prefix}_PATH"), path(&rcc.path)));
        list.push((format!("{prefix}_URL"), book.files.rcc(rcc)));
        list.push((format!("{prefix}_SHA256"), rcc.sha256.clone()));
    }
    list
}

/// Commits a folder: what is in it now becomes what is on the branch, other files of the branch stay.
pub fn commit(name: &str, folder: &Path, private: bool, branch: &str, message: &str) -> Result<()> {
    let bed = Bed::attach(&Cache::open()?)?;
    let repo = bed.book().git.open(name);
    let repo = if repo.exists() { repo } else { bed.book().git.create(name, None)? };
    if private {
        repo.protect(&bed.book().git_login)?;
    }
    let files = read_folder(folder)?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let id = repo.commit_to(branch, &files, &[], message)?;
    println!("{} {id}", repo.url());
    Ok(())
}

/// Makes a namespace as suites use them, under exactly this name.
pub async fn namespace(name: &str) -> Result<()> {
    let bed = Bed::attach(&Cache::open()?)?;
    let namespace = Namespace::create(&bed, name).await?;
    println!("{}", namespace.name());
    Ok(())
}

/// Every file below a folder, by its path with slashes.
pub fn read_folder(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(&inner).map_err(Error::io("list", &inner))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
                files.push((relative.to_string_lossy().into_owned(), bytes));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Ends and removes what crashed runs left; leaves what runs.
pub fn sweep() -> Result<()> {
    let cache = Cache::open()?;
    for instance in Instance::all() {
        if !Machine::attach(&cache.run_dir(instance)).is_ok_and(|machine| machine.is_in_use()) {
            machine::sweep(&cache, instance)?;
        }
    }
    Ok(())
}

/// Builds every part into the cache.
pub fn build() -> Result<()> {
    let cache = Cache::open()?;
    // The longest first: whoever waits sees at once what for.
    parts::kubenode(&cache)?;
    for tool in [
        parts::registry,
        parts::coredns,
        parts::helm,
        parts::crane,
        parts::kube_router,
        parts::kstatus,
    ] {
        tool(&cache)?;
    }
    for image in [base::debian, image::busybox, image::pause, channel::channel] {
        image(&cache)?;
    }
    rcc::all(&cache).map(drop)
}

/// Says what is missing, as an error.
pub fn prerequisites() -> Result<()> {
    needed::check()?;
    println!("everything is there");
    Ok(())
}

/// Installs what Debian has, and says what else is missing.
pub fn setup() -> Result<()> {
    needed::install()?;
    needed::check()
}

/// Serves git and files until it is ended: the background process of a kept test bed.
pub async fn serve(folder: &Path) -> Result<()> {
    let machine = Machine::attach(folder)?;
    let site = Site {
        folder: folder.to_owned(),
        ip: machine.instance().host_ip(),
        authority: Authority::open(&folder.join("pki"))?,
        lifetime: Lifetime::Kept,
    };
    let _servers = servers::start(&site)?;
    std::future::pending().await
}

/// Builds our images and pushes them to the kept test bed; prints their references.
pub async fn images() -> Result<()> {
    let bed = Bed::attach(&Cache::open()?)?;
    let (_, images) = Box::pin(install::images(&bed)).await?;
    println!("operator {}\nbuilder {}", images.operator, images.builder);
    Ok(())
}

/// The same, and installs the chart; every namespace labelled `robotimage.dev/testbed=true` may poll private sources.
pub async fn install() -> Result<()> {
    let bed = Bed::attach(&Cache::open()?)?;
    let (_, images) = Box::pin(install::images(&bed)).await?;
    let namespaces = namespace::all(&bed).await?;
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    install::chart(&bed, &install::values(bed.book(), &images, &namespaces)?)?;
    eprintln!("installed in {}", install::SYSTEM);
    Ok(())
}
