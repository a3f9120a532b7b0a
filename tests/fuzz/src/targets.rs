//! One module a target; what each checks is said there.

pub mod elf_loader;
pub mod gofer_reply;
pub mod gofer_request;
pub mod gofer_server;
pub mod path_walk;
pub mod seccomp_filter;
pub mod stub_context;
