//! What a process takes, by the kernel's word, and whether the machine was ours while it was measured.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Linux tells times to programs in hundredths of a second on every machine.
const TICKS: f64 = 100.0;
/// A longer gap between two looks at the clock is a pause of the whole process.
const PAUSE: Duration = Duration::from_secs(1);

/// MB (10^6 bytes) that a process has in memory: now, and at most so far.
pub(super) fn memory(pid: i32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.map(|kib| kib * 1024.0 / 1e6)
            .ok_or_else(|| Error::Other(format!("{path} has no {name}")))
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Seconds of processor time that a process has taken.
pub(super) fn processor(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    // The second field is the program's name, which may hold anything; the times are the 14th and 15th.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// Seconds of processor time that the whole machine has spent on work.
pub(super) fn machine() -> Result<f64> {
    let path = Path::new("/proc/stat");
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let fields: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice and system; then idle, waiting for disks, interrupts (two kinds) and what the host took.
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|index| fields.get(index)).sum::<f64>();
    Ok(busy / TICKS)
}

/// Notices when the whole process stood still.
#[derive(Debug)]
pub(super) struct Pauses(Arc<Mutex<Vec<Duration>>>);

impl Pauses {
    /// Looks at the clock for as long as the runtime lives.
    pub(super) fn watch() -> Self {
        let seen: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut last = Instant::now();
            while Arc::strong_count(&noted) > 1 {
                std::thread::sleep(Duration::from_millis(50));
                let gap = last.elapsed();
                last = Instant::now();
                if gap > PAUSE {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
                }
            }
        });
        Self(seen)
    }

    /// All of them together.
    pub(super) fn total(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory_and_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (now, most) = memory(own).unwrap();
        assert!(now > 1.0 && most >= now, "{now} {most}");
        let (before, all) = (processor(own).unwrap(), machine().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while processor(own).unwrap() < before + 0.05 {
            assert!(Instant::now() < end, "busy, and no time is counted");
        }
        assert!(machine().unwrap() > all);
    }
}
