//! The lists of cases which are known to fail on a platform, in
//! `tests/expectations/<platform>.toml` and `<platform>-e2e.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libtest_mimic::{Completion, Failed};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    expected_failure: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    case: String,
    reason: String,
}

/// Expected failures: the case's name and the reason.
pub type Expectations = BTreeMap<String, String>;

/// Reads one list, and checks that each row names a case of `known`, once,
/// with a reason.
///
/// # Errors
/// A sentence that names the file and the row.
pub fn load(path: &Path, known: &[&str]) -> Result<Expectations, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, known).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str, known: &[&str]) -> Result<Expectations, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut expectations = Expectations::new();
    for Row { case, reason } in file.expected_failure {
        if !known.contains(&case.as_str()) {
            return Err(format!("there is no case {case}"));
        }
        if reason.trim().is_empty() {
            return Err(format!("{case} has no reason"));
        }
        if expectations.insert(case.clone(), reason).is_some() {
            return Err(format!("{case} is listed twice"));
        }
    }
    Ok(expectations)
}

/// What a test reports: `result` as it is, unless a failure was expected.
///
/// # Errors
/// On a failure that was not expected, and on a success that was not.
pub fn judge(result: Result<(), String>, expected: Option<&str>) -> Result<Completion, Failed> {
    match (result, expected) {
        (Ok(()), None) => Ok(Completion::Completed),
        (Ok(()), Some(_)) => Err("passes, but is listed as an expected failure".into()),
        (Err(why), None) => Err(why.into()),
        (Err(_), Some(reason)) => {
            Ok(Completion::ignored_with(format!("expected failure: {reason}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_row_must_name_a_known_case_once_with_a_reason() {
        let row = "[[expected_failure]]\ncase = \"a::b\"\nreason = \"why\"\n";
        assert_eq!(parse(row, &["a::b"]).unwrap().get("a::b").unwrap(), "why");
        assert!(parse(row, &["a::c"]).is_err());
        assert!(parse(&row.repeat(2), &["a::b"]).is_err());
        assert!(parse(&row.replace("why", " "), &["a::b"]).is_err());
        assert!(parse("expected_failure = []", &[]).unwrap().is_empty());
    }
}
