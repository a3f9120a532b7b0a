//! The compatibility suite.
