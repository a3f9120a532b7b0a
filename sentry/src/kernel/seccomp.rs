//! seccomp(2): filters of a guest's own.

/// Filters of a task, newest first.
#[derive(Debug)]
pub struct FilterChain {}
