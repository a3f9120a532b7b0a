use sentry::policy::{Access, Effect};

use super::*;

fn places() -> Places {
    Places { home: Some("/h/user".into()), cwd: "/h/user/project".into() }
}

fn parse(text: &str) -> Result<Profile> {
    super::parse(&Source { name: "test.toml", text }, &places())
}

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn an_empty_profile_says_nothing() {
    let profile = parse("").unwrap();
    assert_eq!(profile.limits, LimitRules::default());
    assert_eq!(profile.network, None);
    assert!(profile.env.keeps(OsStr::new("ANYTHING")));
}

#[test]
fn built_in_profiles_are_right() {
    for (name, _) in BUILT_IN {
        load(OsStr::new(name), &places()).unwrap();
    }
}

#[test]
fn limits_take_numbers_sizes_and_seconds() {
    let text = "[limits]\nmemory = \"1G\"\npids = 10\nfiles = 100\ndisk = 4096\ncpu-time = 1.5\ntime = 2\n";
    let want = LimitRules {
        memory: Some(1 << 30),
        pids: Some(10),
        files: Some(100),
        disk: Some(4096),
        cpu_time: Some(1.5),
        time: Some(2.0),
    };
    assert_eq!(parse(text).unwrap().limits, want);
}

#[test]
fn unknown_keys_name_the_line_and_the_nearest() {
    for (text, line, want) in [
        ("\nlimit = 1", 2, "unknown key `limit`; did you mean `limits`?"),
        ("[limits]\n\nmemroy = 1", 3, "unknown key `memroy` in [limits]; did you mean `memory`?"),
        ("[env]\nxyzzy = 1", 2, "unknown key `xyzzy` in [env]; known are clear, drop, keep, set"),
        ("[mounts]\nrobind = []", 2, "did you mean `ro-bind`?"),
    ] {
        let said = error(text);
        assert!(said.starts_with(&format!("test.toml:{line}: ")), "{said}");
        assert!(said.contains(want), "{said}");
    }
}

#[test]
fn wrong_values_name_the_line_and_what_is_taken() {
    for (text, want) in [
        ("[limits]\npids = 0", "test.toml:2: limits.pids takes a whole number from 1 on"),
        ("[limits]\npids = \"many\"", "test.toml:2: limits.pids takes"),
        (
            "[limits]\nmemory = \"1M\"",
            "limits.memory takes a size, as in \"512M\" or \"2G\", 4M at",
        ),
        ("[limits]\ntime = \"soon\"", "limits.time takes a number of seconds"),
        ("[limits]\ntime = -1", "limits.time takes a number of seconds"),
        ("limits = 3", "test.toml:1: limits takes a table"),
        ("[env]\nclear = 1", "env.clear takes true or false"),
        ("[env]\nkeep = \"PATH\"", "env.keep takes a list of strings"),
        ("[env]\nkeep = [\"A[\"]", "test.toml:2: `A[`: `[` without its `]`"),
        ("[mounts]\noverlay = \"disk\"", "mounts.overlay takes one of memory, none"),
        ("[mounts]\nbind = [\"here\"]", "test.toml:2: `here`: takes a path"),
        ("[mounts]\nbind = [\"~other/x\"]", "`~` stands for the caller's home alone"),
        ("[mounts]\nbind = [\"$TMP/x\"]", "only $HOME and $CWD are known here"),
        ("network = \"host\"", "test.toml:1: `host`: there is no way out to the network yet"),
        ("network = \"lo\"", "no such network"),
        ("a = = 1", "test.toml:1: "),
    ] {
        let said = error(text);
        assert!(said.contains(want), "{said:?} for {text:?}");
    }
}

#[test]
fn variables_are_kept_dropped_and_set() {
    let env = parse("[env]\nkeep = [\"PATH\", \"LC_*\"]\ndrop = [\"LC_ALL\"]\nset = { A = \"b\" }");
    let env = env.unwrap().env;
    for (name, kept) in [("PATH", true), ("LC_TIME", true), ("LC_ALL", false), ("HOME", false)] {
        assert_eq!(env.keeps(OsStr::new(name)), kept, "{name}");
    }
    assert_eq!(env.set, [("A".into(), "b".into())]);
    let env = parse("[env]\nkeep = []").unwrap().env;
    assert!(!env.keeps(OsStr::new("PATH")), "only what is listed is kept");
    let env = parse("[env]\nclear = true").unwrap().env;
    assert!(!env.keeps(OsStr::new("PATH")));
    let env = parse("[env]\ndrop = [\"*_TOKEN\"]").unwrap().env;
    assert!(env.keeps(OsStr::new("PATH")) && !env.keeps(OsStr::new("API_TOKEN")));
}

#[test]
fn places_stand_for_paths() {
    let mounts = parse("[mounts]\nbind = [\"$CWD\", \"~/a\"]\ntmpfs = [\"$HOME/b\", \"/c\"]");
    let mounts = mounts.unwrap().mounts;
    assert_eq!(mounts.bind, ["/h/user/project", "/h/user/a"]);
    assert_eq!(mounts.tmpfs, ["/h/user/b", "/c"]);
    let homeless = Places { home: None, cwd: "/".into() };
    let source = Source { name: "x", text: "[mounts]\nbind = [\"~\"]" };
    assert!(super::parse(&source, &homeless).unwrap_err().to_string().contains("HOME"));
}

#[test]
fn a_missing_profile_names_the_nearest() {
    let said = |name: &str| load(OsStr::new(name), &places()).unwrap_err().to_string();
    assert_eq!(said("strikt"), "no profile strikt; did you mean strict?");
    assert!(said("zzz").contains("there are default, strict"));
    assert!(said("./missing.toml").contains("./missing.toml"));
}

#[test]
fn rules_for_files_have_a_verb_perhaps_accesses_and_a_path() {
    let text = "[files]\nrules = [\n\"hide ~/.ssh\", \"deny  read,list   /a b\",\n\"read-only $CWD\", \"allow **/x\"]";
    let files = parse(text).unwrap().files;
    let seen = files.iter().map(|rule| (rule.effect, rule.access, rule.pattern.as_slice()));
    let want: [(_, _, &[u8]); 4] = [
        (Effect::Hide, Access::NAMED, b"/h/user/.ssh"),
        (Effect::Deny, Access::READ | Access::LIST, b"/a b"),
        (Effect::Deny, Access::CHANGES, b"/h/user/project"),
        (Effect::Allow, Access::NAMED, b"**/x"),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), want);
    assert_eq!(files[0].shown, "test.toml:3: hide ~/.ssh");
    assert_eq!(files[2].shown, "test.toml:4: read-only $CWD");
    let odd = Places { home: Some("/h/[x]*".into()), cwd: "/".into() };
    let source = Source { name: "x", text: "[files]\nrules = [\"deny ~/*\"]" };
    assert_eq!(super::parse(&source, &odd).unwrap().files[0].pattern, b"/h/\\[x]\\*/*");
}

#[test]
fn wrong_rules_for_files_say_what_is_wrong() {
    for (rule, want) in [
        ("hid ~/.ssh", "test.toml:2: `hid ~/.ssh`: did you mean hide?"),
        ("forbid /x", "a rule begins with allow, deny, hide, read-only"),
        ("deny raed /x", "no access raed; did you mean read?"),
        ("deny find /x", "no access find; there are read, write"),
        ("deny", "a rule ends with a path"),
        ("deny x", "takes a path that begins with /, ~, $HOME or $CWD"),
        ("hide read /x", "takes a path that begins"),
        ("deny /a/../b", "are followed"),
        ("deny /a[", "`[` without its `]`"),
        ("deny ~other/x", "the caller's home alone"),
    ] {
        let said = error(&format!("[files]\nrules = [\"{rule}\"]"));
        assert!(said.contains(want), "{said:?} for {rule:?}");
    }
}
