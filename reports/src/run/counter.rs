//! Names of [`crate::run::Run::counters`] that readers count on.
//!
//! It owns the names; other counters may stand beside them. It refuses nothing.

/// Seconds over which the four counters below grew: the run, and what surrounds it. Without it they are taken as those of the run alone.
pub const OBSERVED_S: &str = "observed_s";
/// Seconds that the host took from all processors during the run.
pub const STEAL_S: &str = "steal_s";
/// Seconds of processor time that programs outside the laboratory used during the run.
pub const FOREIGN_CPU_S: &str = "foreign_cpu_s";
/// Seconds in which all tasks waited for memory at once (`full` of `/proc/pressure/memory`).
pub const MEMORY_STALL_S: &str = "memory_stall_s";
/// Times that processors were slowed down because of heat.
pub const THERMAL_THROTTLES: &str = "thermal_throttles";
/// System calls of the relay.
pub const SYSCALLS: &str = "syscalls";
/// Instructions of the relay in user mode.
pub const INSTRUCTIONS: &str = "instructions";
/// Allocations of the relay.
pub const ALLOCATIONS: &str = "allocations";
/// Context switches of the relay.
pub const CONTEXT_SWITCHES: &str = "context_switches";
/// Processors' worth of time that the relay's control group allowed.
pub const CGROUP_CPUS: &str = "cgroup_cpus";
/// Bytes of memory that the relay's control group allowed.
pub const CGROUP_MEMORY_BYTES: &str = "cgroup_memory_bytes";
/// The most bytes of memory that the relay's control group had by the end of the run, page cache included.
pub const CGROUP_MEMORY_PEAK_BYTES: &str = "cgroup_memory_peak_bytes";
/// Times that the relay's control group was at its memory limit during the run.
pub const CGROUP_MEMORY_LIMIT_HITS: &str = "cgroup_memory_limit_hits";
/// Seconds that threads of the relay stood still during the run because the group's share of time was used up.
pub const CGROUP_THROTTLED_S: &str = "cgroup_throttled_s";
