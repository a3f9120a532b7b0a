//! The rules for files of a profile (`[files]`).

use anyhow::Result;
use sentry::policy::{Access, Effect, PathPattern, RuleSpec};

use super::{
    Places,
    reader::{Section, Text, nearest},
};

/// The first word of a rule: what it says, of which kinds of access if none are named.
const VERBS: [(&str, Effect, Access); 4] = [
    ("allow", Effect::Allow, Access::NAMED),
    ("deny", Effect::Deny, Access::NAMED),
    ("hide", Effect::Hide, Access::NAMED),
    ("read-only", Effect::Deny, Access::CHANGES),
];

pub(super) fn rules(top: &Section<'_>, places: &Places) -> Result<Vec<RuleSpec>> {
    let Some(section) = top.section("files", "files", &["rules"])? else { return Ok(Vec::new()) };
    section.texts("rules")?.iter().map(|text| rule(text, places)).collect()
}

/// `VERB [ACCESS,…] PATH`. The path may have spaces in it.
fn rule(text: &Text<'_>, places: &Places) -> Result<RuleSpec> {
    let (verb, rest) = first_word(text.text);
    let Some((_, effect, whole)) = VERBS.iter().find(|(known, ..)| *known == verb) else {
        let known = VERBS.map(|(known, ..)| known);
        let hint = match nearest(verb, &known) {
            Some(other) => format!("did you mean {other}?"),
            None => format!("a rule begins with {}", known.join(", ")),
        };
        return Err(text.error(hint));
    };
    let (word, path) = first_word(rest);
    let names_some = matches!(verb, "allow" | "deny") && !path.is_empty() && !is_path(word);
    let (access, path) = if names_some { (accesses(text, word)?, path) } else { (*whole, rest) };
    if path.is_empty() {
        return Err(text.error("a rule ends with a path"));
    }
    let pattern = match path.starts_with("**/") {
        true => path.as_bytes().to_vec(),
        false => places.pattern(text, path)?,
    };
    PathPattern::new(&pattern).map_err(|error| text.error(error))?;
    Ok(RuleSpec { shown: text.shown(), pattern, effect: *effect, access })
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

fn is_path(word: &str) -> bool {
    word.starts_with(['/', '~', '$', '*'])
}

fn accesses(text: &Text<'_>, words: &str) -> Result<Access> {
    let access = |word| {
        Access::from_word(word).ok_or_else(|| {
            let known: Vec<_> = Access::words().collect();
            let hint = nearest(word, &known).map(|other| format!("; did you mean {other}?"));
            let hint = hint.unwrap_or_else(|| format!("; there are {}", known.join(", ")));
            text.error(format_args!("no access {word}{hint}"))
        })
    };
    words.split(',').map(access).collect()
}
