//! The file systems, each an implementation of the traits in `vfs`.

pub mod anon;
pub mod dev;
pub mod devpts;
pub mod epoll;
pub mod eventfd;
pub mod gofer;
pub mod host_file;
pub mod inotify;
pub mod memfd;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod signalfd;
pub mod sys;
pub mod timerfd;
pub mod tmpfs;
