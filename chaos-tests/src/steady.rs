//! The machine's steady clock, by which clients and tools, which are processes of one machine, can be compared.

use rustix::time::{ClockId, clock_gettime};

/// Returns the microseconds since the machine started. Nobody sets this clock; scenarios let wall clocks lie only.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1_000_000 + nanoseconds / 1_000
}
