//! Patterns for paths: globs for single names, `**` for any number of directories.
//!
//! A pattern stands for what it matches and for all that lies below. It is matched name by name, from the root
//! on, and remembers in a word how far it has come: so a directory's progress says all that the pattern can still do
//! below it.

use super::{BadGlob, Glob};

/// Why a text is no pattern for paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error(transparent)]
    Glob(#[from] BadGlob),
    #[error("a rule's path is absolute, or begins with **/")]
    Relative,
    #[error("`.` and `..` match nothing: rules are for paths as they are after links are followed")]
    Dots,
    #[error("more than 60 names")]
    Long,
    #[error("a NUL")]
    Nul,
}

/// A pattern for a path and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Name(Vec<u8>),
    Glob(Glob),
    /// `**`: any number of directories, or none.
    Any,
}

/// Bit N: part N is to be matched next. The bit behind the last part: the pattern has matched.
pub(super) type Reached = u64;

/// Parts, so that their bits and one more fit.
const PARTS_MAX: usize = 60;

impl PathPattern {
    /// # Errors
    /// When it is not absolute, has a bad glob, a dot name, or too many names.
    pub fn new(text: &[u8]) -> Result<Self, BadPattern> {
        if !text.starts_with(b"/") && !text.starts_with(b"**/") {
            return Err(BadPattern::Relative);
        }
        if text.contains(&0) {
            return Err(BadPattern::Nul);
        }
        let mut parts = Vec::new();
        for name in text.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match name {
                b"." | b".." => return Err(BadPattern::Dots),
                b"**" if parts.last() == Some(&Part::Any) => {}
                b"**" => parts.push(Part::Any),
                name => parts.push(part(Glob::new(name)?)),
            }
        }
        // What lies below is matched anyway: `/a/**` is whatever has a name in `/a`.
        if let Some(last) = parts.last_mut()
            && *last == Part::Any
        {
            *last = Part::Glob(Glob::new(b"*")?);
        }
        Self::of(parts)
    }

    fn of(parts: Vec<Part>) -> Result<Self, BadPattern> {
        if parts.len() > PARTS_MAX { Err(BadPattern::Long) } else { Ok(Self(parts)) }
    }

    /// The names it begins with, up to the first that is a pattern.
    pub(super) fn plain_start(&self) -> Vec<&[u8]> {
        fn name(part: &Part) -> Option<&[u8]> {
            match part {
                Part::Name(name) => Some(name.as_slice()),
                _ => None,
            }
        }
        self.0.iter().map_while(name).collect()
    }

    /// The same with other names in place of the first `count`. `None`: too many.
    pub(super) fn with_start(&self, names: &[Vec<u8>], count: usize) -> Option<Self> {
        let start = names.iter().cloned().map(Part::Name);
        Self::of(start.chain(self.0.iter().skip(count).cloned()).collect()).ok()
    }

    fn matched(&self) -> Reached {
        1 << self.0.len()
    }

    /// `**` may stand for nothing.
    fn close(&self, mut reached: Reached) -> Reached {
        for (at, part) in self.0.iter().enumerate() {
            if *part == Part::Any && reached & 1 << at != 0 {
                reached |= 1 << (at + 1);
            }
        }
        reached
    }

    /// At the root.
    pub(super) fn start(&self) -> Reached {
        self.close(1)
    }

    /// One name further down.
    pub(super) fn step(&self, before: Reached, name: &[u8]) -> Reached {
        if before == 0 {
            return 0;
        }
        // What lies below what it matched it matches too.
        let mut after = before & self.matched();
        for (at, part) in self.0.iter().enumerate().filter(|(at, _)| before & 1 << at != 0) {
            match part {
                Part::Any => after |= 1 << at,
                Part::Name(own) if own == name => after |= 1 << (at + 1),
                Part::Glob(glob) if glob.matches(name) => after |= 1 << (at + 1),
                _ => {}
            }
        }
        self.close(after)
    }

    /// What of it says that the pattern has matched.
    pub(super) fn matched_part(&self, reached: Reached) -> Reached {
        reached & self.matched()
    }

    pub(super) fn has_matched(&self, reached: Reached) -> bool {
        reached & self.matched() != 0
    }

    /// Is a directory one of those that the pattern names on its way? What only `**` may lead to is not.
    pub(super) fn leads_on(&self, reached: Reached) -> bool {
        let any = self.0.iter().position(|part| *part == Part::Any);
        let until = match any {
            Some(0) => return false,
            Some(at) => at + 1,
            None => self.0.len(),
        };
        !self.has_matched(reached) && reached & ((1 << until) - 1) != 0
    }
}

fn part(glob: Glob) -> Part {
    match glob.literal() {
        Some(name) => Part::Name(name),
        None => Part::Glob(glob),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(pattern: &PathPattern, path: &str) -> Reached {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(pattern.start(), |reached, name| pattern.step(reached, name.as_bytes()))
    }

    fn matches(pattern: &str, path: &str) -> bool {
        let pattern = PathPattern::new(pattern.as_bytes()).unwrap();
        pattern.has_matched(reached(&pattern, path))
    }

    #[test]
    fn a_pattern_stands_for_all_below_it() {
        for (pattern, path, want) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/c/d", true),
            ("/a/b", "/a", false),
            ("/a/b", "/a/bc", false),
            ("/a/b/", "/a/b", true),
            ("/", "/", true),
            ("/", "/a/b", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/a/**", "/a/b", true),
            ("/a/*.pem", "/a/b/x.pem", false),
            ("/**", "/", false),
            ("/**", "/a", true),
        ] {
            assert_eq!(matches(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn two_stars_are_any_number_of_directories() {
        for (pattern, path, want) in [
            ("/**/x", "/x", true),
            ("**/x", "/a/b/x", true),
            ("**/x", "/a/b/x/y", true),
            ("**/x", "/a/b/xy", false),
            ("/a/**/b/*.c", "/a/b/f.c", true),
            ("/a/**/b/*.c", "/a/b/b/q/b/f.c", true),
            ("/a/**/b/*.c", "/a/c/f.c", false),
            ("/a/**/**/b", "/a/b", true),
        ] {
            assert_eq!(matches(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn directories_on_the_way_are_known() {
        for (pattern, path, want) in [
            ("/a/b/c", "/", true),
            ("/a/b/c", "/a/b", true),
            ("/a/b/c", "/a/b/c", false),
            ("/a/b/c", "/a/x", false),
            ("/a/*/c", "/a/x", true),
            ("/a/**/c", "/a", true),
            ("**/c", "/a", false),
        ] {
            let pattern = PathPattern::new(pattern.as_bytes()).unwrap();
            let got = pattern.leads_on(reached(&pattern, path));
            assert_eq!(got, want, "{pattern:?} {path}");
        }
    }

    #[test]
    fn bad_patterns_say_why() {
        let bad = |text: &[u8]| PathPattern::new(text).unwrap_err();
        assert_eq!(bad(b"a/b"), BadPattern::Relative);
        assert_eq!(bad(b"*.pem"), BadPattern::Relative);
        assert_eq!(bad(b""), BadPattern::Relative);
        assert_eq!(bad(b"/a/../b"), BadPattern::Dots);
        assert_eq!(bad(b"/a/[b"), BadPattern::Glob(BadGlob::OpenBracket));
        assert_eq!(bad(b"/a\0b"), BadPattern::Nul);
        assert_eq!(bad("/a".repeat(61).as_bytes()), BadPattern::Long);
        assert!(PathPattern::new("/a".repeat(60).as_bytes()).is_ok());
    }

    #[test]
    fn the_plain_start_can_be_another() {
        let pattern = PathPattern::new(b"/a/b/*/c").unwrap();
        assert_eq!(pattern.plain_start(), [b"a", b"b"]);
        let moved = pattern.with_start(&[b"z".to_vec()], 2).unwrap();
        assert_eq!(moved, PathPattern::new(b"/z/*/c").unwrap());
    }
}
