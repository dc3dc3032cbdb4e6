//! What an instance of the test bed has on the host, to compare before and after.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use robotimage_tests::{Cache, Instance};

/// Everything on the host that bears the instance's name or lies in its folder.
#[derive(Debug)]
pub(crate) struct Host {
    processes: Vec<String>,
    mounts: Vec<String>,
    interfaces: Vec<String>,
    tables: Vec<String>,
    routes: Vec<String>,
    cgroups: Vec<PathBuf>,
    folder: Option<PathBuf>,
}

impl Host {
    /// Looks.
    pub(crate) fn look(cache: &Cache, instance: Instance) -> Self {
        let (link, run) = (instance.interface(), cache.run_dir(instance));
        let mine = |text: &str| text.contains(&run.display().to_string());
        let lines = |program: &str, args: &[&str]| -> Vec<String> {
            let output = Command::new(program).args(args).output().unwrap();
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        };
        Self {
            processes: processes().into_iter().filter(|line| mine(line)).collect(),
            mounts: fs::read_to_string("/proc/mounts")
                .unwrap()
                .lines()
                .filter(|l| mine(l))
                .map(str::to_owned)
                .collect(),
            interfaces: names("/sys/class/net").into_iter().filter(|name| *name == link).collect(),
            tables: lines("nft", &["list", "tables"])
                .into_iter()
                .filter(|l| l.split(' ').any(|w| w == link))
                .collect(),
            routes: lines("ip", &["route"])
                .into_iter()
                .filter(|l| l.split(' ').any(|w| w == link))
                .collect(),
            cgroups: names("/sys/fs/cgroup")
                .into_iter()
                .map(|name| PathBuf::from("/sys/fs/cgroup").join(name).join(&link))
                .filter(|path| path.exists())
                .collect(),
            folder: run.exists().then_some(run),
        }
    }

    /// Nothing at all.
    pub(crate) fn is_clean(&self) -> bool {
        let lists = [&self.processes, &self.mounts, &self.interfaces, &self.tables, &self.routes];
        lists.iter().all(|list| list.is_empty()) && self.cgroups.is_empty() && self.folder.is_none()
    }

    /// Whether something still runs.
    pub(crate) fn has_processes(&self) -> bool {
        !self.processes.is_empty()
    }

    /// After a failed start the folder stays, for its logs.
    pub(crate) fn forget_folder(&mut self) {
        self.folder = None;
    }
}

/// The host's own chains and sets of the kind that an agent for policies makes; of no instance, so to be compared.
pub(crate) fn filters() -> Vec<String> {
    let list = [("nft", ["list", "chains"]), ("ipset", ["list", "-name"])].map(|(program, args)| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let lines = list.iter().map(String::as_str).flat_map(str::lines);
    lines.filter(|line| line.contains("KUBE-")).map(str::to_owned).collect()
}

/// Command line and environment of every living process: containers' shims name the folder in one of them.
fn processes() -> Vec<String> {
    let numbers = names("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers
        .filter_map(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
            let text = [read("cmdline")?, read("environ")?].concat();
            Some(format!("{pid} {}", String::from_utf8_lossy(&text).replace('\0', " ")))
        })
        .collect()
}

fn names(folder: &str) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
