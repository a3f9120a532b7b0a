//! Sockets: AF_UNIX and loopback TCP and UDP.
