//! The real parts that the tests are given, and folders of theirs.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Whom a laptop's user is played by.
const NOBODY: u32 = 65534;

/// Real parts, and a folder for everything.
pub(crate) struct Machine {
    pub(crate) rcc: PathBuf,
    pub(crate) rcc_17: PathBuf,
    pub(crate) platform: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    channel: String,
}

impl Machine {
    pub(crate) fn find() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this suite needs root: it plays other users");
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let platform = folder.path().join("platform");
        fs::create_dir(&platform).unwrap();
        let bundle = env::var("SSL_CERT_FILE").unwrap_or_else(|_| "/etc/ssl/certs/ca-certificates.crt".to_owned());
        fs::copy(bundle, platform.join("ca-bundle.pem")).unwrap();
        Self {
            rcc: given("ROBOTIMAGE_RCC").map_or_else(|| part("rcc-19.0.2-").join("rcc"), PathBuf::from),
            rcc_17: given("ROBOTIMAGE_RCC_17").map_or_else(|| part("rcc-17.23.2-").join("rcc"), PathBuf::from),
            channel: given("ROBOTIMAGE_CHANNEL").unwrap_or_else(|| super::channel::serve(part("conda-channel-"))),
            platform,
            folder,
        }
    }

    /// A folder laid out as a context, with an environment file that ends with these lines.
    pub(crate) fn spec(&self, name: &str, more: &str) -> PathBuf {
        let spec = self.folder.path().join(name);
        fs::create_dir_all(spec.join("bot")).unwrap();
        let text = format!(
            "channels: [{}]\ndependencies:\n  - python=3.11.7\n  - pip=23.2.1\n{more}",
            self.channel
        );
        fs::write(spec.join("bot/conda.yaml"), text).unwrap();
        spec
    }

    pub(crate) fn folder_of_nobody(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(format!("{name}-cache"));
        fs::create_dir(&folder).unwrap();
        for folder in [folder.clone(), folder.join("rcc"), folder.join("home"), folder.join("root")] {
            fs::create_dir_all(&folder).unwrap();
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        folder
    }

    /// The program, started as a user without root under another umask, time zone and language.
    pub(crate) fn helper_as_nobody(&self, program: &Path) -> PathBuf {
        let copy = self.folder.path().join("robotimage");
        fs::copy(program, &copy).unwrap();
        let path = self.folder.path().join("as-nobody");
        let script = format!(
            "#!/bin/sh\numask 0077\nexport TZ=Asia/Tokyo LANG=de_DE.UTF-8\nexec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {} \"$@\"\n",
            copy.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

fn given(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The youngest part of the test bed whose folder's name begins so.
fn part(prefix: &str) -> PathBuf {
    let cache = given("ROBOTIMAGE_CACHE").map_or_else(|| PathBuf::from(env::var("HOME").unwrap()).join(".cache/robotimage"), PathBuf::from);
    let parts = fs::read_dir(cache.join("parts")).into_iter().flatten().flatten();
    let found = parts
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix) && entry.path().is_dir())
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).unwrap());
    found
        .unwrap_or_else(|| panic!("no {prefix}* in {}: make parts builds it", cache.join("parts").display()))
        .path()
}
