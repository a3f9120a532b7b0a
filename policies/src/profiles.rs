//! The profiles that `lazaret run --profile NAME` knows without a file.

/// Name and text of each.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("default", include_str!("../profiles/default.toml")),
    ("strict", include_str!("../profiles/strict.toml")),
    ("build", include_str!("../profiles/build.toml")),
    ("network-client", include_str!("../profiles/network-client.toml")),
];
