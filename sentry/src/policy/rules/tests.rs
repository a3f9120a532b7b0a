use super::*;

/// From `EFFECT PATTERN` or `EFFECT ACCESS,… PATTERN`.
fn rules(texts: &[&str]) -> FileRules {
    let spec = |text: &&str| {
        let words: Vec<_> = text.split(' ').collect();
        let access = match words.len() {
            2 => Access::NAMED,
            _ => words[1].split(',').map(|word| Access::from_word(word).unwrap()).collect(),
        };
        let effect = match words[0] {
            "allow" => Effect::Allow,
            "hide" => Effect::Hide,
            _ => Effect::Deny,
        };
        let pattern = words.last().unwrap().as_bytes().to_vec();
        RuleSpec { shown: (*text).to_owned(), pattern, effect, access }
    };
    FileRules::new(&texts.iter().map(spec).collect::<Vec<_>>()).unwrap()
}

fn at(rules: &FileRules, path: &str) -> Progress {
    let mut progress = rules.start();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        rules.step(&mut progress, name.as_bytes());
    }
    progress
}

fn denied(rules: &FileRules, path: &str) -> Access {
    rules.verdict(&at(rules, path)).refused(Access::all(), false)
}

#[test]
fn what_no_rule_names_is_allowed() {
    assert_eq!(denied(&rules(&[]), "/a"), Access::empty());
    let rules = rules(&["deny write /a"]);
    assert_eq!(denied(&rules, "/b"), Access::empty());
    assert_eq!(denied(&rules, "/a"), Access::WRITE);
    assert_eq!(rules.decided_by(&at(&rules, "/a"), Access::READ), None);
}

#[test]
fn the_last_rule_that_matches_decides() {
    let rules = rules(&["deny /h", "allow /h/p", "deny /h/p/.env", "allow read /h/p/.env/shown"]);
    assert_eq!(denied(&rules, "/h/x"), Access::NAMED);
    assert_eq!(denied(&rules, "/h/p/x"), Access::empty());
    assert_eq!(denied(&rules, "/h/p/.env"), Access::NAMED);
    assert_eq!(denied(&rules, "/h/p/.env/shown"), Access::NAMED - Access::READ);
    assert_eq!(rules.decided_by(&at(&rules, "/h/p/.env"), Access::READ), Some(2));
    assert_eq!(rules.decided_by(&at(&rules, "/h/p/x"), Access::READ), Some(1));
    assert_eq!(rules.shown(2), "deny /h/p/.env");
}

#[test]
fn each_access_is_decided_by_itself() {
    let rules = rules(&["deny write,create,delete /", "allow write /tmp", "deny exec /tmp"]);
    assert_eq!(denied(&rules, "/etc/x"), Access::CHANGES);
    assert_eq!(denied(&rules, "/tmp/x"), Access::CREATE | Access::DELETE | Access::EXEC);
}

#[test]
fn hidden_names_are_seen_again_where_something_is_allowed() {
    let rules = rules(&["hide /h", "deny write /h/d", "allow read /h/shown"]);
    assert!(rules.hides());
    let verdict = |path| rules.verdict(&at(&rules, path));
    assert!(verdict("/h/x").is_hidden(false));
    assert!(verdict("/h/d").is_hidden(true), "a denial does not bring to light");
    assert!(!verdict("/h/shown").is_hidden(false));
    assert_eq!(denied(&rules, "/h/shown"), Access::NAMED - Access::READ);
}

#[test]
fn directories_on_the_way_to_what_is_allowed_can_be_seen() {
    let hide = rules(&["hide /h", "allow /h/c/git"]);
    let verdict = hide.verdict(&at(&hide, "/h/c"));
    assert!(!verdict.is_hidden(true) && verdict.is_hidden(false));
    let kept = Access::STAT | Access::LIST | Access::FIND;
    assert_eq!(verdict.refused(Access::all(), true), Access::all() - kept);
    assert!(hide.verdict(&at(&hide, "/h/x")).is_hidden(true));
    let deny = rules(&["deny /h", "allow /h/c/git"]);
    let verdict = deny.verdict(&at(&deny, "/h/c"));
    assert_eq!(verdict.refused(Access::NAMED, true), Access::NAMED - Access::STAT);
    let undone = rules(&["allow /h/c/git", "hide /h"]);
    assert!(undone.verdict(&at(&undone, "/h/c")).is_hidden(true));
}

#[test]
fn verdicts_survive_as_numbers() {
    let rules = rules(&["hide /h", "deny exec /h/c", "allow /h/c/git"]);
    for path in ["/", "/h", "/h/c", "/h/c/git"] {
        let verdict = rules.verdict(&at(&rules, path));
        assert_eq!(Verdict::from_bits(verdict.to_bits()), verdict);
    }
}

#[test]
fn rules_hold_where_their_links_lead() {
    let mut rules = rules(&["deny /link/*/key"]);
    rules.follow_links(|names| {
        (names == [b"link"]).then(|| vec![b"real".to_vec(), b"place".to_vec()])
    });
    assert_eq!(denied(&rules, "/real/place/x/key"), Access::NAMED);
    assert_eq!(denied(&rules, "/link/x/key"), Access::NAMED);
    assert_eq!(denied(&rules, "/real/place/x"), Access::empty());
    assert_eq!(rules.shown(0), "deny /link/*/key");
}

#[test]
fn what_is_moved_must_not_get_away_from_a_rule() {
    let rules = rules(&["deny /h/s/key", "deny **/.env", "deny /ro", "allow /ro/open/sub"]);
    let escaped = |from, to| rules.escaped(&at(&rules, from), &at(&rules, to), true);
    assert_eq!(escaped("/h/s", "/h/t"), Some(0), "a key may lie below");
    assert_eq!(escaped("/h", "/g"), Some(0));
    assert_eq!(escaped("/h/x", "/g"), None);
    assert_eq!(escaped("/a/b", "/c"), None, "the rule for .env holds everywhere");
    assert_eq!(escaped("/a/.env", "/a/env"), Some(1));
    assert_eq!(escaped("/ro/x", "/ro/y"), None);
    assert_eq!(escaped("/ro/x", "/ro/open"), Some(3), "x/sub would be allowed");
    assert_eq!(escaped("/a", "/h/s"), Some(0), "a key that lies below must not be made there");
    assert_eq!(escaped("/a", "/ro/x"), None, "what goes to where more is denied does not get away");
    assert_eq!(escaped("/a", "/ro/open/sub"), Some(3), "an .env below would be allowed");
    let file = |from, to| rules.escaped(&at(&rules, from), &at(&rules, to), false);
    assert_eq!(file("/a", "/ro/open/sub"), None);
    assert_eq!(file("/h/s", "/h/t"), None);
    assert_eq!(file("/h/s/key", "/h/t"), Some(0));
}
