//! The host calls that crates without `unsafe` need, behind safe faces.

mod clock;
mod parker;

pub use clock::{clock_monotonic_ns, clock_realtime_ns};
pub use parker::Parker;
