//! The gofer: the one process of a sandbox that touches host files.
//!
//! It serves the trees it was started with to its one client, the sentry, which
//! it takes for hostile: each request is checked, each path is resolved by the
//! host kernel beneath the root of its tree and through no symbolic link, and
//! nothing but directories and regular files is ever opened. Between requests
//! the server remembers nothing, so that a client cannot make it hoard anything.
//!
//! * [`run`]: the whole life of the process: jail, serve, end;
//! * [`serve`]: just the serving, for a thread of a test;
//! * [`jail`]: what the process gives up before the first request;
//! * `tree`: paths to descriptors; `handlers`: one file for each family of requests.
//!
//! The protocol and its guarantees are in `docs/gofer.md`.

#![forbid(unsafe_code)]

mod attr;
mod config;
mod connection;
mod handlers;
pub mod jail;
mod server;
mod tree;

pub use config::{GoferError, ServerConfig, TreeConfig};
pub use server::{run, serve};
