//! Reading of single values with their location: ranges, words, and what serde refuses.
//!
//! In: the text of a file and spanned values of it. Out: checked values, or errors with file, line, key, expectation and finding.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Location, SpecError};
use crate::suggest;

/// Text of a file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub file: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub fn location(&self, span: Range<usize>) -> Location {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        Location { file: self.file.clone(), line: before.matches('\n').count() + 1 }
    }

    /// Text of a span on one line, shortened.
    fn excerpt(&self, span: Range<usize>) -> Box<str> {
        let text = self.text.get(span).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        match line.char_indices().nth(60) {
            Some((end, _)) => format!("{}…", &line[..end]).into(),
            None if line.is_empty() => "nothing".into(),
            None => line.into(),
        }
    }

    /// An error at a value.
    pub fn refuse<T>(&self, key: &str, value: &Spanned<T>, expected: impl Into<Box<str>>) -> SpecError {
        SpecError::Value {
            location: self.location(value.span()),
            key: key.to_string(),
            expected: expected.into(),
            found: self.excerpt(value.span()),
            suggestion: None,
        }
    }

    pub fn number(&self, key: &str, value: &Spanned<f64>, least: f64, most: f64) -> Result<f64, SpecError> {
        let number = *value.get_ref();
        if number >= least && number <= most {
            return Ok(number);
        }
        Err(self.refuse(key, value, format!("a number from {least} to {most}")))
    }

    pub fn whole(&self, key: &str, value: &Spanned<i64>, least: usize, most: usize) -> Result<usize, SpecError> {
        usize::try_from(*value.get_ref())
            .ok()
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| self.refuse(key, value, format!("a whole number from {least} to {most}")))
    }

    /// The meaning of a word; the first spelling of each is the one shown.
    pub fn word<T: Copy + PartialEq>(
        &self,
        key: &str,
        value: &Spanned<String>,
        known: &[(&str, T)],
    ) -> Result<T, SpecError> {
        let text = value.get_ref().to_ascii_lowercase();
        if let Some((_, meaning)) = known.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let mut shown: Vec<String> = Vec::new();
        for (index, (word, meaning)) in known.iter().enumerate() {
            if !known[..index].iter().any(|(_, earlier)| earlier == meaning) {
                shown.push(format!("\"{word}\""));
            }
        }
        let suggestion =
            suggest::nearest(&text, known.iter().map(|(word, _)| *word)).first().map(|word| (*word).into());
        Err(SpecError::Value {
            location: self.location(value.span()),
            key: key.to_string(),
            expected: shown.join(" or ").into(),
            found: self.excerpt(value.span()),
            suggestion,
        })
    }

    /// What serde or the TOML parser refuses, in terms of the schema.
    pub fn translate(&self, error: &toml::de::Error) -> SpecError {
        let span = error.span().unwrap_or(0..0);
        let location = self.location(span.clone());
        let message = error.message();
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let mut quoted = rest.split('`').step_by(2);
            let key = quoted.next().unwrap_or_default().to_string();
            let known: Vec<&str> = quoted.filter(|word| !word.is_empty()).collect();
            let suggestion = suggest::nearest(&key, known.iter().copied()).first().map(|word| (*word).into());
            let known = known.join(", ").into();
            return SpecError::UnknownKey { location, key, known, suggestion };
        }
        let expected = message.rsplit_once("expected ").map(|(_, expected)| expected);
        let wrong_type = message.starts_with("invalid type") || message.starts_with("a whole number or a list");
        match self.key_at(span.start) {
            Some(key) if wrong_type => SpecError::Value {
                location,
                key,
                expected: in_words(expected.unwrap_or(message)).into(),
                found: self.excerpt(span),
                suggestion: None,
            },
            _ => SpecError::Syntax { location, message: message.trim().replace('\n', "; ").into() },
        }
    }

    /// Path of the key or value at a position.
    fn key_at(&self, position: usize) -> Option<String> {
        let table = DeTable::parse(&self.text).ok()?;
        in_table(table.get_ref(), position, "")
    }
}

fn in_table(table: &DeTable<'_>, position: usize, path: &str) -> Option<String> {
    let dot = if path.is_empty() { "" } else { "." };
    table.iter().find_map(|(key, value)| {
        let path = format!("{path}{dot}{}", key.get_ref());
        if key.span().contains(&position) { Some(path) } else { in_value(value, position, path) }
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, position: usize, path: String) -> Option<String> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => in_table(table, position, &path),
        DeValue::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| in_value(item, position, format!("{path}[{i}]")))
        }
        _ => None,
    };
    inner.or_else(|| value.span().contains(&position).then_some(path))
}

/// The name of a Rust type, as a designer would say it.
fn in_words(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        "i64" => "a whole number",
        "a string" => "a string in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}
