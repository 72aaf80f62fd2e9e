//! What Linux tells of a process.

use std::fs;

use anyhow::Context;

/// Microseconds of processor time in a tick of `/proc`, which is 1/100 s on every Linux that this runs on.
const TICK_US: u64 = 10_000;

/// Returns the processor time that a process has used, in microseconds.
///
/// # Errors
/// When there is no such process.
///
/// Source: proc_pid_stat(5), fields 14 and 15.
pub fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("/proc has another form here")?.1;
    let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (times.next().context("no user time")??, times.next().context("no system time")??);
    Ok((user + system) * TICK_US)
}

/// Returns the memory that a process has for itself, in bytes: what it mapped of files, the store's above all, is the
/// system's cache and not counted.
///
/// # Errors
/// When there is no such process.
///
/// Source: proc_pid_status(5), `RssAnon`.
pub fn private_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}
