//! What the kernel says this process used.

use std::error::Error;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process, ended ones included, in seconds.
pub(crate) fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    now.as_secs_f64()
}

/// The most memory this process ever held, in KiB.
pub(crate) fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("/proc/self/status has no VmHWM")?.parse()?)
}
