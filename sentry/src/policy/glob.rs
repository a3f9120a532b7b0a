//! Patterns for one name, as in glob(7): `*`, `?`, `[a-z]`, `[!a-z]`; a backslash takes the next character as it is.
//!
//! A leading dot is a character like any other, and `*` matches the empty string.

use smallvec::SmallVec;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    #[error("`[` without its `]`")]
    OpenBracket,
    #[error("a range that ends before it begins")]
    BadRange,
    #[error("a backslash at the end")]
    Backslash,
}

/// A pattern for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(u32),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`
    Set {
        negated: bool,
        ranges: SmallVec<[(u32, u32); 2]>,
    },
}

/// A byte that begins no character counts as one of its own, beyond all others.
const STRAY: u32 = 0x11_0000;

/// The first character of `bytes`, and how many bytes it takes.
fn first_char(bytes: &[u8]) -> Option<(u32, usize)> {
    let &lead = bytes.first()?;
    if lead < 0x80 {
        return Some((lead.into(), 1));
    }
    let len = match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let decoded = bytes.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.chars().next()) {
        Some(c) => Some((c.into(), len)),
        None => Some((STRAY + u32::from(lead), 1)),
    }
}

impl Glob {
    /// # Errors
    /// When a bracket is not closed, a range is empty, or nothing follows a backslash.
    pub fn new(text: &[u8]) -> Result<Self, BadGlob> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((c, len)) = first_char(rest) {
            rest = rest.get(len..).unwrap_or_default();
            tokens.push(match u8::try_from(c) {
                Ok(b'?') => Token::One,
                Ok(b'*') if tokens.last() == Some(&Token::Many) => continue,
                Ok(b'*') => Token::Many,
                Ok(b'[') => set(&mut rest)?,
                Ok(b'\\') => Token::Char(take(&mut rest).ok_or(BadGlob::Backslash)?),
                _ => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// The one name that it matches, when there is only one.
    pub fn literal(&self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        for token in &self.0 {
            match token {
                Token::Char(c) => match char::from_u32(*c) {
                    Some(c) => name.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => name.push((c - STRAY) as u8),
                },
                _ => return None,
            }
        }
        Some(name)
    }

    /// Does it match the whole of `name`? Takes time in the product of both lengths, at most.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut at, mut rest) = (0, name);
        // Behind the last `*`, and what of the name it has not taken yet.
        let mut retry: Option<(usize, &[u8])> = None;
        loop {
            let token = self.0.get(at);
            if token == Some(&Token::Many) {
                at += 1;
                retry = Some((at, rest));
                continue;
            }
            let here = first_char(rest);
            match (token, here) {
                (None, None) => return true,
                (Some(token), Some((c, len))) if token.takes(c) => {
                    at += 1;
                    rest = rest.get(len..).unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let Some((behind, from)) = retry else { return false };
            let Some((_, len)) = first_char(from) else { return false };
            let shorter = from.get(len..).unwrap_or_default();
            retry = Some((behind, shorter));
            (at, rest) = (behind, shorter);
        }
    }
}

impl Token {
    fn takes(&self, c: u32) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => true,
            Self::Many => false,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *negated
            }
        }
    }
}

fn take(rest: &mut &[u8]) -> Option<u32> {
    let (c, len) = first_char(rest)?;
    *rest = rest.get(len..).unwrap_or_default();
    Some(c)
}

/// What follows a `[`.
fn set(rest: &mut &[u8]) -> Result<Token, BadGlob> {
    const CLOSE: u32 = b']' as u32;
    const DASH: &[u8] = b"-";
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        take(rest);
    }
    let mut ranges = SmallVec::new();
    loop {
        let low = match take(rest).ok_or(BadGlob::OpenBracket)? {
            // As the first it stands for itself.
            CLOSE if !ranges.is_empty() => return Ok(Token::Set { negated, ranges }),
            c if c == u32::from(b'\\') => take(rest).ok_or(BadGlob::OpenBracket)?,
            c => c,
        };
        let is_range = rest.starts_with(DASH) && !matches!(rest.get(1), None | Some(b']'));
        let high = if is_range {
            take(rest);
            match take(rest).ok_or(BadGlob::OpenBracket)? {
                c if c == u32::from(b'\\') => take(rest).ok_or(BadGlob::OpenBracket)?,
                c => c,
            }
        } else {
            low
        };
        if low > high {
            return Err(BadGlob::BadRange);
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new(pattern.as_bytes()).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn stars_match_any_number_of_characters() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("*", ".hidden", true),
            ("*.pem", "key.pem", true),
            ("*.pem", ".pem", true),
            ("*.pem", "key.pem.txt", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "x", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn question_marks_match_one_character_of_any_length() {
        assert!(matches("?", "ä"));
        assert!(matches("a?c", "a€c"));
        assert!(!matches("?", ""));
        assert!(!matches("?", "ab"));
        assert!(Glob::new(b"?").unwrap().matches(b"\xff"));
        assert!(!Glob::new(b"?").unwrap().matches(b"\xff\xfe"));
    }

    #[test]
    fn brackets_match_one_of_a_set() {
        for (pattern, name, want) in [
            ("[abc]", "b", true),
            ("[abc]", "d", false),
            ("[!abc]", "d", true),
            ("[^abc]", "a", false),
            ("[a-cx-z]", "y", true),
            ("[a-c]", "-", false),
            ("[a-]", "-", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[ä-ü]", "ö", true),
            ("id_[a-z]*", "id_rsa", true),
            ("[[]", "[", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn a_backslash_takes_away_meaning() {
        assert!(matches(r"\*", "*"));
        assert!(!matches(r"\*", "x"));
        assert!(matches(r"[\]]", "]"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(Glob::new(b"[a"), Err(BadGlob::OpenBracket));
        assert_eq!(Glob::new(b"["), Err(BadGlob::OpenBracket));
        assert_eq!(Glob::new(b"[]"), Err(BadGlob::OpenBracket));
        assert_eq!(Glob::new(b"[z-a]"), Err(BadGlob::BadRange));
        assert_eq!(Glob::new(b"a\\"), Err(BadGlob::Backslash));
    }

    #[test]
    fn a_pattern_without_wildcards_is_one_name() {
        assert_eq!(Glob::new(b"a\\*b").unwrap().literal(), Some(b"a*b".to_vec()));
        assert_eq!(Glob::new(b"a\xffb").unwrap().literal(), Some(b"a\xffb".to_vec()));
        assert_eq!(Glob::new(b"a*").unwrap().literal(), None);
    }
}
