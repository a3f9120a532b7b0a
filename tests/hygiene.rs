//! Checks on the source itself: layering, unsafe code, file sizes, stray paths.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what cannot be checked has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file under version control with its text, if it is text; all files of the checkout where there is no git.
fn sources() -> Vec<(PathBuf, String)> {
    let names = match Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output() {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "git ls-files: {error}");
            let names = String::from_utf8(output.stdout).unwrap();
            names.split_terminator('\0').map(PathBuf::from).collect()
        }
        Err(_) => {
            let mut names = Vec::new();
            list(Path::new(""), &mut names);
            names
        }
    };
    let text = |name: PathBuf| Some((name.clone(), fs::read_to_string(root().join(name)).ok()?));
    names.into_iter().filter_map(text).collect()
}

/// The files below `directory`, but for what a build makes.
fn list(directory: &Path, names: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(directory)).unwrap().flatten() {
        let path = directory.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true if [Path::new("target"), Path::new(".git")].contains(&path.as_path()) => {}
            true => list(&path, names),
            false => names.push(path),
        }
    }
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().is_some_and(|extension| wanted.iter().any(|wanted| extension == *wanted))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` is an ordinary dependency; `dev` and `build` do not end up in the binary.
    kind: Option<String>,
}

/// What each crate of the workspace depends on, inside the workspace.
fn layers() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.clone()).collect();
    let inside = |package: Package| {
        let ordinary = package.dependencies.into_iter().filter(|d| d.kind.is_none());
        ordinary.map(|d| d.name).filter(|name| names.contains(name)).collect()
    };
    metadata.packages.into_iter().map(|p| (p.name.clone(), inside(p))).collect()
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "cli",
            &["gofer", "gofer-wire", "linux-abi", "platform", "policies", "ranked-sync", "sentry"]
                [..],
        ),
        ("sentry", &["gofer-wire", "linux-abi", "platform", "ranked-sync"]),
        ("gofer", &["gofer-wire", "linux-abi", "platform", "policies", "ranked-sync"]),
        ("gofer-wire", &["linux-abi", "ranked-sync"]),
        ("platform", &["linux-abi", "policies", "ranked-sync"]),
        ("policies", &[]),
        ("linux-abi", &[]),
        ("ranked-sync", &[]),
        ("tests", &[]),
        ("fuzz", &["gofer", "gofer-wire", "linux-abi", "platform", "ranked-sync", "sentry"]),
    ]);
    for (name, dependencies) in layers() {
        let Some(allowed) = allowed.get(name.as_str()) else {
            panic!("say in this test what the crate {name} may depend on");
        };
        for dependency in dependencies {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn only_the_platform_may_hold_unsafe_code() {
    let sources = sources();
    for root in [
        "cli/src/lib.rs",
        "cli/src/main.rs",
        "gofer/src/lib.rs",
        "gofer/wire/src/lib.rs",
        "platform/abi/src/lib.rs",
        "platform/sync/src/lib.rs",
        "policies/src/lib.rs",
        "sentry/src/lib.rs",
        "tests/fuzz/src/lib.rs",
        "tests/harness/lib.rs",
    ] {
        let (_, text) = sources.iter().find(|(path, _)| path == Path::new(root)).expect(root);
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root} must forbid unsafe code");
    }
}

#[test]
fn files_are_at_most_1000_lines_long() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| has_extension(path, &["rs", "c", "h", "S", "md", "toml"]))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 1000)
        .collect();
    assert!(long.is_empty(), "split these: {long:?}");
}

#[test]
fn no_paths_of_one_machine() {
    // Put together here so that this file does not hold them.
    let wanted: Vec<String> = ["home/", "work/", "Users/", "root/"].map(|p| format!("/{p}")).into();
    let begins = |text: &str, at: usize| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|c| c.is_whitespace() || "\"'`(=:".contains(c))
    };
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for prefix in &wanted {
                if line.match_indices(prefix.as_str()).any(|(at, _)| begins(line, at)) {
                    found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| has_extension(path, &["rs"]) && !path.ends_with("tests.rs"))
        .filter(|(_, text)| !text.trim_start().starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "begin these with a //! comment: {silent:?}");
}

/// An overflow in sentry or gofer is to end the sandbox, not to go on with a wrong number.
#[test]
fn arithmetic_is_checked_in_release_builds() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let profiles = manifest["profile"].as_table().unwrap();
    assert_eq!(profiles["release"]["overflow-checks"].as_bool(), Some(true));
    for (name, profile) in profiles.iter().filter(|(name, _)| *name != "release") {
        assert!(profile.get("overflow-checks").is_none(), "{name} says otherwise");
        assert!(profile.get("package").is_none(), "{name} treats a crate apart");
    }
    let one = std::hint::black_box(1_u8);
    let overflow = std::panic::catch_unwind(|| one + std::hint::black_box(255));
    assert!(overflow.is_err(), "not in this build");
}

/// Attacks on places where nothing is would all be refused.
#[test]
fn attacks_know_where_stub_processes_have_what() {
    let number = |text: &str| {
        let digits = text.trim().trim_end_matches("UL").strip_prefix("0x")?.replace('_', "");
        u64::from_str_radix(&digits, 16).ok()
    };
    let layout = fs::read_to_string(root().join("platform/src/stub/layout.rs")).unwrap();
    let places: BTreeMap<&str, u64> = layout
        .lines()
        .filter_map(|line| {
            line.strip_prefix("pub(crate) const ")?.strip_suffix(';')?.split_once(": u64 = ")
        })
        .filter_map(|(name, value)| Some((name, number(value)?)))
        .collect();
    let header = fs::read_to_string(root().join("tests/attack/attack.h")).unwrap();
    let attacked: BTreeMap<&str, u64> = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter_map(|(name, value)| Some((name, number(value)?)))
        .collect();
    assert!(attacked.contains_key("TEXT") && attacked.contains_key("HOST_VDSO"));
    for (name, place) in attacked {
        assert_eq!(places.get(name), Some(&place), "{name}");
    }
}
