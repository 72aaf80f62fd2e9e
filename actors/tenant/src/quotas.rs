use aesp_proto::v1;
use serde::{Deserialize, Serialize};

/// How much a tenant may use at once, over the whole cluster. Never 0: that was replaced by the platform's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Sessions that have not ended.
    pub sessions: u32,
    /// Calls that run.
    pub calls_in_flight: u32,
    /// Calls started within a second; as many may start at one moment after a second without any.
    pub calls_per_second: u32,
    /// Connected Runtimes.
    pub runtimes: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { sessions: 100_000, calls_in_flight: 10_000, calls_per_second: 100_000, runtimes: 1_000 }
    }
}

impl From<v1::Quotas> for Quotas {
    /// Reads quotas as they come over the wire, where 0 means the platform's default.
    fn from(wire: v1::Quotas) -> Self {
        let default = Self::default();
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        Self {
            sessions: or(wire.sessions, default.sessions),
            calls_in_flight: or(wire.calls_in_flight, default.calls_in_flight),
            calls_per_second: or(wire.calls_per_second, default.calls_per_second),
            runtimes: or(wire.runtimes, default.runtimes),
        }
    }
}

impl From<Quotas> for v1::Quotas {
    fn from(quotas: Quotas) -> Self {
        Self {
            sessions: quotas.sessions,
            calls_in_flight: quotas.calls_in_flight,
            calls_per_second: quotas.calls_per_second,
            runtimes: quotas.runtimes,
        }
    }
}
