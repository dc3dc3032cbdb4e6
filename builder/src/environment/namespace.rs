//! A view of the file system of our own: the host's, with the cache at `/opt/rcc` and an empty `/home/robot`.
//!
//! A new root is built from bind mounts of the host's top-level folders and pivoted into, so that nothing of the host changes
//! and nobody else sees it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, getgid, getuid, pivot_root};

use super::space::{HOME, SEALED_ROOT, SPEC_ROOT};

/// Where rcc is inside.
pub(super) const RCC: &str = "/workspace/inputs/rcc";
/// Where the platform's settings are inside.
pub(super) const PLATFORM: &str = "/workspace/inputs/platform";
/// Where the netrc file is inside.
pub(super) const INDEX_SECRET: &str = "/workspace/inputs/netrc";

/// What appears where; absolute paths of the host.
#[derive(Debug)]
pub(super) struct Places {
    /// An empty folder for the new root.
    pub(super) root: PathBuf,
    pub(super) rcc_home: PathBuf,
    pub(super) home: PathBuf,
    pub(super) spec: PathBuf,
    pub(super) rcc: PathBuf,
    pub(super) platform: Option<PathBuf>,
    pub(super) index_secret: Option<PathBuf>,
}

/// A step that the host refused.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(super) struct Refused {
    step: String,
    source: io::Error,
}

fn refused(step: impl Into<String>) -> impl FnOnce(io::Error) -> Refused {
    let step = step.into();
    move |source| Refused { step, source }
}

/// Moves this process, which must have one thread, into the view.
pub(super) fn enter(places: &Places) -> Result<(), Refused> {
    own_namespace()?;
    // Nothing that is mounted from here on is seen outside.
    attach(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        "make mounts private",
    )?;
    let root = &places.root;
    attach(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), "mount a tmpfs")?;
    // Otherwise the bind mount of the folder that holds the cache would hold this one again.
    attach(None, root, None, MsFlags::MS_UNBINDABLE, "make a mount unbindable")?;
    let own = ["opt", "home", "workspace"];
    copy_view(Path::new("/"), root, &own)?;
    for (host, own) in [("/opt", "rcc"), ("/home", "robot")] {
        let inside = root.join(&host[1..]);
        make_folder(&inside)?;
        if let Ok(real) = Path::new(host).canonicalize() {
            copy_view(&real, &inside, &[own])?;
        }
    }
    let at = |path: &str| root.join(&path[1..]);
    bind_folder(&places.rcc_home, &at(SEALED_ROOT))?;
    bind_folder(&places.home, &at(HOME))?;
    bind_folder(&places.spec, &at(SPEC_ROOT))?;
    bind_file(&places.rcc, &at(RCC))?;
    if let Some(platform) = &places.platform {
        bind_folder(platform, &at(PLATFORM))?;
    }
    if let Some(secret) = &places.index_secret {
        bind_file(secret, &at(INDEX_SECRET))?;
    }
    let old = root.join(".host");
    make_folder(&old)?;
    pivot_root(root, &old).map_err(io::Error::from).map_err(refused("pivot_root"))?;
    chdir("/").map_err(io::Error::from).map_err(refused("chdir /"))?;
    umount2("/.host", MntFlags::MNT_DETACH)
        .map_err(io::Error::from)
        .map_err(refused("leave the old root"))?;
    fs::remove_dir("/.host").map_err(refused("remove the old root"))
}

/// A mount namespace: as root an own one, otherwise with a user namespace in which we stay who we are.
fn own_namespace() -> Result<(), Refused> {
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(io::Error::from)
        .map_err(refused("make a user and mount namespace"))?;
    // Without this a group map may not be written.
    fs::write("/proc/self/setgroups", "deny").map_err(refused("write /proc/self/setgroups"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(refused("write /proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(refused("write /proc/self/gid_map"))
}

/// Makes the entries of a folder appear in another one, except some.
fn copy_view(from: &Path, to: &Path, except: &[&str]) -> Result<(), Refused> {
    for entry in fs::read_dir(from).map_err(refused(format!("list {}", from.display())))? {
        let entry = entry.map_err(refused(format!("list {}", from.display())))?;
        let name = entry.file_name();
        if except.iter().any(|except| name == *except) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type().map_err(refused(format!("read {}", source.display())))?;
        if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(refused(format!("read {}", source.display())))?;
            symlink(link, &target).map_err(refused(format!("link {}", target.display())))?;
        } else if kind.is_dir() {
            bind_folder(&source, &target)?;
        } else if kind.is_file() {
            bind_file(&source, &target)?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), Refused> {
    fs::create_dir_all(path).map_err(refused(format!("make {}", path.display())))
}

fn bind_folder(source: &Path, target: &Path) -> Result<(), Refused> {
    make_folder(target)?;
    attach(
        source.to_str(),
        target,
        None,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        &format!("bind {}", source.display()),
    )
}

fn bind_file(source: &Path, target: &Path) -> Result<(), Refused> {
    if let Some(folder) = target.parent() {
        make_folder(folder)?;
    }
    File::create(target).map_err(refused(format!("make {}", target.display())))?;
    attach(
        source.to_str(),
        target,
        None,
        MsFlags::MS_BIND,
        &format!("bind {}", source.display()),
    )
}

fn attach(source: Option<&str>, target: &Path, kind: Option<&str>, flags: MsFlags, step: &str) -> Result<(), Refused> {
    mount(source, target, kind, flags, None::<&str>)
        .map_err(io::Error::from)
        .map_err(refused(step))
}
