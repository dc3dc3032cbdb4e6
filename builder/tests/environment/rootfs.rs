//! A root file system such as a container has, without a container runtime: this machine's system folders read-only, our
//! layers, no network.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use robotimage_builder::environment::{RuntimeHome, SEALED_PATH, add_runtime_home};
use robotimage_builder::rcc::Rcc;
use robotimage_layer::{Codec, LayerBuilder, ModePolicy, WriteOptions};

const TASK: &str = "import os, sys, tempfile\nfrom importlib.metadata import version\n\
    tempfile.NamedTemporaryFile().close()\nopen(os.path.join(os.environ['ROBOT_ARTIFACTS'], 'x'), 'w').close()\n\
    print('hello from', sys.prefix, 'with rich', version('rich'))\n";

/// Our layers, unpacked.
pub(crate) struct Rootfs {
    folder: tempfile::TempDir,
}

impl Rootfs {
    pub(crate) fn new(rcc: &Rcc, sealed: &Path, blueprint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut layer = LayerBuilder::new();
        let home = RuntimeHome {
            sealed: Some(sealed),
            sealed_path: SEALED_PATH,
            blueprint,
            rcc_version: &rcc.version,
            user: "robot",
        };
        add_runtime_home(&mut layer, &home).unwrap();
        layer
            .tree(sealed, SEALED_PATH, ModePolicy::Environment, Box::new(|_, _| true))
            .unwrap();
        let conda = fs::read_to_string(sealed.join("identity.yaml")).unwrap();
        layer
            .file("usr/local/bin/rcc", fs::read(&rcc.path).unwrap(), 0o755)
            .file(
                "home/robot/app/robot.yaml",
                "tasks: {Main: {shell: python task.py}}\ncondaConfigFile: conda.yaml\nartifactsDir: output\n",
                0o664,
            )
            .file("home/robot/app/conda.yaml", conda, 0o664)
            .file("home/robot/app/task.py", TASK, 0o664)
            .dir("home/robot/app", 0o775)
            .dir("home/robot", 0o775)
            .dir("home/robot/app/output", 0o1777)
            .dir("tmp", 0o1777);
        for name in ["usr/bin", "usr/lib", "usr/lib64", "bin", "lib", "lib64", "etc", "dev", "proc"] {
            layer.dir(name, 0o755);
        }
        let path = folder.path().join("layer.tar.gz");
        layer
            .write(Codec::Gzip, &WriteOptions::default(), File::create(&path).unwrap())
            .unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let unpacked = Command::new("tar")
            .args(["-xpzf"])
            .arg(&path)
            .arg("-C")
            .arg(&root)
            .status()
            .unwrap();
        assert!(unpacked.success());
        Self { folder }
    }

    pub(crate) fn sealed(&self) -> PathBuf {
        self.folder.path().join("root").join(&SEALED_PATH[1..])
    }

    /// Runs the robot as `uid:gid`, on a read-only root with the documented volumes or on a writable one; returns what it said.
    pub(crate) fn run(&self, user: &str, read_only: bool) -> String {
        let (uid, gid) = user.split_once(':').unwrap();
        let root = self.folder.path().join("root");
        let volumes = ["home/robot/.robocorp/holotree", "home/robot/app/output", "tmp"];
        let volumes: String = if read_only {
            let mounts = volumes.map(|volume| format!("mount -t tmpfs -o mode=1777 none $R/{volume}\n"));
            format!("mount -o remount,bind,ro $R\n{}", mounts.concat())
        } else {
            String::new()
        };
        let script = format!(
            "set -e\nR={}\nmount --bind $R $R\n\
             for part in usr/bin usr/lib usr/lib64 bin lib lib64 etc dev; do [ -d /$part ] && mount --rbind /$part $R/$part; done\n\
             mount -t proc none $R/proc\n{volumes}\
             exec chroot --userspec={uid}:{gid} --groups= $R /usr/bin/env -i HOME=/home/robot USER=robot \
             ROBOCORP_HOME=/home/robot/.robocorp RCC_NO_BUILD=1 RCC_AUTOUPDATES_RCC_INDEX=disabled: RCC_NO_PYC_MANAGEMENT=1 \
             RCC_NO_TEMP_MANAGEMENT=1 PATH=/usr/bin:/bin /usr/local/bin/rcc run --robot /home/robot/app/robot.yaml 2>&1\n",
            root.display()
        );
        let mut command = Command::new("unshare");
        let output = command
            .args(["--mount", "--net", "--pid", "--fork", "sh", "-c", &script])
            .output()
            .unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }
}
