//! Chaos on real processes: nodes and Runtimes that are killed, frozen, cut off or starved while agents call, and the
//! invariants checked afterwards from the outside, from what clients heard, what tools did and what the log says.
//!
//! A [`cli`] run goes through one scenario after the other: a `Topology` of real `aesp node` processes, a workload that
//! records every outcome, faults by a seed, then the evidence and the checks. `docs/chaos.md` is for those who operate it.

mod access;
mod audit_log;
mod check;
pub mod cli;
mod crowding;
mod delay;
mod effects;
mod evidence;
pub mod faulty;
mod history;
mod lines;
mod pauses;
mod progress;
mod report;
mod run;
pub mod runtime;
mod scenario;
mod steady;
mod tools;
mod topology;
mod visits;
mod workload;
