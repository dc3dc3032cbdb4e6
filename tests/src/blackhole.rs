//! A network that drops every packet and counts them, with a name server that writes down every question: what a program
//! that must not call home is run in.
//!
//! Invariant: packets are dropped in silence, as by a firewall: a network that is merely absent answers "unreachable" at
//! once and hides a program that would wait. Both ends are namespaces of our own; nothing of the host is changed.

use std::fs::File;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::dnsrecorder::{Answer, DnsRecorder};
use crate::error::{Error, Result};
use crate::process::run;

/// The address of the name server, and of the way out; reserved for documentation, so nobody's.
pub const NAME_SERVER: &str = "192.0.2.1";
const INSIDE: &str = "192.0.2.2/30";
const OUTSIDE: &str = "192.0.2.1/30";

/// A dropping network; dropping the value removes it.
#[derive(Debug)]
pub struct BlackHole {
    inside: String,
    outside: String,
    recorder: Option<DnsRecorder>,
}

impl BlackHole {
    /// Makes one.
    pub fn create() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hole-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut hole = Self {
            inside: format!("{name}-in"),
            outside: format!("{name}-out"),
            recorder: None,
        };
        hole.wire()?;
        let bind = format!("{NAME_SERVER}:53");
        // The socket belongs to the namespace of the thread that makes it, wherever it is read.
        hole.recorder = Some(within(&hole.outside, move || DnsRecorder::start(&bind, Answer::Silence))??);
        Ok(hole)
    }

    fn wire(&self) -> Result<()> {
        let (inside, outside) = (self.inside.as_str(), self.outside.as_str());
        let ip = |words: &[&str]| run("dropping network", Command::new("ip").args(words)).map(drop);
        for namespace in [inside, outside] {
            ip(&["netns", "add", namespace])?;
            // Neighbour discovery would be packets that nobody asked for.
            let quiet = "for kind in all default; do echo 1 > /proc/sys/net/ipv6/conf/$kind/disable_ipv6; done";
            ip(&[
                "netns",
                "exec",
                namespace,
                "sh",
                "-c",
                &format!("[ ! -d /proc/sys/net/ipv6 ] || {{ {quiet}; }}"),
            ])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "-n", inside, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside,
        ])?;
        for (namespace, address) in [(inside, INSIDE), (outside, OUTSIDE)] {
            ip(&["-n", namespace, "address", "add", address, "dev", "eth0"])?;
            ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
        }
        // With a way out that leads nowhere, nothing fails at once for want of a route.
        ip(&["-n", inside, "route", "add", "default", "via", NAME_SERVER])?;
        let rules = "add table inet hole
            add counter inet hole dropped
            add chain inet hole arriving { type filter hook prerouting priority raw; policy accept; }
            add rule inet hole arriving udp dport 53 accept
            add rule inet hole arriving iifname eth0 counter name dropped drop";
        rules
            .lines()
            .try_for_each(|rule| ip(&["netns", "exec", outside, "nft", rule.trim()]))
    }

    /// The file of the namespace that a program is to be run in.
    pub fn namespace(&self) -> PathBuf {
        file(&self.inside)
    }

    /// The names that were asked for.
    pub fn questions(&self) -> Vec<String> {
        self.recorder.as_ref().map(DnsRecorder::questions).unwrap_or_default()
    }

    /// Packets that were sent and dropped, questions to the name server not counted.
    pub fn dropped(&self) -> Result<u64> {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.outside,
            "nft",
            "-j",
            "list",
            "counter",
            "inet",
            "hole",
            "dropped",
        ]);
        let text = run("count of dropped packets", &mut command)?;
        let value: Value = serde_json::from_str(&text).map_err(|error| Error::Other(format!("nft said {text}: {error}")))?;
        let mut entries = value["nftables"].as_array().into_iter().flatten();
        let found = entries.find_map(|entry| entry["counter"]["packets"].as_u64());
        found.ok_or_else(|| Error::Other(format!("nft lists no counter: {text}")))
    }

    /// Asks a name and opens a connection from inside, as a program that calls home would; gives up at once.
    pub fn call_home(&self) -> Result<()> {
        let call = || -> std::io::Result<()> {
            let question = [
                b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09telemetry\x07example\0".as_slice(),
                &[0, 1, 0, 1],
            ]
            .concat();
            UdpSocket::bind("0.0.0.0:0")?.send_to(&question, (NAME_SERVER, 53))?;
            match TcpStream::connect_timeout(&SocketAddr::from(([198, 51, 100, 7], 443)), Duration::from_millis(200)) {
                Ok(_) => Err(std::io::Error::other("a connection was made")),
                // It can only run into its limit.
                Err(_) => Ok(()),
            }
        };
        within(&self.inside, call)?.map_err(|error| Error::Other(format!("a call from inside the dropping network: {error}")))
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.recorder.take();
        for name in [&self.inside, &self.outside] {
            // One of them is not there when the making failed half way.
            if file(name).exists()
                && let Err(error) = run("removal of a dropping network", Command::new("ip").args(["netns", "delete", name]))
            {
                tracing::error!("{error}");
            }
        }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Runs `work` on a thread of its own in a network namespace.
fn within<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let path = file(name);
    let namespace = File::open(&path).map_err(Error::io("open", &path))?;
    let thread = std::thread::spawn(move || setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work()));
    let entered = thread
        .join()
        .map_err(|_| Error::Other(format!("a thread in {} ended by a panic", path.display())))?;
    entered.map_err(|error| Error::Other(format!("cannot enter {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root and the real parts: make test runs it"]
    fn who_calls_home_is_seen() {
        let hole = BlackHole::create().unwrap();
        assert_eq!((hole.questions().len(), hole.dropped().unwrap()), (0, 0));
        hole.call_home().unwrap();
        assert!(hole.dropped().unwrap() >= 1);
        for _ in 0..50 {
            if !hole.questions().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(hole.questions(), ["telemetry.example"]);
        let files = [hole.namespace(), file(&hole.outside)];
        drop(hole);
        assert!(files.iter().all(|file| !file.exists()));
    }
}
