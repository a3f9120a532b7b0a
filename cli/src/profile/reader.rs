//! A profile's text as sections and values, with errors that name the line.

use std::fmt::Display;

use anyhow::{Error, Result, anyhow};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::args;

/// Where a profile comes from, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// A file's path, or `profile NAME`.
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The line, counted from 1, of a byte.
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }

    fn error(&self, at: usize, what: impl Display) -> Error {
        anyhow!("{}:{}: {what}", self.name, self.line(at))
    }

    /// What the TOML parser found wrong.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Error {
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        self.error(error.span().map_or(0, |span| span.start), what)
    }
}

/// A table whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    source: Source<'a>,
    title: &'a str,
    table: &'a DeTable<'a>,
}

/// A text in a profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    source: Source<'a>,
    at: usize,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// Where it is written, and what: how messages name a rule.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}: {}", self.source.name, self.source.line(self.at), self.text)
    }

    /// `what` is wrong with it.
    pub(super) fn error(&self, what: impl Display) -> Error {
        self.source.error(self.at, format_args!("`{}`: {what}", self.text))
    }
}

impl<'a> Section<'a> {
    /// # Errors
    /// Names the first key that is not one of `known`, and the one that may have been meant.
    pub(super) fn new(
        source: Source<'a>,
        title: &'a str,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Self> {
        let mut keys = table.keys();
        if let Some(key) = keys.find(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let place = if title.is_empty() { String::new() } else { format!(" in [{title}]") };
            let hint = match nearest(name, known) {
                Some(other) => format!("did you mean `{other}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let what = format!("unknown key `{name}`{place}; {hint}");
            return Err(source.error(key.span().start, what));
        }
        Ok(Self { source, title, table })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: impl Display) -> Error {
        let dot = if self.title.is_empty() { "" } else { "." };
        let what = format!("{}{dot}{key} takes {wanted}", self.title);
        self.source.error(value.span().start, what)
    }

    /// The table of that name in it.
    pub(super) fn section(
        &self,
        key: &str,
        title: &'a str,
        known: &[&str],
    ) -> Result<Option<Section<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong(key, value, "a table"))?;
        Section::new(self.source, title, table, known).map(Some)
    }

    /// Names and texts of a table whose keys are free.
    pub(super) fn pairs(&self, key: &str) -> Result<Vec<(&'a str, &'a str)>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = |value| self.wrong(key, value, "a table of strings");
        let table = value.get_ref().as_table().ok_or_else(|| wrong(value))?;
        let pair = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &std::borrow::Cow<'a, str> = name.get_ref();
            Ok((name.as_ref(), value.get_ref().as_str().ok_or_else(|| wrong(value))?))
        };
        table.iter().map(pair).collect()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<Text<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        self.text_of(value).map(Some).ok_or_else(|| self.wrong(key, value, "a string"))
    }

    fn text_of(&self, value: &'a Spanned<DeValue<'a>>) -> Option<Text<'a>> {
        let text = value.get_ref().as_str()?;
        Some(Text { source: self.source, at: value.span().start, text })
    }

    /// One of `words`.
    pub(super) fn word(&self, key: &str, words: &[&str]) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.get_ref().as_str().filter(|text| words.contains(text));
        let wrong = || self.wrong(key, value, format_args!("one of {}", words.join(", ")));
        text.map(Some).ok_or_else(wrong)
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<Text<'a>>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = |value| self.wrong(key, value, "a list of strings");
        let list = value.get_ref().as_array().ok_or_else(|| wrong(value))?;
        list.iter().map(|item| self.text_of(item).ok_or_else(|| wrong(item))).collect()
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.get_ref().as_bool().ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// A whole number, from `least` on.
    pub(super) fn number(&self, key: &str, least: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.wrong(key, value, format_args!("a whole number from {least} on"));
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        number.filter(|&number| number >= least).map(Some).ok_or_else(wrong)
    }

    /// Seconds, perhaps with a fraction.
    pub(super) fn seconds(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Integer(n) => n.as_str().parse().ok().filter(|_| n.radix() == 10),
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
        number.map(Some).ok_or_else(|| self.wrong(key, value, "a number of seconds"))
    }

    /// Bytes: a number, or a text as the options of the command line take it.
    pub(super) fn size(&self, key: &str, least: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(text) = value.get_ref().as_str() else { return self.number(key, least) };
        let bytes = args::amount(text).ok().filter(|&bytes| bytes >= least);
        let wrong = || {
            let least = if least == 0 { "" } else { ", 4M at least" };
            self.wrong(key, value, format_args!("a size, as in \"512M\" or \"2G\"{least}"))
        };
        bytes.map(Some).ok_or_else(wrong)
    }
}

/// The one of `known` that was most likely meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(name, other);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= 1 + name.len() / 4).then_some(best)
}
